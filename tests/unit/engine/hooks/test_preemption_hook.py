import multiprocessing
import os
import signal
import time

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.hooks import PreemptionHook
from repfusion_mm.engine.hooks.preemption_hook import init_worker
from tests.helpers.memory_run import config
from tests.helpers.ranks import run_on_ranks

PREEMPTION = dict(type='repfusion_mm.PreemptionHook')


class PreemptHook(Hook):
    """Send SIGTERM to this process in an iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_preempted_run_saves_and_exits_with_status_75(tmp_path):
    runner = Runner.from_cfg(config(tmp_path, [PREEMPTION]))
    runner.register_hook(PreemptHook(3))
    with pytest.raises(SystemExit) as exit_info:
        runner.train()
    assert exit_info.value.code == 75
    path = tmp_path / 'preempted.pth'
    meta = load_from_local(path)['meta']
    assert (meta['epoch'], meta['iter']) == (1, 3)
    assert (tmp_path / 'last_checkpoint').read_text() == str(path)


class SlowSaveHook(Hook):
    """Take a second before a checkpoint is written."""

    def before_save_checkpoint(self, runner, checkpoint):
        time.sleep(1)


@pytest.mark.distributed
def test_no_process_exits_before_the_checkpoint_is_written(tmp_path):
    """A launcher ends the others when one has exited."""

    def is_written_at_exit(rank):
        cfg = config(tmp_path, [dict(PREEMPTION, interval=1)])
        cfg.experiment_name = f'rank-{rank}'
        runner = Runner.from_cfg(cfg)
        runner.register_hook(SlowSaveHook())
        runner.register_hook(PreemptHook(3))
        with pytest.raises(SystemExit):
            runner.train()
        return (tmp_path / 'preempted.pth').exists()

    assert run_on_ranks(is_written_at_exit) == [True, True]


@pytest.mark.distributed
@pytest.mark.parametrize(
    ('batches', 'expected'), [(1, [10, 20]), (4, [8, 16]), (16, [16, 32])]
)
def test_processes_ask_each_other_after_whole_updates(batches, expected):
    def steps(rank):
        hook = PreemptionHook(interval=10)
        hook._preempted = rank == 1
        return [
            num_updates * batches
            for num_updates in range(1, 21)
            if hook._any_rank_preempted(num_updates * batches, num_updates)
        ]

    assert [found[:2] for found in run_on_ranks(steps)] == [expected] * 2


def test_the_previous_handler_is_restored(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    Runner.from_cfg(config(tmp_path, [PREEMPTION], max_epochs=1)).train()
    assert signal.getsignal(signal.SIGTERM) == before
    assert not (tmp_path / 'preempted.pth').exists()


def test_a_second_hook_is_refused(tmp_path):
    hooks = [PREEMPTION, dict(PREEMPTION, interval=3)]
    runner = Runner.from_cfg(config(tmp_path, hooks))
    with pytest.raises(ValueError, match='expected one PreemptionHook'):
        runner.train()


def test_intervals_below_one_are_refused():
    with pytest.raises(ValueError, match='integer of 1 or more, got 0'):
        PreemptionHook(interval=0)


@pytest.mark.slow
@pytest.mark.parametrize('method', ['fork', 'forkserver'])
def test_workers_end_on_the_signal_of_the_training(method):
    """The parent of a worker is another process with a fork server."""
    context = multiprocessing.get_context(method)
    ready = context.Event()
    worker = context.Process(
        target=work, args=(os.getpid(), ready), daemon=True
    )
    worker.start()
    assert ready.wait(60)
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0


def work(trainer, ready):
    init_worker(None, trainer, 0)
    ready.set()
    time.sleep(60)
