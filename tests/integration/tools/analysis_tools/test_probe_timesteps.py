"""Probes of the real digits and of miniature faces."""

import shutil

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from repfusion_mm.analysis.probe import Prober, read_scores
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.miniature import options_for
from tests.helpers.toy import save_teacher

SCRIPT = 'tools/analysis_tools/probe_timesteps.py'
DIGITS = ROOT / 'configs/distill/repfusion_resnet18_digits.py'


TEACHER = ROOT / 'projects/digits/ddpm_digits'


def probe(digits, out, *flags, teacher=TEACHER, expect=0):
    return run_main(
        SCRIPT, DIGITS, '--out', out, *flags, '--cfg-options',
        f'probe_dataset.data_root={digits}/data/digits',
        f'model.teacher.pretrained={teacher}',
        expect=expect,
    )  # fmt: skip


def test_the_probe_finds_good_timesteps(digits, tmp_path):
    done = probe(
        digits, tmp_path, '--timesteps', '300', '999', '--num-labels', '50'
    )
    scores = read_scores(tmp_path / 'probe.csv')
    means = {
        t: np.mean([s.score for s in scores if s.timestep == t])
        for t in (300, 999)
    }
    assert 0.86 < means[300] < 0.92
    assert means[300] - means[999] > 0.03
    assert '1297 labeled images; features of one timestep' in done.output
    assert 'low=300, high=300' in done.output
    assert (tmp_path / 'probe.txt').read_text() in done.output
    assert cv2.imread(str(tmp_path / 'probe.png')).std() > 0


def test_an_interrupted_probe_resumes(
    digits, teacher_folder, tmp_path, monkeypatch
):
    # Features are kept in a file, which is removed after use.
    monkeypatch.setattr('repfusion_mm.analysis.probe.prober.MAX_BYTES', 100)
    flags = ['--num-splits', '2', '--max-images', '100']
    toy = dict(teacher=teacher_folder)
    probe(digits, tmp_path, '--timesteps', '0', *flags, **toy)
    first = read_scores(tmp_path / 'probe.csv')
    with (tmp_path / 'probe.csv').open('a') as file:
        file.write('clean,mid_bl')  # truncated
    calls = []
    run = Prober.run
    monkeypatch.setattr(
        Prober, 'run', lambda self, t, *a: calls.append(t) or run(self, t, *a)
    )
    probe(
        digits, tmp_path, '--timesteps', '0', '300',
        '--input-modes', 'clean', 'noised', *flags, **toy,
    )  # fmt: skip
    assert calls == [300, 0, 300]
    scores = read_scores(tmp_path / 'probe.csv')
    assert scores[:2] == first
    assert len(scores) == len({s[:5] for s in scores}) == 8
    noised = [s.score for s in scores if s[0] == 'noised' and s[2] == 300]
    clean = [s.score for s in scores if s[0] == 'clean' and s[2] == 300]
    assert noised != clean
    assert not list(tmp_path.glob('.*.features'))
    done = probe(digits, tmp_path, '--timesteps', '0', expect=1, **toy)
    assert 'the same teacher, files and images' in done.last_line
    assert "differ in ['images.labels', 'images.num_images'" in done.last_line


def test_a_teacher_that_is_given_the_label_is_not_probed(digits, tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text(
        f'_base_ = [{str(DIGITS)!r}]\n'
        "model = dict(teacher=dict(class_signal='label'))"
    )
    teacher = save_teacher(tmp_path / 'adm', num_class_embeds=10)
    options = [
        f'model.teacher.pretrained={teacher}',
        'model.teacher.layers=[mid_block.resnets.1.conv2]',
    ]
    done = run_main(
        SCRIPT, config, '--out', tmp_path, '--cfg-options', *options,
        f'probe_dataset.data_root={digits}/data/digits', expect=1,
    )  # fmt: skip
    assert 'model.teacher.class_signal=none' in done.last_line
    run_main(
        'tools/analysis_tools/count_flops.py', config, '--cfg-options',
        *options,
    )  # fmt: skip


def test_scores_of_replaced_weights_are_refused(
    digits, teacher_folder, tmp_path
):
    flags = ['--num-splits', '2', '--max-images', '100', '--timesteps', '0']
    teacher = shutil.copytree(teacher_folder, tmp_path / 'teacher')
    probe(digits, tmp_path / 'out', *flags, teacher=teacher)
    file = next(teacher.glob('*.safetensors'))
    weights = {name: value * 1.5 for name, value in load_file(file).items()}
    save_file(weights, file)
    done = probe(digits, tmp_path / 'out', *flags, teacher=teacher, expect=1)
    assert 'the same teacher, files and images' in done.last_line


@pytest.mark.parametrize(
    ('name', 'metric'),
    [
        ('repfusion_resnet18_celebamask', 'mean IoU'),
        ('repfusion_resnet50_wflw', 'minus NME'),
    ],
)
def test_masks_and_keypoints_are_probed(site, tmp_path, name, metric):
    config = ROOT / f'configs/distill/{name}.py'
    options = [f'{k}={v}' for k, v in options_for(config).items()]
    run_main(
        SCRIPT, config, '--timesteps', '0', '500', '--num-labels', '2',
        '--num-splits', '2', '--out', tmp_path, '--cfg-options', *options,
        cwd=site,
    )  # fmt: skip
    assert metric in (tmp_path / 'probe.txt').read_text()
    scores = read_scores(tmp_path / 'probe.csv')
    assert len(scores) == 4
    if metric == 'mean IoU':
        assert all(0 <= s.score <= 1 for s in scores)
    else:
        assert all(np.isfinite(s.score) and s.score < 0 for s in scores)


def test_unlabeled_images_are_refused(site):
    config = ROOT / 'configs/distill/repfusion_resnet18_celebahq.py'
    options = [f'{k}={v}' for k, v in options_for(config).items()]
    done = run_main(
        SCRIPT, config, '--cfg-options', *options, cwd=site, expect=1
    )
    assert 'got 0; give labels to' in done.last_line
    assert 'lower' not in done.last_line


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--timesteps', '1000'], 'timesteps in [0, 999], the schedule'),
        (['--num-labels', '1297'], 'more than 1297 labeled images'),
        (['--num-labels', '5'], '10 classes, got 5; raise --num-labels'),
    ],
)
def test_impossible_probes_are_refused(
    digits, teacher_folder, tmp_path, flags, message
):
    out, toy = tmp_path / 'out', dict(teacher=teacher_folder)
    done = probe(digits, out, *flags, expect=1, **toy)
    assert message in done.last_line
    assert not (tmp_path / 'out').exists()


def test_numbers_without_a_standard_error_are_refused():
    done = run_main(SCRIPT, DIGITS, '--num-splits', '1', expect=2)
    assert '--num-splits: expected an integer of 2 or more' in done.output


def test_a_config_without_a_teacher_is_refused():
    config = ROOT / 'configs/finetune/mmpretrain/resnet18-scratch_digits.py'
    done = run_main(SCRIPT, config, expect=1)
    assert 'config of a distillation' in done.last_line
