"""What the studies share: scores, tables, resuming, and shortened runs."""

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import cv2
import numpy as np
import pytest
import torch

from projects.camvid.study import CamvidStudy
from projects.cifar10.own_images import OwnImagesStudy
from projects.cifar10.study import Cifar10Study
from projects.digits import ablation, runs, study
from projects.digits.ablation import AblationStudy
from projects.digits.study import DigitsStudy
from projects.faces.study import FacesStudy
from projects.study import command
from projects.study.figure import plot_study
from projects.study.methods import Claim
from projects.study.scores import (
    ALL,
    Cost,
    Score,
    read_costs,
    read_scores,
    write_costs,
    write_scores,
)
from projects.study.tables import check_claim, make_page
from repfusion_mm.cli import make_parser
from repfusion_mm.cli.config import load_config
from repfusion_mm.registry import HOOKS, MODELS
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.studies import check_methods, enter, shorten_runs

STUDIES = (
    DigitsStudy, AblationStudy, Cifar10Study, CamvidStudy, FacesStudy,
)  # fmt: skip
CLAIM = Claim('a > b', 'a', 'b')


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
@pytest.mark.parametrize('is_error', [False, True])
def test_claims_are_checked_seed_by_seed(gain, margin, verdict, is_error):
    """Seeds may differ by more than the methods do."""
    sign = -1 if is_error else 1
    other = np.linspace(0.5, 0.9, 10)
    # Seed 10 has only one of the methods.
    ours = other + sign * (gain + 0.01 * (-1.0) ** np.arange(10))
    cells = {
        ('a', 20): dict(enumerate([*ours, 0.0])),
        ('b', 20): dict(enumerate(other)),
    }
    claim = CLAIM._replace(margin=margin)
    assert check_claim(cells, claim, 20, is_error).startswith(verdict)


def test_claim_about_one_seed_is_not_checked():
    assert not check_claim({('a', 20): {0: 1.0}, ('b', 20): {0: 0.5}}, CLAIM,
                           20, False)  # fmt: skip


def make_scores(methods, num_seeds=3):
    return [
        Score(method, n, seed, 0.5 + 0.1 * i + 0.01 * seed, 250.0 if i else
              None)
        for i, method in enumerate(methods)
        for n in (20, ALL)
        for seed in range(num_seeds)
    ]  # fmt: skip


@pytest.fixture
def digits_study(tmp_path):
    return DigitsStudy(tmp_path)


def test_page_shows_means_missing_seeds_and_costs(digits_study):
    scores = [
        *make_scores(['scratch', 'learned']),
        *make_scores(['rkd'], 2),
        *make_scores(['uniform'], 1),
    ]
    costs = [
        Cost('pretrain', f'learned_{i}', 400, seconds, 'cpu')
        for i, seconds in enumerate((10.0, 20.0, 7170.0))
    ]
    page = make_page(digits_study, scores, costs)
    assert '| accuracy (%) | 20 | all |' in page
    assert '| from scratch | 51.0 ± 2.5 | 51.0 ± 2.5 |' in page
    assert '| learned t > from scratch | yes: +10.0 ± 0.0 |' in page
    assert '| t of the probe, RKD | 50.5 ± 6.4 (2 of 3 seeds) |' in page
    assert '| uniform t | 50.0 (1 of 3 seeds) |' in page
    assert '| learned t | 250 | 250 |' in page
    assert '| pretrain, 400 iterations (cpu) | 3 | 20 | 2.0 |' in page
    for missing in ('t = 999', 'nan'):
        assert missing not in page


def test_scores_of_unknown_methods_are_refused(digits_study):
    with pytest.raises(ValueError, match=r"got \['scrach'\]; remove"):
        make_page(digits_study, make_scores(['scrach']), [])


def test_scores_and_costs_are_read_back_in_order(tmp_path):
    scores = make_scores(['learned', 'scratch'])
    write_scores(tmp_path / 'scores.csv', scores[::-1])
    assert read_scores(tmp_path / 'scores.csv') == scores
    costs = [Cost('finetune', 'a', 200, 1.5, 'cpu'),
             Cost('probe', 'b', 0, 2.0, 'cpu')]  # fmt: skip
    write_costs(tmp_path / 'costs.csv', costs[::-1])
    assert read_costs(tmp_path / 'costs.csv') == costs
    assert read_costs(tmp_path / 'other.csv') == []


def test_file_with_other_columns_is_refused(tmp_path):
    path = tmp_path / 'scores.csv'
    path.write_text('method,num_labels,padding,seed,accuracy,timestep\n')
    with pytest.raises(ValueError, match='expected the columns'):
        read_scores(path)


def test_scores_are_drawn(digits_study, tmp_path):
    scores = make_scores(['scratch', 'learned', 'fixed_best'])
    plot_study(digits_study, scores, tmp_path / 'scores.png')
    image = cv2.imread(str(tmp_path / 'scores.png'))
    assert image.shape[1] == 1500
    assert image.std() > 10


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        (AblationStudy, 'scores_policy.csv'),
        (AblationStudy, 'scores_latent.csv'),
        (OwnImagesStudy, 'scores_own_images.csv'),
        *((kind, 'scores.csv') for kind in STUDIES if kind != AblationStudy),
    ],
)
def test_readme_shows_the_scores_of_the_project(kind, name, tmp_path):
    """Written by: python -m projects.NAME.study --csv scores.csv"""
    path = kind.folder / name
    scores = read_scores(path)
    assert scores
    costs = read_costs(path.with_name(name.replace('scores', 'costs')))
    page = make_page(kind(tmp_path), scores, costs)
    assert page in (kind.folder / 'README.md').read_text()


@pytest.mark.slow
@pytest.mark.parametrize('kind', STUDIES)
def test_options_of_every_method_build_a_model(kind, monkeypatch):
    monkeypatch.chdir(ROOT)
    for name, method in kind.methods.items():
        if method.options is None or method.config:
            continue
        argv = [str(kind.distill_config), '--cfg-options', *method.options]
        if method.timestep not in (None, 'learned'):
            argv += ['model.policy.timestep=300']
        argv += ['model.teacher.type=repfusion_mm.DiffusersTeacher']
        cfg = load_config(make_parser('').parse_args(argv))
        assert MODELS.build(cfg.model).teacher is not None, name


@pytest.fixture
def at_home(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize('kind', STUDIES)
def test_policy_of_the_paper_has_no_entropy_floor(kind, at_home):
    """With our floor, the entropy outweighs rewards that are not scaled."""
    method = kind.methods.get('paper_policy')
    if method is None:
        pytest.skip('the study has no such method')
    argv = [str(kind.distill_config), '--cfg-options', *method.options]
    cfg = load_config(make_parser('').parse_args(argv))
    hook = HOOKS.build(cfg.default_hooks.timestep_policy)
    assert hook.entropy_weight(0.1, progress=0.25) == pytest.approx(0.05)
    assert hook.entropy_weight(0.1, progress=0.5) == 0
    assert not cfg.model.policy.scale_advantage


@pytest.fixture
def short_study(digits, tmp_path, monkeypatch):
    shorten_runs(monkeypatch)
    enter(tmp_path, monkeypatch)
    (tmp_path / 'data').symlink_to(digits / 'data')
    return DigitsStudy(tmp_path / 'out')


@pytest.mark.slow
def test_methods_are_pretrained_probed_and_scored(short_study):
    short_study.methods = {
        name: short_study.methods[name]
        for name in ('scratch', 'fixed_first', 'fixed_last', 'uniform',
                     'fixed_best', 'learned')
    }  # fmt: skip
    # An earlier call was killed after its first checkpoint.
    unfinished = short_study.out / 'pretrain/learned_0_20.part'
    unfinished.mkdir(parents=True)
    (unfinished / 'student.pth').touch()
    scores = check_methods(short_study, 20)
    best = scores['fixed_best'].timestep
    assert sorted(p.name for p in short_study.out.glob('pretrain/[!.]*')) == [
        f'fixed_best_0_t{best}', 'fixed_first_0_t0', 'fixed_last_0_t999',
        'learned_0_20', 'uniform_0',
    ]  # fmt: skip
    assert (short_study.out / 'probe/20_0/probe.csv').exists()


@pytest.mark.slow
def test_other_methods_of_the_digits_are_scored(short_study):
    check_methods(short_study, 20)


@pytest.mark.slow
def test_student_is_pretrained_once_for_several_numbers_of_labels(short_study):
    first = short_study.score('uniform', 20, 0)
    second = short_study.score('uniform', ALL, 0)
    assert (first.num_labels, second.num_labels) == (20, ALL)
    costs = read_costs(short_study.out / 'costs.csv')
    assert [(cost.step, cost.iterations) for cost in costs] == [
        ('finetune', 200), ('finetune', 400), ('pretrain', 2),
    ]  # fmt: skip
    assert {cost.device for cost in costs} == {'cpu'}


def test_each_seed_has_its_own_labels(short_study):
    first, second = (
        short_study.labels(20, seed).read_text().split() for seed in (0, 1)
    )
    assert first != second
    assert sorted(first[1::2]) == sorted(2 * '0123456789')
    assert short_study.labels(ALL, 0) == short_study.labels(ALL, 1)


def test_labels_that_cannot_be_balanced_are_refused(short_study):
    with pytest.raises(ValueError, match='expected 25 labeled images'):
        short_study.labels(25, 0)


def test_frames_and_faces_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(CamvidStudy, 'all_labels', tmp_path / 'train.txt')
    (tmp_path / 'train.txt').write_text('a\nb\nc\nd\n')
    frames = [
        CamvidStudy(tmp_path).labels(2, seed).read_text().split()
        for seed in range(6)
    ]
    assert all(len({*names} & {*'abcd'}) == 2 for names in frames)
    assert len({*map(tuple, frames)}) > 1
    monkeypatch.setattr(FacesStudy, 'all_labels', tmp_path / 'train.json')
    content = dict(
        images=[dict(id=i) for i in range(5)],
        annotations=[dict(id=i, image_id=4 - i) for i in range(5)],
        categories=['face'],
    )
    (tmp_path / 'train.json').write_text(json.dumps(content))
    drawn = json.loads(FacesStudy(tmp_path).labels(3, 0).read_text())
    faces = {face['image_id'] for face in drawn['annotations']}
    assert len(faces) == 3
    assert faces == {image['id'] for image in drawn['images']}
    assert drawn['categories'] == ['face']


def test_workers_use_one_thread(tmp_path):
    """Scores must not depend on --workers, nor on the processor's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            command.start_worker(tmp_path)
            sys.stdout.close()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_missing_scores_are_listed_with_few_labels_first(digits_study):
    write_scores(digits_study.out / 'scores.csv', [Score('scratch', 20, 0, 1)])
    args = command.parse_args(
        DigitsStudy, '', ['--methods', 'scratch', 'rkd', '--seeds', '2',
                          '--num-labels', '20', 'all'],
    )  # fmt: skip
    assert command.list_jobs(digits_study, args) == [
        ('rkd', 20, 0), ('scratch', 20, 1), ('rkd', 20, 1),
        ('scratch', ALL, 0), ('rkd', ALL, 0), ('scratch', ALL, 1),
        ('rkd', ALL, 1),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ('attribute', 'value', 'message'),
    [
        ('device', 'cpu, --amp', r'device \(cpu, now cpu, --amp\)'),
        ('num_iters', {20: 1}, 'another configs'),
        ('methods', {'at': DigitsStudy.methods['at']._replace(options=())},
         'another configs'),
        ('distill_config', DigitsStudy.distill_config.parent /
         'repfusion_resnet18_celebahq.py', 'another configs .*, teachers'),
    ],
)  # fmt: skip
def test_scores_of_other_settings_are_not_mixed(
    digits_study, at_home, attribute, value, message
):
    command.check_settings(digits_study)
    command.check_settings(digits_study)
    setattr(digits_study, attribute, value)
    with pytest.raises(ValueError, match=message):
        command.check_settings(digits_study)


@pytest.mark.slow
def test_scores_of_another_torch_are_not_mixed(
    digits_study, at_home, monkeypatch
):
    command.check_settings(digits_study)
    monkeypatch.setattr(torch, '__version__', '0.1')
    with pytest.raises(ValueError, match=r'another torch \(.*, now 0\.1\)'):
        command.check_settings(digits_study)


def test_second_call_at_the_same_time_is_refused(tmp_path):
    first, second = (command.only_call(tmp_path) for _ in range(2))
    with first, pytest.raises(ValueError, match='got a second one'):
        second.__enter__()
    with command.only_call(tmp_path):
        pass


def test_images_of_another_size_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(CamvidStudy, 'all_labels', tmp_path / 'train.txt')
    (tmp_path / 'train.txt').write_text('a\n')
    (tmp_path / 'images/train').mkdir(parents=True)
    image = np.zeros((360, 480, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'images/train/a.png'), image)
    with pytest.raises(ValueError, match=r'of 480 x 360; run .*--width 128'):
        CamvidStudy(tmp_path / 'out').prepare()


@pytest.mark.parametrize('kind', [Cifar10Study, CamvidStudy, FacesStudy])
def test_missing_data_are_named(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = sys.modules[kind.__module__]
    result = run_main(module, expect=1, cwd=tmp_path)
    assert f'expected {kind.all_labels}, got no such file' in result.last_line


def test_tables_of_other_scores_are_written(tmp_path):
    result = run_main(
        ablation, '--csv', study.DigitsStudy.folder / 'scores_policy.csv',
        '--out', tmp_path,
    )  # fmt: skip
    assert '| t of the probe | 81.8 ± 1.7 | 90.9 ± 0.7 |' in result.output
    assert (tmp_path / 'tables.md').read_text() in result.output
    result = run_main(study, '--csv', DigitsStudy.folder / 'scores.csv',
                      cwd=tmp_path)  # fmt: skip
    assert '| from scratch |' in result.output
    assert not (tmp_path / 'work_dirs').exists()
    missing = tmp_path / 'none.csv'
    result = run_main(study, '--csv', missing, '--out', tmp_path, expect=1)
    assert f'expected scores in {missing}, got none' in result.last_line


@pytest.mark.slow
def test_latent_teacher_is_trained_and_distilled(short_study):
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
    teacher = short_study.out.parent / 'work_dirs/ddpm_latent_digits/teacher'
    index = json.loads((teacher / 'model_index.json').read_text())
    assert index['_class_name'] == 'LDMPipeline'
    assert list(teacher.parent.rglob('samples_2.png'))
    score = AblationStudy(short_study.out).score('latent', 20, 0)
    assert 0 < score.score < 1
    log = next(short_study.out.glob('pretrain/latent_0_20/*/*.log'))
    assert 'images encoded by' in log.read_text()


def test_data_of_the_digits_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    DigitsStudy(tmp_path / 'out').prepare()
    lines = (tmp_path / runs.DATA / 'train.txt').read_text().splitlines()
    assert len(lines) == 1297
