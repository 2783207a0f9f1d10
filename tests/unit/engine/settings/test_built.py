"""Settings of runners that are built in Python."""

import pytest
from mmengine.runner import Runner

from repfusion_mm.engine.optimizers.checks import ReadKeys
from repfusion_mm.engine.settings.built import check_cycles, check_ends
from tests.helpers import memory_run, tiny_run
from tests.helpers.memory_run import teacher_config


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(bias_lr_mult=2.0, bypass_duplicate=True), None),
        (dict(custom_keys=dict(weight=dict(lr_mult=0.1))), None),
        (dict(norm_decay_mul=0.0), "got ['norm_decay_mul'], which the constr"),
        (
            dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
            "such as 'weight', got ['backbone'], which change nothing",
        ),
    ],
)
def test_unread_keys_of_paramwise_cfg_are_logged(tmp_path, settings, said):
    cfg = tiny_run.config(
        tmp_path,
        f'{tmp_path.name}-{len(str(settings))}',
        custom_hooks=[dict(type='repfusion_mm.UnusedSettingsHook')],
        log_level='WARNING',
    )
    cfg['optim_wrapper']['paramwise_cfg'] = settings
    tiny_run.build(cfg).train()
    text = next(tmp_path.glob('*/*.log')).read_text()
    assert (said or '') in text
    assert ('paramwise_cfg' in text) == (said is not None)


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(env_cfg=dict(dist_cfg=dict(timeoutt=3))), "mean 'timeout'"),
        (dict(sync_bn='x'), "sync_bn='torch' or 'mmcv'"),
        (
            dict(
                by_epoch=False,
                param_scheduler=[
                    dict(type='StepLR', step_size=2, by_epoch=False),
                    dict(type='ConstantLR', end=2),
                ],
            ),
            r'set param_scheduler\.1\.by_epoch=False;',
        ),
        (
            dict(
                loader=dict(
                    num_batch_per_epoch=1,
                    sampler=dict(
                        type='repfusion_mm.ProportionalSampler',
                        proportions=(1,),
                        num_samples=9,
                    ),
                )
            ),
            r'num_batch_per_epoch=1 batches, got 3, .*sampler\.num_samples',
        ),
    ],
)
def test_settings_are_refused_before_training(tmp_path, settings, said):
    cfg = tiny_run.config(
        tmp_path,
        tmp_path.name,
        custom_hooks=[dict(type='repfusion_mm.UnusedSettingsHook')],
        **settings,
    )
    with pytest.raises(ValueError, match=said):
        tiny_run.build(cfg).train()


@pytest.mark.parametrize('make', [memory_run.config, teacher_config])
def test_a_validation_that_cannot_be_run_is_refused_first(tmp_path, make):
    """As of configs that inherit the dataset of a finetuning."""
    cfg = make(tmp_path, [dict(type='repfusion_mm.UnusedSettingsHook')])
    cfg.update(
        val_dataloader=cfg.train_dataloader,
        val_cfg=dict(),
        val_evaluator=dict(type='mmpretrain.Accuracy'),
        experiment_name=f'{tmp_path.name}-{make.__name__}',
    )
    with pytest.raises(ValueError, match='does not predict, got one; set val'):
        Runner.from_cfg(cfg).train()


def test_a_constructor_that_iterates_reads_all_keys():
    for read in (dict, list, lambda keys: {**keys}, lambda k: [*k.items()]):
        keys = ReadKeys(dict(mine=1))
        with pytest.raises(ValueError, match=r"got \['mine'\]"):
            keys.check()
        read(keys)
        keys.check()


COSINE = dict(type='CosineAnnealingLR')
POLY = dict(type='PolyLR')
STEP = dict(type='MultiStepLR', milestones=[1])
WARMUP = dict(type='LinearLR', start_factor=0.1)
DECAY = dict(type='LinearLR', start_factor=1.0, end_factor=0.1)
HOLD = dict(type='ConstantLR', factor=1.0)


@pytest.mark.parametrize(
    ('schedules', 'said'),
    [
        # Left from before a change of max_epochs, which is 10 here.
        ([dict(COSINE, T_max=200)], 'param_scheduler.0: CosineAnnealingLR t'),
        ([dict(COSINE, T_max=200, end=200)], 'until 200 in a run of 10 epoc'),
        ([dict(COSINE, T_max=2, end=2)], 'ends at 2 in a run of 10 epochs'),
        ([dict(COSINE, T_max=2)], 'ends at 2 in a run of 10 epochs'),
        ([dict(POLY, end=1)], 'PolyLR ends at 1 in a run of 10 epochs'),
        ([dict(POLY, end=100)], 'PolyLR takes until 100 in a run of 10'),
        ([dict(DECAY, end=5)], 'LinearLR ends at 5'),
        ([dict(STEP, end=5)], 'MultiStepLR ends at 5'),
        ([dict(WARMUP, end=50)], 'takes until 50'),
        (
            [dict(COSINE, T_max=2, end=2, convert_to_iter_based=True)],
            'ends at 6 in a run of 30 iterations',
        ),
        (
            [dict(WARMUP, end=2), dict(COSINE, T_max=3, begin=2, end=5)],
            'param_scheduler.1: CosineAnnealingLR ends at 5',
        ),
        # Of the run's length.
        ([COSINE, dict(STEP, end=100), dict(HOLD, end=2)], None),
        ([dict(COSINE, T_max=10), dict(WARMUP, end=2)], None),
        ([dict(POLY, begin=2), dict(WARMUP, by_epoch=False, end=6)], None),
        ([dict(COSINE, T_max=8, begin=2, convert_to_iter_based=True)], None),
        ([dict(type='OneCycleLR', eta_max=1.0)], None),
        # Intended: a warm-up only, and a constant end.
        ([dict(WARMUP, end=2)], None),
        ([dict(COSINE, end=5), dict(HOLD, begin=5)], None),
        (
            [
                dict(COSINE, T_max=5, end=5),
                dict(COSINE, T_max=5, begin=5),
                dict(type='ConstantMomentum', factor=1.0, end=1),
            ],
            None,
        ),
    ],
)
def test_schedules_of_another_length_than_the_run_are_logged(
    tmp_path, monkeypatch, schedules, said
):
    runner = tiny_run.build(
        tiny_run.config(
            tmp_path,
            f'{tmp_path.name}-{len(str(schedules))}',
            train_cfg=dict(by_epoch=True, max_epochs=10),
        )
    )
    runner.train_loop  # noqa: B018 - the default end of schedules
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.cfg.param_scheduler = schedules
    runner.param_schedulers = runner.build_param_scheduler(schedules)
    found = []
    monkeypatch.setattr(runner.logger, 'warning', found.append)
    check_ends(runner)
    assert len(found) == bool(said)
    assert (said or '') in ''.join(found)


def one_cycle(tmp_path, cycle, **settings):
    """Return a runner of 10 epochs with a schedule."""
    runner = tiny_run.build(
        tiny_run.config(
            tmp_path,
            tmp_path.name,
            train_cfg=dict(by_epoch=True, max_epochs=10),
            **settings,
        )
    )
    runner.train_loop  # noqa: B018 - the default end of schedules
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    schedules = [dict(type='OneCycleLR', eta_max=1.0, **cycle)]
    runner.cfg.param_scheduler = schedules
    runner.param_schedulers = runner.build_param_scheduler(schedules)
    return runner


@pytest.mark.parametrize(
    ('cycle', 'settings', 'message'),
    [
        (dict(total_steps=5), {}, 'total_steps=9 or more for this run, got'),
        (dict(by_epoch=False, total_steps=10), {}, 'total_steps=29 or more'),
        ({}, dict(auto_scale_lr=dict(enable=True, base_batch_size=3)),
         'expected no OneCycleLR .param_scheduler.0. with auto_scale_lr'),
    ],
)  # fmt: skip
def test_cycles_that_cannot_be_run_are_refused(
    tmp_path, cycle, settings, message
):
    runner = one_cycle(tmp_path, cycle, **settings)
    with pytest.raises(ValueError, match=message):
        check_cycles(runner)


@pytest.mark.parametrize('cycle', [{}, dict(total_steps=5, end=6)])
def test_rates_that_a_cycle_replaces_are_logged(tmp_path, monkeypatch, cycle):
    runner = one_cycle(tmp_path, cycle)
    found = []
    monkeypatch.setattr(runner.logger, 'warning', found.append)
    check_cycles(runner)
    assert 'sets all learning rates from eta_max=1.0' in found[0]
    for schedule in runner.param_schedulers:
        for _ in range(runner.max_epochs):
            schedule.step()


@pytest.mark.parametrize(
    'key', ['activation_checkpointing', 'efficient_conv_bn_eval']
)
def test_modules_that_the_model_lacks_are_refused(tmp_path, key):
    cfg = tiny_run.config(
        tmp_path,
        f'{tmp_path.name}-{key}',
        custom_hooks=[dict(type='repfusion_mm.UnusedSettingsHook')],
        **{key: ['data_preprocessr']},
    )
    with pytest.raises(
        ValueError, match=f"{key}, got 'data_preprocessr'; did .* data_prep"
    ):
        tiny_run.build(cfg).train()
