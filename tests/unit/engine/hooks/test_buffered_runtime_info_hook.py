"""Statistics wait on the device until they are read, and none is lost."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import Runner

from repfusion_mm.engine import BufferedRuntimeInfoHook
from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.memory_run import config

LAZY = dict(type='repfusion_mm.BufferedRuntimeInfoHook')


def run(work_dir, lazy, **changes):
    cfg = config(work_dir, [dict(type='repfusion_mm.TimestepPolicyHook')])
    if lazy:
        cfg.default_hooks.runtime_info = LAZY
    cfg.merge_from_dict(changes)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def histories(runner):
    scalars = runner.message_hub.log_scalars
    timed = ('time', 'data_time', 'memory')
    return {
        name: history.data[0]
        for name, history in scalars.items()
        if name.split('/')[-1] not in timed
    }


def test_the_histories_are_those_of_mmengine(tmp_path):
    theirs, ours = (
        histories(run(tmp_path / str(lazy), lazy)) for lazy in (False, True)
    )
    assert set(ours) == set(theirs)
    for name, history in ours.items():
        assert len(history) == 8
        np.testing.assert_allclose(history, theirs[name], rtol=1e-6)


def test_a_resumed_run_goes_on_with_its_histories(tmp_path):
    first = run(tmp_path / 'first', True)
    path = tmp_path / 'first' / 'epoch_4.pth'
    saved = load_from_local(path)['message_hub']
    for history in saved['log_scalars'].values():
        assert type(history) is HistoryBuffer
    resumed = run(
        tmp_path / 'second', True, resume=True, load_from=str(path),
        **{'train_cfg.max_epochs': 5},
    )  # fmt: skip
    before, after = histories(first), histories(resumed)
    for name in before:
        assert len(after[name]) == 10
        np.testing.assert_array_equal(after[name][:8], before[name])


def step(hook, hub, **outputs):
    hook.after_train_iter(SimpleNamespace(message_hub=hub), 0, None, outputs)


def test_nothing_is_asked_before_it_is_read():
    hook, hub = BufferedRuntimeInfoHook(), MessageHub('unread')
    for _ in range(3):  # a meta tensor has no number to give
        step(hook, hub, loss=torch.empty((), device='meta'))
    with pytest.raises((RuntimeError, NotImplementedError), match='meta'):
        hub.get_scalar('train/loss').current()


def test_what_nobody_reads_does_not_pile_up():
    hook, hub = BufferedRuntimeInfoHook(), MessageHub('piled')
    for value in range(2500):
        step(hook, hub, loss=torch.tensor(float(value)))
        assert len(hook._rows) <= 1000
    assert hub.get_scalar('train/loss').data[0].tolist() == [*range(2500)]


def test_what_was_not_there_is_left_out_but_losses_stay():
    hook, hub = BufferedRuntimeInfoHook(), MessageHub('partly')
    for value in (math.nan, 1.0, math.nan, 3.0):
        step(hook, hub, loss=torch.tensor(value), reward=torch.tensor(value))
    losses = hub.get_scalar('train/loss').data[0]
    np.testing.assert_array_equal(losses, [math.nan, 1, math.nan, 3])
    reward = hub.get_scalar('train/reward')
    np.testing.assert_array_equal(reward.data[0], [math.nan, 1, 3])
    assert reward.mean(2) == 2 and reward.current() == 3


def test_another_hook_may_write_to_the_same_history():
    hook, hub = BufferedRuntimeInfoHook(), MessageHub('shared')
    step(hook, hub, loss=torch.tensor(1.0))
    hub.update_scalar('train/loss', 2.0)
    step(hook, hub, loss=torch.tensor(3.0), extra=torch.tensor(4.0))
    assert hub.get_scalar('train/loss').data[0].tolist() == [1, 2, 3]
    assert hub.get_scalar('train/extra').data[0].tolist() == [4]
