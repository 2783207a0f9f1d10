"""Probes, on the real digits and on miniature faces."""

import cv2
import numpy as np
import plot_policy
import pytest
from probe_report import good_range, recommend, standard_error
from probe_timesteps import main, read_scores
from prober import Prober, Score, allocate

from projects.digits.prepare_data import write_digits
from tests.helpers.launcher import ROOT
from tests.helpers.miniature import options_for

DISTILL = str(ROOT / 'configs/distill/repfusion_r18_digits.py')


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'digits'
    write_digits(folder)
    return folder


def probe(digits, out, *flags):
    main(
        [
            DISTILL, '--out', str(out), *flags, '--cfg-options',
            f'probe_dataset.data_root={digits}',
            f'model.teacher.pretrained={ROOT}/projects/digits/ddpm_digits',
        ]
    )  # fmt: skip
    return read_scores(out / 'probe.csv')


def test_probe_finds_good_timesteps(digits, tmp_path, capsys):
    scores = probe(
        digits, tmp_path, '--timesteps', '300', '999', '--num-labels', '50'
    )
    means = {
        t: np.mean([s.score for s in scores if s.timestep == t])
        for t in (300, 999)
    }
    assert 0.86 < means[300] < 0.92
    assert means[300] - means[999] > 0.03
    output = capsys.readouterr().out
    assert '1297 labelled images; features of one timestep take' in output
    assert 'low=300, high=300' in output
    assert (tmp_path / 'probe.txt').read_text() in output
    assert cv2.imread(str(tmp_path / 'probe.png')).std() > 0


def test_a_probe_goes_on_where_it_was_stopped(digits, tmp_path, monkeypatch):
    flags = ['--num-splits', '2', '--max-images', '300']
    first = probe(digits, tmp_path, '--timesteps', '0', *flags)
    with (tmp_path / 'probe.csv').open('a') as file:
        file.write('clean,mid_bl')  # torn
    calls = []
    run = Prober.run
    monkeypatch.setattr(
        'prober.Prober.run',
        lambda self, t, *a: calls.append(t) or run(self, t, *a),
    )
    scores = probe(
        digits, tmp_path, '--timesteps', '0', '300',
        '--input-modes', 'clean', 'noised', *flags,
    )  # fmt: skip
    assert calls == [300, 0, 300]
    assert scores[:2] == first
    assert len(scores) == len({s[:5] for s in scores}) == 8
    noised = [s.score for s in scores if s[0] == 'noised' and s[2] == 300]
    clean = [s.score for s in scores if s[0] == 'clean' and s[2] == 300]
    assert noised != clean
    with pytest.raises(ValueError, match='the same teacher and images'):
        probe(digits, tmp_path, '--timesteps', '0', '--max-images', '100')


@pytest.mark.parametrize(
    ('name', 'metric'),
    [
        ('repfusion_r18_celebamask', 'mean IoU'),
        ('repfusion_r50_wflw', 'minus NME'),
    ],
)
def test_dense_tasks_are_probed(site, monkeypatch, tmp_path, name, metric):
    monkeypatch.chdir(site)
    config = ROOT / f'configs/distill/{name}.py'
    options = [f'{k}={v}' for k, v in options_for(config).items()]
    main(
        [
            str(config), '--timesteps', '0', '500', '--num-labels', '2',
            '--num-splits', '2', '--out', str(tmp_path),
            '--cfg-options', *options,
        ]
    )  # fmt: skip
    assert metric in (tmp_path / 'probe.txt').read_text()
    scores = read_scores(tmp_path / 'probe.csv')
    assert len(scores) == 4
    if metric == 'mean IoU':
        assert all(0 <= s.score <= 1 for s in scores)
    else:
        assert all(np.isfinite(s.score) and s.score < 0 for s in scores)


def test_unlabelled_images_cannot_be_probed(site, monkeypatch):
    monkeypatch.chdir(site)
    config = ROOT / 'configs/distill/repfusion_r18_celebahq.py'
    options = [f'{k}={v}' for k, v in options_for(config).items()]
    with pytest.raises(ValueError, match='got 0; give labels to'):
        main([str(config), '--cfg-options', *options])


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--timesteps', '1000'], r'timesteps in \[0, 999\], .* got \[1000\]'),
        (['--num-labels', '1297'], 'more than 1297 labelled images'),
    ],
)
def test_bad_probes_are_refused(digits, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        probe(digits, tmp_path / 'out', *flags)
    assert not (tmp_path / 'out').exists()


def test_numbers_that_give_no_spread_are_refused(capsys):
    with pytest.raises(SystemExit):
        main([DISTILL, '--num-splits', '1'])
    assert 'expected --num-splits' in capsys.readouterr().err


def test_a_config_without_a_teacher_is_refused():
    name = 'configs/finetune/mmpretrain/resnet18-scratch_digits.py'
    with pytest.raises(ValueError, match='config of a distillation'):
        main([str(ROOT / name)])


@pytest.mark.parametrize(
    'text', ['a,b\n', 'mode,layer,1,50,0,0.5\n', 'input_mode,layer\n']
)
def test_other_tables_are_no_scores(tmp_path, text):
    (tmp_path / 'probe.csv').write_text(text)
    with pytest.raises(ValueError, match=r'probe\.csv, got something else'):
        read_scores(tmp_path / 'probe.csv')


def curve(*means, error=0.02):
    return {100 * i: (mean, error) for i, mean in enumerate(means)}


def test_range_is_what_is_within_a_standard_error_of_the_best():
    assert good_range(curve(0.5, 0.79, 0.8, 0.785, 0.7, 0.79)) == (
        200, 100, 300,
    )  # fmt: skip
    assert good_range(curve(0.9)) == (0, 0, 0)
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)
    assert standard_error([1.0]) == 0


def test_recommendation_names_the_best_layer_and_can_be_pasted():
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


def test_large_features_go_to_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr('prober.MAX_BYTES', 100)
    assert not isinstance(allocate((5, 5), tmp_path / 'a'), np.memmap)
    large = allocate((6, 5), tmp_path / 'b')
    assert isinstance(large, np.memmap)
    assert (tmp_path / 'b').stat().st_size == 120
    assert not isinstance(allocate((6, 5), None), np.memmap)


def test_policy_is_drawn_again_with_the_probe_beside_it(tmp_path, digits):
    (tmp_path / 'policy.jsonl').write_text(
        '{"iter": 1, "timesteps": [0, 500], "probabilities": [0.5, 0.5]}\n'
        '{"iter": 2, "timesteps": [0, 500], "probabilities": [0.1, 0.9]}\n'
    )
    plot_policy.main([str(tmp_path)])
    bare = cv2.imread(str(tmp_path / 'policy.png'))
    flags = ['--num-splits', '2', '--max-images', '100']
    probe(digits, tmp_path / 'probe', '--timesteps', '0', '500', *flags)
    csv = str(tmp_path / 'probe/probe.csv')
    plot_policy.main([str(tmp_path), '--probe', csv])
    both = cv2.imread(str(tmp_path / 'policy.png'))
    assert (bare != both).any()
    with pytest.raises(FileNotFoundError, match=r'policy\.jsonl'):
        plot_policy.main([str(tmp_path / 'probe')])
    with pytest.raises(SystemExit):
        plot_policy.main([str(tmp_path), '--out', 'policy.pdf'])
    with pytest.raises(ValueError, match=r'nowhere\.csv, got none'):
        plot_policy.main([str(tmp_path), '--probe', 'nowhere.csv'])
