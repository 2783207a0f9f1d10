"""Probes of the real digits and of miniature faces."""

import shutil

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from repfusion_mm.analysis.probe import prober, read_best
from repfusion_mm.analysis.probe.prober import save
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.miniature import options_for
from tests.helpers.toy import LAYER, save_teacher

SCRIPT = 'tools/analysis_tools/probe_timesteps.py'
DIGITS = ROOT / 'configs/distill/repfusion_resnet18_digits.py'


TEACHER = ROOT / 'projects/digits/ddpm_digits'


def probe(digits, out, *flags, teacher=TEACHER, options=(), expect=0):
    return run_main(
        SCRIPT, DIGITS, '--out', out, *flags, '--cfg-options',
        f'probe_dataset.data_root={digits}/data/digits',
        f'model.teacher.pretrained={teacher}', *options,
        expect=expect,
    )  # fmt: skip


def test_the_probe_finds_good_timesteps(digits, tmp_path):
    done = probe(
        digits, tmp_path, '--timesteps', '300', '999', '--max-images', '200'
    )
    scores, label = read_best(tmp_path / 'probe.csv')
    assert label == 'linear probe\nclean\nmid_block.resnets.1.conv2'
    assert 0.86 < scores[300] < 0.97
    assert scores[300] - scores[999] > 0.03
    text = (tmp_path / 'probe.txt').read_text()
    first, rest = text.split('\n', 1)
    assert first == '200 labeled images (there are more, see --max-images)'
    assert rest in done.output and first in done.output
    assert 'at t = 300, layer mid_block.resnets.1.conv2, clean input' in text
    assert 'no image: accuracy 0.1' in text
    assert 'distinguishable from it (R² within one standard error): ' in text
    assert 'timestep=300,' in text
    assert cv2.imread(str(tmp_path / 'probe.png')).std() > 0


def test_of_permuted_labels_it_prints_no_lines(digits, tmp_path):
    lines = (digits / 'data/digits/train_100.txt').read_text().splitlines()
    names, labels = zip(*(line.split() for line in lines))
    labels = np.random.default_rng(0).permutation(labels)
    permuted = tmp_path / 'permuted.txt'
    permuted.write_text('\n'.join(map(' '.join, zip(names, labels))))
    done = probe(
        digits, tmp_path, '--timesteps', '0', '300',
        options=[f'probe_dataset.ann_file={permuted}'],
    )  # fmt: skip
    text = (tmp_path / 'probe.txt').read_text()
    assert 'The teacher says nothing about these labels' in done.output
    assert text.startswith('100 labeled images\nbest: accuracy 0.')
    for words in (
        'FixedTimestepPolicy',
        'To distill',
        'distinguishable from it (R²',
    ):
        assert words not in done.output


@pytest.mark.parametrize('excess', [-1, 0, 1])
def test_it_tells_whether_there_are_more_images(
    digits, teacher_folder, tmp_path, excess
):
    """50 are labeled, in batches of 25."""
    done = probe(
        digits, tmp_path, '--max-images', 50 + excess, '--timesteps', '0',
        teacher=teacher_folder,
        options=['probe_dataset.ann_file=train_50.txt',
                 'train_dataloader.batch_size=25'],
    )  # fmt: skip
    assert f'{min(50, 50 + excess)} labeled images' in done.output
    assert ('there are more' in done.output) == (excess < 0)


def test_a_batch_that_is_used_completely_need_not_be_the_last(
    digits, teacher_folder, tmp_path
):
    done = probe(
        digits, tmp_path, '--max-images', '50', '--timesteps', '0',
        teacher=teacher_folder, options=['train_dataloader.batch_size=25'],
    )  # fmt: skip
    assert '50 labeled images (there are more' in done.output


def test_an_interrupted_probe_resumes(
    digits, teacher_folder, tmp_path, monkeypatch
):
    flags = ['--max-images', '60']
    layers = 'model.teacher.layers=["down_blocks.0.resnets.0", "{}"]'
    toy = dict(
        teacher=teacher_folder,
        options=[layers.format(LAYER), 'model.student_indices=[-1,-1]'],
    )
    probe(digits, tmp_path, '--timesteps', '0', *flags, **toy)
    table = tmp_path / 'probe.csv'
    first = table.read_text().splitlines()
    calls = []
    monkeypatch.setattr(
        prober, 'save',
        lambda feats, path: calls.append(path.stem) or save(feats, path),
    )  # fmt: skip
    probe(
        digits, tmp_path, '--timesteps', '0', '300',
        '--input-modes', 'clean', 'noised', *flags, **toy,
    )  # fmt: skip
    assert calls == ['clean_300', 'noised_0', 'noised_300']
    lines = table.read_text().splitlines()
    # Two layers, modes and timesteps. Classes share a fit to all timesteps.
    assert len(lines) == 9
    assert [line.split(',')[:3] for line in lines[:2]] == [
        line.split(',')[:3] for line in first[:2]
    ]
    assert {tuple(line.split(',')[3:]) for line in lines[1:5]}.isdisjoint(
        tuple(line.split(',')[3:]) for line in lines[5:]
    )
    assert not list(tmp_path.rglob('*.tmp'))
    probe(digits, tmp_path, '--timesteps', '0', *flags, **toy)
    assert len(calls) == 3
    assert table.read_text().splitlines() == first
    done = probe(
        digits, tmp_path, '--timesteps', '0', '--max-images', '61', expect=1,
        **toy,
    )  # fmt: skip
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


def test_features_of_replaced_weights_are_refused(
    digits, teacher_folder, tmp_path
):
    flags = ['--max-images', '60', '--timesteps', '0']
    teacher = shutil.copytree(teacher_folder, tmp_path / 'teacher')
    probe(digits, tmp_path / 'out', *flags, teacher=teacher)
    file = next(teacher.glob('*.safetensors'))
    weights = {name: value * 1.5 for name, value in load_file(file).items()}
    save_file(weights, file)
    done = probe(digits, tmp_path / 'out', *flags, teacher=teacher, expect=1)
    assert 'the same teacher, files and images' in done.last_line
    assert 'hashes.model.teacher' in done.last_line


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
        SCRIPT, config, '--timesteps', '0', '500', '--out', tmp_path,
        '--cfg-options', *options, cwd=site,
    )  # fmt: skip
    text = (tmp_path / 'probe.txt').read_text()
    assert text.count(f'{metric}') >= 3
    scores, _ = read_best(tmp_path / 'probe.csv')
    assert list(scores) == [0, 500]
    for score in scores.values():
        assert 0 <= score <= 1 if metric == 'mean IoU' else score < 0
        assert np.isfinite(score)


def test_unlabeled_images_are_refused(site):
    config = ROOT / 'configs/distill/repfusion_resnet18_celebahq.py'
    options = [f'{k}={v}' for k, v in options_for(config).items()]
    done = run_main(
        SCRIPT, config, '--cfg-options', *options, cwd=site, expect=1
    )
    assert 'got 0; give labels to' in done.last_line


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--timesteps', '1000'], 'timesteps in [0, 999], the schedule'),
        (['--max-images', '2'], '3 labeled images or more, got 2'),
        (['--max-images', '8'], 'two labeled images or more of each class'),
    ],
)
def test_impossible_probes_are_refused(
    digits, teacher_folder, tmp_path, flags, message
):
    out, toy = tmp_path / 'out', dict(teacher=teacher_folder)
    done = probe(digits, out, *flags, expect=1, **toy)
    assert message in done.last_line
    assert not (tmp_path / 'out').exists()


def test_a_list_that_repeats_its_images_is_refused(
    digits, teacher_folder, tmp_path
):
    """Images would be predicted by a fit to themselves."""
    lines = (digits / 'data/digits/train_100.txt').read_text()
    (tmp_path / 'twice.txt').write_text(2 * lines)
    done = probe(
        digits, tmp_path / 'out', expect=1, teacher=teacher_folder,
        options=[f'probe_dataset.ann_file={tmp_path}/twice.txt'],
    )  # fmt: skip
    assert 'each labeled image once in the dataset' in done.last_line
    assert done.last_line.split(' twice; remove')[0].endswith('.png')


@pytest.mark.parametrize('batch_size', [1, 4])
def test_images_of_several_sizes_are_resized_and_never_padded(
    teacher_folder, tmp_path, batch_size
):
    labels = []
    for i in range(12):
        pixels = np.full((16 + i % 3, 16, 3), 120, dtype=np.uint8)
        pixels[..., i % 2] += 100
        cv2.imwrite(str(tmp_path / f'{i}.png'), pixels)
        labels.append(f'{i}.png {i % 2}\n')
    (tmp_path / 'labels.txt').write_text(''.join(labels))
    is_refused = batch_size > 1
    done = run_main(
        SCRIPT, DIGITS, '--out', tmp_path / 'out', '--timesteps', '0',
        '--cfg-options', f'probe_dataset.data_root={tmp_path}',
        'probe_dataset.data_prefix=', 'probe_dataset.ann_file=labels.txt',
        f'model.teacher.pretrained={teacher_folder}',
        'model.teacher.input_size=16',
        f'train_dataloader.batch_size={batch_size}',
        'train_dataloader.num_batch_per_epoch=1',  # of a training only
        expect=int(is_refused),
    )  # fmt: skip
    if is_refused:
        assert 'resize them in the pipeline' in done.last_line
    else:
        assert 'raw pixels: accuracy 1.000' in done.output


def test_a_config_without_a_teacher_is_refused():
    config = ROOT / 'configs/finetune/mmpretrain/resnet18-scratch_digits.py'
    done = run_main(SCRIPT, config, expect=1)
    assert 'config of a distillation' in done.last_line
