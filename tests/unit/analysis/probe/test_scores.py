import pytest

from repfusion_mm.analysis.probe.scores import Score, read_scores, write_scores


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
