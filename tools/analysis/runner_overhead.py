"""What mmengine's loop and hooks add to the bare step."""

import contextlib
import copy
import statistics
import tempfile
import time
from typing import Dict, List

from measuring import wait
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from synthetic_data import build_train_loader


class _Enough(Exception):
    """Ends the run when enough iterations are timed."""


class StopwatchHook(Hook):
    """Time iterations of the loop, and the bare steps within them.

    Args:
        iterations: How many to time, behind a warm-up of a tenth.
        device: Where they run.
    """

    priority = 'LOWEST'

    def __init__(self, iterations: int, device: str) -> None:
        self.warmup = max(2, iterations // 10)
        self.iterations = iterations + self.warmup
        self.device = device
        self.steps: List[float] = []
        self.ends: List[float] = []

    def before_train(self, runner) -> None:
        """Time the model's step from now on."""
        step = runner.model.train_step

        def timed_step(*args, **kwargs):
            begin = time.perf_counter()
            outputs = step(*args, **kwargs)
            wait(self.device)
            self.steps.append(time.perf_counter() - begin)
            return outputs

        runner.model.train_step = timed_step

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        """Note the time, and stop when there is enough."""
        self.ends.append(time.perf_counter())
        if len(self.ends) == self.iterations:
            raise _Enough


def measure_runner(
    cfg: Config, batch_size: int, iterations: int, device: str
) -> Dict[str, float]:
    """Run the config's own loop, hooks and data loader for some iterations.

    Returns:
        Milliseconds of the loop's and of the bare step's iterations, on
        average, and how much more the loop takes, as a share.
    """
    cfg = copy.deepcopy(cfg)
    length = 100 * (iterations + 10)  # as in a long run: no epoch ends
    loader = build_train_loader(
        cfg, batch_size, 0, num_images=length * batch_size
    )
    cfg.pop('train_dataloader')
    stopwatch = StopwatchHook(iterations, device)
    with tempfile.TemporaryDirectory() as work_dir:
        runner = Runner(
            model=cfg.model, work_dir=work_dir, train_dataloader=loader,
            train_cfg=cfg.train_cfg, optim_wrapper=cfg.optim_wrapper,
            param_scheduler=cfg.get('param_scheduler'),
            default_hooks=cfg.get('default_hooks'),
            custom_hooks=[*cfg.get('custom_hooks', []), stopwatch],
            env_cfg=cfg.get('env_cfg', {}), log_level='WARNING',
            default_scope=cfg.get('default_scope', 'mmengine'),
        )  # fmt: skip
        with contextlib.suppress(_Enough):
            runner.train()
    skip = stopwatch.warmup
    loop = stopwatch.ends[-1] - stopwatch.ends[skip - 1]
    steps = stopwatch.steps[skip:]
    return dict(
        iterations=len(steps),
        loop=1e3 * loop / len(steps),
        step=1e3 * statistics.mean(steps),
        overhead=loop / sum(steps) - 1,
    )
