"""Hooks that a config names twice do their work once, or with equal result."""

import numpy as np
import pytest
from mmengine.hooks import ParamSchedulerHook
from mmengine.runner import Runner

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.hooks import PreemptionHook
from tests.helpers import tiny_run
from tests.helpers.equal import assert_equal
from tests.helpers.memory_run import config

NAMES = (
    'StrictLoadHook',
    'ExactResumeHook',
    'FiniteLossHook',
    'EnvInfoHook',
    'ExportStudentHook',
)


def train(work_dir, times, **changes):
    hooks = [dict(type=f'repfusion_mm.{name}') for name in NAMES]
    cfg = config(work_dir, hooks * times, max_epochs=2)
    cfg.merge_from_dict(changes)
    cfg.experiment_name = f'{work_dir.name}-{len(changes)}'
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_a_resumed_run_with_each_hook_twice_is_the_same(tmp_path):
    reference = train(tmp_path / 'once', 1)
    train(tmp_path / 'twice', 2)
    path = str(tmp_path / 'twice' / 'epoch_1.pth')
    resumed = train(tmp_path / 'twice', 2, resume=True, load_from=path)
    ends = [
        load_from_local(tmp_path / name / 'epoch_2.pth')
        for name in ('once', 'twice')
    ]
    for part in ('state_dict', 'optimizer'):
        assert_equal(ends[0][part], ends[1][part], part)
    losses = [
        runner.message_hub.get_scalar('train/loss').data[0]
        for runner in (reference, resumed)
    ]
    np.testing.assert_array_equal(*losses)


def tiny(folder, hooks, **settings):
    """Train the tiny model; return the runner."""
    hooks = [dict(type='repfusion_mm.PreemptionHook'), *hooks]
    cfg = tiny_run.config(folder, folder.name, custom_hooks=hooks, **settings)
    runner = tiny_run.build(cfg)
    runner.train()
    return runner


@pytest.mark.parametrize(
    'hook',
    [
        dict(type='ParamSchedulerHook'),
        dict(type='mmengine.ParamSchedulerHook'),
        dict(type='mmengine.hooks.ParamSchedulerHook'),
        dict(type=ParamSchedulerHook),
        dict(type='IterTimerHook'),
        dict(type='LoggerHook'),
        dict(type='repfusion_mm.PreemptionHook'),
        dict(type=PreemptionHook, interval=10),
        dict(type='repfusion_mm.ExactResumeHook'),
    ],
    ids=str,
)
def test_hooks_of_the_same_settings_are_used_once(tmp_path, hook):
    """A schedule that is stepped twice would end at a rate of 0.025."""
    halve = dict(type='MultiStepLR', milestones=[2], gamma=0.5)
    kept = [*runner_hooks(tiny(tmp_path, [], param_scheduler=halve))]
    folder = tmp_path / 'twice'
    runner = tiny(folder, [hook, hook], param_scheduler=halve)
    assert runner.optim_wrapper.get_lr()['lr'] == [0.05]
    names = [*runner_hooks(runner)]
    assert len(names) == len({*names})
    assert {*names} - {'ExactResumeHook'} == {*kept}


def runner_hooks(runner):
    return [type(hook).__name__ for hook in runner.hooks]


def test_averaged_weights_are_swapped_once(tmp_path):
    average = dict(type='EMAHook', momentum=0.5, priority='NORMAL')
    strict = dict(type='repfusion_mm.StrictLoadHook')
    once = tiny(tmp_path / 'once', [strict, average])
    twice = tiny(tmp_path / 'twice', [strict, average, average])
    ends = [
        load_from_local(f'{runner.work_dir}/iter_8.pth')
        for runner in (once, twice)
    ]
    for part in ('state_dict', 'ema_state_dict'):
        assert_equal(ends[0][part], ends[1][part], part)


@pytest.mark.parametrize(
    ('hooks', 'message'),
    [
        (
            [dict(type=PreemptionHook, interval=3)],
            'one PreemptionHook, got 2 with different settings .*'
            r'custom_hooks\.0 and custom_hooks\.1',
        ),
        (
            [
                dict(type='EMAHook', momentum=0.5),
                dict(type='mmengine.EMAHook', momentum=0.1),
            ],
            r'one EMAHook, .*custom_hooks\.1 and custom_hooks\.2',
        ),
        (
            [dict(type='repfusion_mm.BufferedRuntimeInfoHook')],
            'one RuntimeInfoHook, got 2 .*RuntimeInfoHook, Buffered',
        ),
    ],
)
def test_hooks_of_other_settings_are_refused(tmp_path, hooks, message):
    with pytest.raises(ValueError, match=message):
        tiny(tmp_path, hooks)


@pytest.mark.parametrize('name', ['TimestepPolicyHook', 'ExportStudentHook'])
def test_hooks_of_a_distiller_are_refused_elsewhere(tmp_path, name):
    hooks = [dict(type=f'repfusion_mm.{name}')]
    cfg = tiny_run.config(tmp_path, tmp_path.name, custom_hooks=hooks)
    message = f'expected a RepFusion as the model for {name}, got NoiseModel'
    with pytest.raises(ValueError, match=message):
        tiny_run.build(cfg).train()


def test_hooks_that_may_be_several_are_kept(tmp_path):
    loggers = [dict(type='LoggerHook', interval=i) for i in (1, 2)]
    assert runner_hooks(tiny(tmp_path, loggers)).count('LoggerHook') == 3
