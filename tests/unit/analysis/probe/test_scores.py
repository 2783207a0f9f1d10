import pytest

from repfusion_mm.analysis.probe.scores import (
    Score,
    find_good_range,
    mean_curves,
    read_best,
    read_scores,
    recommend,
    write_scores,
)


def test_written_scores_are_read(tmp_path):
    path = tmp_path / 'probe.csv'
    assert read_scores(path) == []
    scores = [Score('clean', 'mid_block', 300, 50, i, 0.5) for i in range(2)]
    write_scores(path, scores)
    with path.open('a') as file:
        file.write('clean,mid_bl')
    assert read_scores(path) == scores


@pytest.mark.parametrize(
    'text', ['', 'a,b\n', 'mode,layer,1,50,0,0.5\n', 'input_mode,layer\n']
)
def test_other_tables_are_refused(tmp_path, text):
    (tmp_path / 'probe.csv').write_text(text)
    with pytest.raises(ValueError, match=r'probe\.csv, got something else'):
        read_scores(tmp_path / 'probe.csv')


def curve(*means, error=0.02):
    return {100 * i: (mean, error) for i, mean in enumerate(means)}


def test_the_good_range_is_within_a_standard_error_of_the_best():
    assert find_good_range(curve(0.5, 0.79, 0.8, 0.785, 0.7, 0.79)) == (
        200, 100, 300,
    )  # fmt: skip
    assert find_good_range(curve(0.9)) == (0, 0, 0)


def test_the_standard_error_of_a_single_score_is_zero():
    scores = [Score('clean', 'mid', t, 50, 0, 1.0) for t in (0, 300)]
    scores.append(Score('clean', 'mid', 300, 50, 1, 3.0))
    (points,) = mean_curves(scores).values()
    assert points == {0: (1, 0), 300: (2, pytest.approx(1))}


def test_the_recommendation_can_be_pasted_into_a_config():
    scores = [
        Score(mode, layer, t, 50, i, base + 0.01 * i - abs(t - 300) / 1e4)
        for mode, layer, base in (
            ('clean', 'mid', 0.8),
            ('noised', 'mid', 0.6),
            ('clean', 'low', 0.7),
        )
        for t in (0, 300, 999)
        for i in range(3)
    ]
    text = recommend(scores, 'accuracy')
    assert 'at t = 300, layer mid, clean input' in text
    policy = eval(text.splitlines()[1].strip().replace('policy=', '', 1))
    assert policy['low'] == policy['high'] == 300
    assert text.splitlines()[2].strip() == "teacher=dict(input_mode='clean')"
    clean = recommend(scores[:9], 'accuracy')
    assert 'teacher=' not in clean


def test_the_best_curve_is_that_of_the_fewest_labels(tmp_path):
    path = tmp_path / 'probe.csv'
    assert read_best(path) is None
    scores = [
        Score('clean', layer, 300, n, 0, score)
        for layer, n, score in (
            ('mid', 20, 0.7), ('up', 20, 0.6), ('up', 50, 0.9),
        )
    ]  # fmt: skip
    write_scores(path, scores)
    means, label = read_best(path)
    assert means == {300: 0.7}
    assert label == 'linear probe\n20 labels, clean\nmid'
