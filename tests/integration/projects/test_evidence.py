"""The evidence on the digits: its statistics, and shortened runs."""

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch

from projects.digits import evidence, runs
from projects.digits.tables import (
    ALL,
    Score,
    check_claim,
    make_page,
    read_scores,
    write_scores,
)
from repfusion_mm.cli import load_config, make_parser
from repfusion_mm.registry import MODELS
from tests.helpers.launcher import ROOT, run_main

TITLES = {name: method.title for name, method in evidence.METHODS.items()}
TITLES.update(evidence.REMOVED)
PROJECT = ROOT / 'projects/digits'
#: Methods that the default lane trains; the options of all are checked.
FAST = ('learned', 'fixed_same_draws', 'fixed_probe')


@pytest.mark.parametrize(
    ('gain', 'margin', 'verdict'),
    [
        (0.05, 0.0, 'yes: +5.0'),
        (0.0, 0.0, 'open: +0.0'),
        (-0.05, 0.0, '**no**: -5.0'),
        (-0.005, -0.01, 'open: -0.5'),
        (0.005, -0.01, 'yes: +0.5'),
        (-0.03, -0.01, '**no**: -3.0'),
    ],
)
def test_claims_are_checked_seed_by_seed(gain, margin, verdict):
    """Seeds may differ by more than the methods do."""
    other = np.linspace(0.5, 0.9, 10)
    # Seed 10 has only one of the methods.
    ours = [*(other + gain + 0.01 * (-1.0) ** np.arange(10)), 0.0]
    cells = {
        ('a', 0, 20): dict(enumerate(ours)),
        ('b', 0, 20): dict(enumerate(other)),
    }
    assert check_claim(cells, 'a', 'b', margin, 0, 20).startswith(verdict)


def make_scores(methods, num_seeds=3):
    return [
        Score(method, n, 0, seed, 0.5 + 0.1 * i + 0.01 * seed, 250.0 if i else
              None)
        for i, method in enumerate(methods)
        for n in (20, ALL)
        for seed in range(num_seeds)
    ]  # fmt: skip


def test_page_shows_means_and_missing_seeds():
    scores = [*make_scores(['scratch', 'learned']), *make_scores(['rkd'], 2)]
    page = make_page(scores, TITLES)
    assert '| from scratch | 51.0 ± 2.5 | 51.0 ± 2.5 |' in page
    assert '| learned t > from scratch | yes: +10.0 ± 0.0 |' in page
    assert '| t = 250, RKD | 50.5 ± 6.4 (2 seeds) |' in page
    assert '| learned t (RepFusion) | 250 | 250 |' in page
    for missing in ('uniform', 'nan'):
        assert missing not in page


@pytest.mark.parametrize(
    'name', ['scores.csv', 'scores_earlier.csv', 'scores_latent.csv']
)
def test_page_of_the_project_shows_its_scores(name):
    """Written by: python -m projects.digits.evidence --csv scores.csv"""
    page = make_page(read_scores(PROJECT / name), TITLES)
    assert page in (PROJECT / 'README.md').read_text()


def test_scores_are_read_back(tmp_path):
    scores = make_scores(['scratch', 'learned'])
    write_scores(tmp_path / 'scores.csv', scores[::-1])
    assert read_scores(tmp_path / 'scores.csv') == sorted(
        scores, key=lambda score: score[:4]
    )


@pytest.fixture
def study(digits, tmp_path, monkeypatch):
    """A study whose probe ran in an earlier call."""
    monkeypatch.chdir(digits)
    (tmp_path / 'best.json').write_text(json.dumps({20: 300, ALL: 500}))
    study = evidence.Study(tmp_path, [20, ALL], [0])
    study.probe()
    return study


@pytest.mark.parametrize('name', evidence.SHIPPED)
def test_options_of_every_method_build_a_model(study, name):
    options = evidence.METHODS[name].options
    if options is not None:
        argv = [str(runs.DISTILL), '--cfg-options', *options]
        argv += [f'model.teacher.pretrained={runs.TEACHER}']
        if evidence.METHODS[name].probed:
            argv += ['model.policy.timestep=300']
        cfg = load_config(make_parser('').parse_args(argv))
        assert MODELS.build(cfg.model).teacher is not None


@pytest.fixture
def short_runs(monkeypatch):
    """Shorten distillations and finetunings to two iterations."""
    build_runner = runs.build_runner

    def build_short_runner(argv):
        options = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
        if 'finetune' not in argv[0]:
            options = [
                'train_cfg.max_epochs=1',
                'train_dataloader.batch_size=4',
                'train_dataloader.sampler.num_samples=8',
            ]
        return build_runner([*argv, *options])

    monkeypatch.setattr(runs, 'build_runner', build_short_runner)


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
        for name in evidence.SHIPPED
    ],
)
def test_method_is_distilled_and_scored(study, short_runs, name):
    study.write_labels(seed=0)
    # An earlier call was killed after its first checkpoint.
    unfinished = study.out / 'distill' / 'learned_0_20.part'
    unfinished.mkdir(parents=True)
    (unfinished / 'student.pth').touch()
    (score,) = study.score(name, 0, [(20, 0)])
    assert score[:4] == (name, 20, 0, 0)
    assert 0 < score.accuracy < 1
    students = [
        path
        for path in study.out.glob('distill/*/student.pth')
        if path.parent != unfinished
    ]
    method = evidence.METHODS[name]
    assert len(students) == (method.options is not None)
    for student in students:
        assert student.stat().st_size > 0
        is_own = student.parent.name.startswith(f'{name}_0_20')
        assert is_own == method.reads_labels


@pytest.mark.slow
def test_latent_teacher_is_trained_and_distilled(study, short_runs):
    """The configs find what the ones before them have written."""
    small = [
        'train_dataloader.batch_size=4',
        'train_dataloader.dataset.datasets.0.indices=8',
        'train_cfg.max_epochs=1',
    ]
    for name, options in (
        ('autoencoder_digits', []),
        ('ddpm_latent_digits', ['custom_hooks.1.num_steps=2']),
    ):
        run_main(
            'tools/train.py', ROOT / f'configs/teacher/{name}.py',
            '--cfg-options', *small, *options,
        )  # fmt: skip
    teacher = Path('work_dirs/ddpm_latent_digits/teacher')
    index = json.loads((teacher / 'model_index.json').read_text())
    assert index['_class_name'] == 'LDMPipeline'
    assert list(teacher.parent.rglob('samples_2.png'))
    study.write_labels(seed=0)
    (score,) = study.score('latent', 0, [(20, 0)])
    assert 0 < score.accuracy < 1
    log = next(study.out.glob('distill/latent_0_20/*/*.log')).read_text()
    assert 'images encoded by' in log


def test_each_seed_has_its_own_labels(study):
    for seed in (0, 1):
        study.write_labels(seed)
    first, second = (study.labels(20, i).read_text().split() for i in (0, 1))
    assert first != second
    assert sorted(first[1::2]) == sorted(2 * '0123456789')
    assert study.labels(ALL, 0) == study.labels(ALL, 1)
    assert study.best == {20: 300, ALL: 500}


def test_workers_use_one_thread(tmp_path):
    """Scores must not depend on --workers, nor on the processor's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            evidence.start_worker(tmp_path)
            sys.stdout.close()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_labels_that_cannot_be_balanced_are_refused(study):
    study.budgets = [25]
    with pytest.raises(ValueError, match='multiples of 10'):
        study.write_labels(seed=0)


def test_tables_of_an_earlier_study_are_written_again(tmp_path):
    result = run_main(
        evidence, '--csv', PROJECT / 'scores_earlier.csv', '--out', tmp_path
    )
    assert '| t = 999 | 72.1 ± 4.3 | 87.9 ± 0.6 |' in result.output
