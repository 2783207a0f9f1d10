"""Miniatures of the studies, from the layouts of their archives."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from projects.camvid.study import CamvidStudy
from projects.cifar10 import own_images
from projects.cifar10.study import Cifar10Study
from projects.digits import study as digits_study
from projects.faces.study import FacesStudy
from projects.study.scores import ALL, Score, read_scores, write_scores
from repfusion_mm.own_images import job
from tests.helpers import layouts
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.studies import check_methods, enter, shorten_runs


def save_cifar10():
    layouts.save_cifar10_images(Path.cwd() / 'data/cifar10_images')
    run_main('tools/dataset_converters/cifar10_images.py')


def save_camvid():
    layouts.save_camvid(Path.cwd() / 'data/CamVid', num_images=12, block=40)
    run_main(
        'tools/dataset_converters/camvid.py', 'data/CamVid', '--out',
        'data/camvid_128', '--width', 128,
    )  # fmt: skip
    (Path.cwd() / 'data/camvid').symlink_to('camvid_128')


def save_faces():
    """Write as many faces of more persons."""
    root = Path.cwd() / 'data/P1_Facial_Keypoints/data'
    layouts.save_facial_keypoints(root)
    table = root / 'training_frames_keypoints.csv'
    header, row, *_ = table.read_text().splitlines()
    points = row.partition(',')[2]
    names = [f'Person_{i:02d}_{j}0.jpg' for i in range(8) for j in range(2)]
    for name in names:
        shutil.copy(
            root / 'training/Ada_Byron_00.jpg', root / 'training' / name
        )
    table.write_text('\n'.join([header, *(f'{n},{points}' for n in names)]))
    run_main('tools/dataset_converters/facial_keypoints.py')


@pytest.mark.parametrize(
    ('kind', 'save', 'num_labels'),
    [
        (Cifar10Study, save_cifar10, 20),
        (CamvidStudy, save_camvid, 6),
        (FacesStudy, save_faces, 6),
    ],
)
def test_all_methods_are_scored(kind, save, num_labels, tmp_path, monkeypatch):
    monkeypatch.setattr(kind, 'num_iters', {num_labels: 2, ALL: 2})
    shorten_runs(monkeypatch)
    enter(tmp_path, monkeypatch)
    save()
    study = kind(tmp_path / 'out')
    study.prepare()
    scores = check_methods(study, num_labels)
    assert np.isfinite([score.score for score in scores.values()]).all()
    assert study.score('scratch', ALL, 0).score >= 0


@pytest.mark.parametrize('status', [0, 1])
def test_what_the_command_says_is_scored(status, tmp_path, monkeypatch):
    """A teacher or a student of no use leaves training from scratch."""
    monkeypatch.setattr(own_images.OwnImagesStudy, 'num_iters', {20: 2})
    monkeypatch.setattr(job, 'choose_length', lambda num_images: (4, 1))

    def run(args, argv):
        args.ignore_verdict = True  # of the few labels here
        assert job.run(args, argv) == 0
        return status

    monkeypatch.setattr(own_images, 'run', run)
    shorten_runs(monkeypatch)
    enter(tmp_path, monkeypatch)
    save_cifar10()
    monkeypatch.setattr(own_images, 'NUM_IMAGES', 25)
    root = Path('data/cifar10_images')
    for i in range(9):  # more than the labels
        name = f'train/cat/{100 + i}.jpg'
        shutil.copy(root / 'train/cat/0000.jpg', root / name)
        with (root / 'train.txt').open('a') as file:
            file.write(f'{name} 3\n')
    study = own_images.OwnImagesStudy(tmp_path / 'out')
    study.prepare()
    score = study.score('command', 20, 0)
    folder = tmp_path / 'out/images/20_0'
    assert len((folder / 'labels.txt').read_text().splitlines()) == 20
    assert len([*folder.rglob('*.jpg')]) == 25
    assert 0 <= score.score <= 1
    assert (score.timestep is None) == bool(status)


@pytest.mark.parametrize('name', ['cifar10', 'camvid', 'faces'])
def test_teacher_is_trained(name, tmp_path, monkeypatch):
    enter(tmp_path, monkeypatch)
    globals()[f'save_{name}']()
    run_main(
        'tools/train.py', ROOT / f'configs/teacher/ddpm_{name}.py',
        '--cfg-options', 'train_cfg.max_iters=2',
        'param_scheduler.0.end=2', 'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0', 'custom_hooks.1.num_images=4',
        'custom_hooks.1.num_steps=2',
    )  # fmt: skip
    weights = 'diffusion_pytorch_model.safetensors'
    written = tmp_path / f'work_dirs/ddpm_{name}/teacher' / weights
    shipped = ROOT / f'projects/{name}/ddpm_{name}' / weights
    assert written.stat().st_size == shipped.stat().st_size < 6e6


POOL = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from projects.study.command import start_worker
spawn = multiprocessing.get_context('spawn')
pool = ProcessPoolExecutor(1, spawn, start_worker, (Path(sys.argv[1]),))
print(pool.submit(os.getpid).result(), flush=True)
pool.submit(time.sleep, 600).result()
"""


@pytest.mark.skipif(os.name == 'nt', reason='signals of POSIX')
def test_workers_end_with_a_call_that_is_killed(tmp_path):
    """A second call would train in the same folders."""
    command = [sys.executable, '-c', POOL, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        worker = int(process.stdout.readline())
        os.kill(worker, 0)  # it runs
        process.kill()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail('the worker runs after its call was killed')


def test_second_call_adds_the_missing_scores(digits, tmp_path):
    """One score is missing; a worker process trains it."""
    (tmp_path / 'data').symlink_to(digits / 'data')
    out = tmp_path / 'out'
    out.mkdir()
    known = [Score('scratch', 20, seed, 0.5) for seed in (1, 2)]
    write_scores(out / 'scores.csv', known)
    (out / 'settings.json').write_text('{}')
    result = run_main(
        digits_study, '--methods', 'scratch', '--num-labels', '20',
        '--workers', '1', '--out', out, cwd=tmp_path,
    )  # fmt: skip
    assert '1/1: scratch, 20 labels, seed 0: 0.' in result.output
    first, *others = read_scores(out / 'scores.csv')
    assert others == known
    assert (first.seed, first.timestep) == (0, None)
    assert 0.2 < first.score < 1
    assert (out / 'tables.md').read_text() in result.output
    assert (out / 'scores.png').exists()
    (log,) = out.glob('log_*.txt')
    assert 'accuracy/top1' in log.read_text()
