"""The methods of the studies, in shortened runs."""

import json

import pytest

from projects.digits.ablation import AblationStudy
from projects.study.scores import ALL, read_costs
from repfusion_mm.cli import make_parser
from repfusion_mm.cli.config import load_config
from repfusion_mm.registry import HOOKS, MODELS
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.studies import STUDIES, check_methods


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


@pytest.mark.slow
def test_all_labels_are_probed_once_for_all_seeds(short_study):
    short_study.probe_grid = (0, 500)
    timesteps = {short_study.probe(ALL, seed) for seed in (0, 1)}
    assert timesteps <= {0, 500}
    assert [p.name for p in (short_study.out / 'probe').glob('[!.]*')] == [
        'all_0'
    ]


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
