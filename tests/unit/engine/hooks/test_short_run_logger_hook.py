import json
from pathlib import Path

import pytest
from mmengine.runner import Runner

from repfusion_mm.engine.hooks import ShortRunLoggerHook
from tests.helpers.memory_run import LABELS, config


def run(work_dir, interval=50, labels=LABELS, **train_cfg):
    """Run epochs of two iterations; return what was logged."""
    cfg = config(work_dir, [], labels)
    cfg.default_hooks.logger = dict(
        type='repfusion_mm.ShortRunLoggerHook', interval=interval
    )
    cfg.default_hooks.runtime_info = dict(
        type='repfusion_mm.BufferedRuntimeInfoHook'
    )
    cfg.train_cfg = train_cfg
    if not train_cfg['by_epoch']:
        cfg.train_dataloader.sampler.type = 'InfiniteSampler'
        cfg.log_processor = dict(by_epoch=False)
    runner = Runner.from_cfg(cfg)
    runner.train()
    text = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    scalars = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text()
    steps = [json.loads(line)['step'] for line in scalars.splitlines()]
    return runner, steps, text


def test_a_run_shorter_than_the_interval_logs_20_lines(tmp_path):
    runner, steps, text = run(tmp_path, by_epoch=False, max_iters=40)
    assert steps == [*range(2, 41, 2)]
    assert 'every 2 instead of 50 iterations are logged' in text
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 40


def test_a_run_of_few_iterations_logs_each(tmp_path):
    _, steps, _ = run(tmp_path, by_epoch=False, max_iters=5)
    assert steps == [1, 2, 3, 4, 5]


def test_epochs_of_a_short_run_log_more_than_their_end(tmp_path):
    _, steps, _ = run(tmp_path / 'few', by_epoch=True, max_epochs=3)
    assert steps == [1, 2, 3, 4, 5, 6]
    _, steps, text = run(tmp_path / 'many', by_epoch=True, max_epochs=20)
    assert steps == [*range(2, 41, 2)]
    assert 'instead of' not in text


@pytest.mark.parametrize(
    ('epochs', 'length', 'interval', 'expected'),
    [
        (1, 1000, 50, 50),
        (1, 999, 50, 25),
        (1, 200, 50, 10),
        (1, 19, 50, 1),
        (1, 100, 7, 1),
        (15, 58, 50, 25),
        (10, 100, 50, 50),
        (200, 30, 50, 50),
    ],
)
def test_the_interval_is_lowered_to_a_divisor(
    tmp_path, epochs, length, interval, expected
):
    hook = ShortRunLoggerHook(interval)
    runner = Runner.from_cfg(config(tmp_path, []))
    loop = runner.train_loop
    loop._max_epochs, loop._max_iters = epochs, epochs * length
    hook.before_train(runner)
    assert hook.interval == expected
    hook.after_train(runner)
    assert hook.interval == interval


def test_validations_are_logged_at_the_interval_of_the_config(tmp_path):
    lines = []
    hook = ShortRunLoggerHook(10)
    hook.interval, hook.configured_interval = 2, 10
    runner = Runner.from_cfg(config(tmp_path, []))
    runner.logger.info = lines.append
    runner.log_processor.get_log_after_iter = lambda *args: ({}, args[1])
    for index in range(25):
        hook.after_val_iter(runner, index)
    assert lines == [9, 19]
