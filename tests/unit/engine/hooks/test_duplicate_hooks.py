"""Hooks that a config names twice do their work once, or with equal result."""

import numpy as np
from mmengine.runner import Runner

from repfusion_mm.engine.checkpoint.io import load_from_local
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
