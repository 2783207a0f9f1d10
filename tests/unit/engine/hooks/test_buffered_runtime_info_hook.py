"""Statistics stay on the device until they are logged, and none is lost."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import Runner

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.hooks import BufferedRuntimeInfoHook
from repfusion_mm.engine.hooks.buffered_runtime_info_hook import (
    flush_statistics,
)
from tests.helpers.memory_run import config
from tests.helpers.ranks import run_on_ranks

BUFFERED = dict(type='repfusion_mm.BufferedRuntimeInfoHook')


class ReadHook(Hook):
    """Record how many losses the history holds after each iteration."""

    priority = 'LOWEST'

    def __init__(self, flush=False):
        self.flush = flush
        self.lengths = []

    def after_train_iter(self, runner, **kwargs):
        if self.flush:
            flush_statistics(runner)
        history = runner.message_hub.log_scalars.get('train/loss')
        self.lengths.append(0 if history is None else len(history.data[0]))


def build(work_dir, buffered, hooks=(), interval=1, **changes):
    """Build a run of four epochs of two iterations."""
    policy = dict(type='repfusion_mm.TimestepPolicyHook', num_records=1)
    cfg = config(work_dir, [policy])
    cfg.default_hooks.logger.interval = interval
    if buffered:
        cfg.default_hooks.runtime_info = dict(BUFFERED)
    cfg.merge_from_dict(changes)
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    return runner


def run(*args, **kwargs):
    runner = build(*args, **kwargs)
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


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    """A run with mmengine's own hook."""
    return run(tmp_path_factory.mktemp('reference'), False)


def logged(runner):
    path = Path(runner.log_dir, 'vis_data', 'scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in i.items() if 'time' not in k} for i in lines]


@pytest.mark.parametrize('interval', [1, 2])
def test_histories_equal_those_of_mmengine(tmp_path, reference, interval):
    runner = run(tmp_path, True, interval=interval)
    ours, theirs = histories(runner), histories(reference)
    assert set(ours) == set(theirs)
    for name, history in ours.items():
        assert len(history) == 8
        np.testing.assert_array_equal(history, theirs[name])
    if interval == 1:
        assert logged(runner) == logged(reference)


def test_statistics_are_flushed_at_the_interval_and_at_the_end_of_epochs(
    tmp_path,
):
    """Eight iterations in epochs of two; and of eight, in a flushing hook."""
    quiet, flushing = ReadHook(), ReadHook(flush=True)
    run(tmp_path / 'a', True, [quiet], interval=50)
    assert quiet.lengths == [0, 2, 2, 4, 4, 6, 6, 8]
    run(tmp_path / 'b', True, [flushing], interval=50)
    assert flushing.lengths == [*range(1, 9)]


def test_checkpoints_hold_complete_histories(tmp_path):
    by_iter = dict(type='CheckpointHook', by_epoch=False, interval=1)
    runner = run(
        tmp_path, True, interval=50,
        **{'default_hooks.checkpoint': by_iter, 'train_cfg.max_epochs': 1},
    )  # fmt: skip
    saved = load_from_local(tmp_path / 'iter_1.pth')['message_hub']
    for name, history in histories(runner).items():
        assert type(saved['log_scalars'][name]) is HistoryBuffer
        np.testing.assert_array_equal(
            saved['log_scalars'][name].data[0], history[:1]
        )
        assert saved['resumed_keys'][name]


def test_a_resumed_run_continues_its_histories(tmp_path):
    first = run(tmp_path / 'first', True)
    path = tmp_path / 'first' / 'epoch_4.pth'
    resumed = run(
        tmp_path / 'second', True, resume=True, load_from=str(path),
        **{'train_cfg.max_epochs': 5},
    )  # fmt: skip
    before, after = histories(first), histories(resumed)
    for name in before:
        assert len(after[name]) == 10
        np.testing.assert_array_equal(after[name][:8], before[name])


def test_a_logger_never_reads_between_two_flushes(tmp_path):
    """The interval of a logger is lowered in short runs."""
    interval = {'default_hooks.runtime_info.interval': 4}
    runner = run(tmp_path, True, interval=6, **interval)
    (hook,) = (
        i for i in runner.hooks if isinstance(i, BufferedRuntimeInfoHook)
    )
    assert hook.interval == 2


def test_a_second_hook_is_refused(tmp_path):
    runner = build(tmp_path, True, [BufferedRuntimeInfoHook(5)])
    with pytest.raises(ValueError, match='expected one RuntimeInfoHook'):
        runner.train()


def test_intervals_below_one_are_refused():
    with pytest.raises(ValueError, match='integer of 1 or more, got 0'):
        BufferedRuntimeInfoHook(0)


def step(hook, hub, batch_idx=0, **outputs):
    runner = SimpleNamespace(
        message_hub=hub, train_dataloader=range(10**6), model=None
    )
    hook.after_train_iter(runner, batch_idx, None, outputs)
    return runner


def test_a_step_does_not_synchronize_with_the_device():
    """Tensors on the meta device have no values to copy to the host."""
    hook, hub = BufferedRuntimeInfoHook(10), MessageHub('meta')
    for i in range(9):
        runner = step(hook, hub, i, loss=torch.empty((), device='meta'))
    with pytest.raises((RuntimeError, NotImplementedError), match='meta'):
        hook.flush(runner)


def test_some_statistics_may_be_on_another_device():
    """mmpretrain's MultiTaskHead counts images on the CPU."""
    hook, hub = BufferedRuntimeInfoHook(10), MessageHub('devices')
    loss = torch.empty((), device='meta')
    step(hook, hub, loss=loss, mask_size=torch.tensor(3))
    assert hook._rows[0].device.type == 'meta'


def test_missing_statistics_are_left_out_but_losses_are_kept():
    hook, hub = BufferedRuntimeInfoHook(10), MessageHub('partly')
    for value in (math.nan, 1.0, math.nan, 3.0):
        runner = step(
            hook, hub, loss=torch.tensor(value), reward=torch.tensor(value)
        )
    hook.flush(runner)
    losses = hub.get_scalar('train/loss').data[0]
    np.testing.assert_array_equal(losses, [math.nan, 1, math.nan, 3])
    reward = hub.get_scalar('train/reward')
    np.testing.assert_array_equal(reward.data[0], [math.nan, 1, 3])
    assert reward.mean(2) == 2 and reward.current() == 3


def test_the_names_of_statistics_may_change_between_steps():
    hook, hub = BufferedRuntimeInfoHook(10), MessageHub('names')
    step(hook, hub, loss=torch.tensor(1.0))
    runner = step(hook, hub, loss=torch.tensor(3.0), extra=torch.tensor(4.0))
    hook.flush(runner)
    assert hub.get_scalar('train/loss').data[0].tolist() == [1, 3]
    assert hub.get_scalar('train/extra').data[0].tolist() == [4]


@pytest.mark.distributed
def test_other_models_may_lack_a_loss_in_one_process():
    """YOLOX-Pose and RTMO have no loss of boxes without a box."""

    def losses(rank):
        hook, hub = BufferedRuntimeInfoHook(10), MessageHub(f'rank-{rank}')
        boxes = dict(loss_bbox=torch.tensor(2.0)) if rank == 0 else {}
        runner = step(hook, hub, loss=torch.tensor(rank + 1.0), **boxes)
        hook.flush(runner)
        return {k: v.current() for k, v in hub.log_scalars.items()}

    assert run_on_ranks(losses) == [
        {'train/loss': 1, 'train/loss_bbox': 2}, {'train/loss': 2}
    ]  # fmt: skip
