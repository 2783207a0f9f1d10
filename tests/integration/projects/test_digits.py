"""The data, the configs and the results of the demo."""

import contextlib
import io
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from projects.digits import demo, prepare_data, raw_pixels, results, runs
from projects.study import runs as study_runs
from tests.helpers.launcher import ROOT, run_main

FINETUNE = ROOT / 'configs/finetune/mmpretrain/resnet18-repfusion_digits.py'


@pytest.fixture
def data(digits):
    return digits / 'data/digits'


def read_lines(path):
    return path.read_text().splitlines()


def test_prepare_data_writes_disjoint_splits(data):
    images = {}
    for split, count in (('train', 1297), ('test', 500)):
        names = [line.split()[0] for line in read_lines(data / f'{split}.txt')]
        files = {path.name: path for path in (data / split).iterdir()}
        assert len(names) == count
        assert files.keys() == set(names)
        images[split] = {path.read_bytes() for path in files.values()}
    assert not images['train'] & images['test']


def test_images_are_interpolated_linearly(data):
    """The shipped denoiser was trained on such images."""
    image = cv2.imread(str(data / 'train/00000.png'))
    assert image.shape == (16, 16, 3)
    order = np.random.default_rng(0).permutation(1797)
    original = torch.tensor(load_digits().images[order[500]]) * (255 / 16)
    expected = F.interpolate(
        original.floor()[None, None], scale_factor=2, mode='bilinear'
    )[0, 0]
    for channel in torch.tensor(image).unbind(-1):
        torch.testing.assert_close(channel.double(), expected, rtol=0, atol=1)


def test_lists_of_labels_are_balanced_and_nested(data):
    previous = set()
    for budget in (20, 50, 100):
        chosen = read_lines(data / f'train_{budget}.txt')
        labels = [int(line.split()[1]) for line in chosen]
        assert np.bincount(labels).tolist() == [budget // 10] * 10
        assert previous < set(chosen) < set(read_lines(data / 'train.txt'))
        previous = set(chosen)


def test_prepare_data_reports_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'out').touch()
    result = run_main(
        'projects/digits/prepare_data.py', '--out', tmp_path / 'out', expect=1
    )
    assert str(tmp_path / 'out') in result.last_line


def test_files_are_complete_while_they_are_written_again(tmp_path):
    """Another process may be reading them."""
    prepare_data.write_digits(tmp_path)
    files = sorted(path for path in tmp_path.rglob('*') if path.is_file())
    before = [path.read_bytes() for path in files]
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(path.open('rb')) for path in files[:50]]
        prepare_data.write_digits(tmp_path)
        assert [file.read() for file in opened] == before[:50]
        for file, path in zip(opened, files):  # replaced, not overwritten
            assert os.fstat(file.fileno()).st_ino != path.stat().st_ino
    assert [path.read_bytes() for path in files] == before
    assert sorted(p for p in tmp_path.rglob('*') if p.is_file()) == files


def finetune(digits, student, tmp_path, *options, expect=0):
    return run_main(
        'tools/train.py', FINETUNE, '--work-dir', tmp_path, '--cfg-options',
        f'model.backbone.init_cfg.checkpoint={student}',
        'model.backbone.base_channels=8', 'model.backbone.stem_channels=8',
        'model.head.in_channels=64',
        'train_cfg.max_iters=2', 'train_cfg.val_interval=2', *options,
        cwd=digits, expect=expect,
    )  # fmt: skip


def test_students_are_not_finetuned_with_other_pixels(
    digits, student, tmp_path
):
    pixels = [
        'data_preprocessor.mean=[0,0,0]', 'data_preprocessor.std=[1,1,1]',
        'data_preprocessor.to_rgb=False',
    ]  # fmt: skip
    result = finetune(digits, student, tmp_path, *pixels, expect=1)
    assert 'set in data_preprocessor mean=[' in result.last_line
    assert 'and to_rgb=True' in result.last_line
    assert 'Iter(train)' not in result.output


def test_the_demo_probes_again_after_another_teacher(
    digits, tmp_path, monkeypatch
):
    """Features of an earlier demo would be refused."""
    monkeypatch.chdir(digits)
    copy = shutil.copytree(runs.TEACHER, tmp_path / 'teacher')
    first, second = (
        demo.probe(tmp_path, [300], teacher)
        for teacher in (copy, runs.TEACHER)
    )
    assert first == second
    assert first['300']['accuracy'] > 0.7


def test_distilled_student_is_finetuned(digits, student, tmp_path):
    output = finetune(digits, student, tmp_path).output
    assert 'loaded 120/120 tensors of ResNet_CIFAR' in output
    assert 'accuracy/top1' in output


def test_teacher_config_trains_exports_and_draws(digits, tmp_path):
    small = tmp_path / 'small/train'
    small.mkdir(parents=True)
    for i in range(8):
        shutil.copy(digits / f'data/digits/train/{i:05d}.png', small)
    run_main(
        'tools/train.py', ROOT / 'configs/teacher/ddpm_digits.py',
        '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=8',
        f'train_dataloader.dataset.datasets.0.data_root={small.parent}',
        'custom_hooks.1.num_images=4', 'custom_hooks.1.num_steps=2',
    )  # fmt: skip
    assert {path.name for path in (tmp_path / 'teacher').iterdir()} == {
        'config.json',
        'diffusion_pytorch_model.safetensors',
        'scheduler_config.json',
        'training.json',
    }
    assert list(tmp_path.rglob('samples_1.png'))


RESULTS = dict(
    labels={
        '20': dict(scratch=[0.5, 0.6], repfusion=[0.8, 0.9]),
        '50': dict(scratch=[0.7, 0.7], repfusion=[0.9, 0.9]),
    },
    pixels={'20': 0.6, '50': 0.75},
    probe={
        t: dict(r2=r2, r2_error=0.1, accuracy=0.5)
        for t, r2 in (('0', 0.8), ('300', 0.9), ('500', 0.95), ('999', 0.7))
    },
    policy=dict(timestep_mean=300.0, timestep_std=10.0),
)


def test_raw_pixels_classify_digits(data, monkeypatch):
    """As well as projects/digits/README.md says."""
    monkeypatch.setattr(runs, 'DATA', data)
    for budget, accuracy in ((20, 0.768), (100, 0.890)):
        found = raw_pixels.score(data / f'train_{budget}.txt')
        assert found == pytest.approx(accuracy, abs=0.004)


def test_results_are_printed_as_a_table():
    _, head, *rows, summary = results.format_results(RESULTS).splitlines()
    assert rows == [
        '    20   0.600  0.550 (0.500 - 0.600)  0.850 (0.800 - 0.900)  +0.300',
        '    50   0.750  0.700 (0.700 - 0.700)  0.900 (0.900 - 0.900)  +0.200',
    ]
    assert len(head) == len(rows[0])
    assert summary == (
        'policy with 50 labels: t = 300.0 +- 10.0, R² of the linear probe '
        'there 0.900; best: 0.950 at t = 500'
    )


def test_results_are_drawn(tmp_path):
    record = dict(timesteps=[0, 300, 999], probabilities=[0.1, 0.8, 0.1])
    results.plot_results(RESULTS, record, tmp_path / 'results.png')
    image = cv2.imread(str(tmp_path / 'results.png'))
    assert image.shape[1] == 1350
    assert image.std() > 10


def test_each_step_prints_a_line_with_the_time_when_it_ends(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(demo.time, 'time', lambda: now)
    out = io.StringIO()
    steps = demo.Demo(None, out)
    with ThreadPoolExecutor(1) as pool:
        for title in ('distilled with 20 labels', 'distilled with 50 labels'):
            now += 21.5
            assert steps.submit(pool, title, int, '7').result() == 7
            steps.submit(pool, title, int, 'seven').exception()  # not printed
    assert out.getvalue() == (
        '  21.5 s  distilled with 20 labels\n'
        '  43.0 s  distilled with 50 labels\n'
    )


def test_runs_that_start_in_one_second_have_their_own_names(monkeypatch):
    """Otherwise mmengine writes the logs of both into one work directory."""
    names = []

    def record(argv):
        first = argv.index('--cfg-options') + 1
        names.append(argv[first : first + 2])
        return SimpleNamespace(train=lambda: None)

    monkeypatch.setattr(study_runs, 'build_runner', record)
    for folder in ('finetune_0', 'finetune_1'):
        study_runs.train(runs.DISTILL, Path('work_dirs', folder))
    assert names == [
        [f'{key}=work_dirs_finetune_{i}'
         for key in ('experiment_name', 'visualizer.name')]
        for i in (0, 1)
    ]  # fmt: skip
