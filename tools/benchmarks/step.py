"""Time a distillation step against the reference implementation and a floor.

    step.py configs/distill/repfusion_r18_cifar.py --batch 32 --json step.json

One run times, round by round: the step of the paper's reference
implementation (complete U-Net, float32, one SGD); ours as configured; ours
with single options changed; and the floor, which is the student's forward and
backward and the teacher's forward up to its last layer. On a CPU, ours keeps
freed memory, as tools/train.py does; the reference is timed with and without.
"""

import argparse
import contextlib
import copy
import functools
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional

import torch
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from repfusion_mm.analysis import memory, timing
from repfusion_mm.analysis.flops import count_flops
from repfusion_mm.analysis.reference_step import ReferenceStep
from repfusion_mm.analysis.synthetic_data import (
    build_train_loader,
    describe_data,
)
from repfusion_mm.analysis.teacher_presets import resolve_teacher
from repfusion_mm.cli import enable_safe_loading, report_errors
from repfusion_mm.cli.argument_types import (
    not_negative,
    positive,
    read_distillation,
)
from repfusion_mm.models.distillers.builders import as_tuple
from repfusion_mm.models.losses.utils import pool

REFERENCES = ('reference', 'reference, freed memory kept')
#: What each variant of ours changes in ``model`` of the config.
CHANGES: Dict[str, dict] = {
    'ours': {},
    'teacher in float32': {'teacher.dtype': 'float32'},
    'teacher in bfloat16': {'teacher.dtype': 'bfloat16'},
    'teacher in float16': {'teacher.dtype': 'float16'},
    'whole U-Net': {'teacher.early_stop': False},
    'student channels_last off': {'channels_last': False},
    'teacher channels_last': {'teacher.channels_last': True},
    'teacher compiled': {'teacher.compile': True},
    'freed memory given back': {},
}
FLOORS = {
    'floor': 'ours',
    'floor, teacher in float32': 'teacher in float32',
}
NAMES = [*REFERENCES, *CHANGES, *FLOORS]
#: These return freed memory to the system, as glibc does by default.
RETURNING_MEMORY = ('reference', 'freed memory given back')
#: These differ from another variant only where memory can be kept.
NEEDING_GLIBC = (REFERENCES[1], RETURNING_MEMORY[1])
#: Steps after which memory is measured.
MEMORY_STEPS = 5


class Step:
    """A training step to time, built with seed 0.

    Args:
        name: One of ``NAMES``.
        cfg: A config whose teacher needs no network.
        device: ``'cpu'`` or ``'cuda'``.
    """

    def __init__(self, name: str, cfg: Config, device: str) -> None:
        torch.manual_seed(0)
        self.name = name
        if name in REFERENCES:
            self.run: Callable = ReferenceStep(
                cfg.model, cfg.optim_wrapper, device
            )
            self.model = self.run.model
            return
        cfg = copy.deepcopy(cfg)
        changes = CHANGES[FLOORS.get(name, name)]
        cfg.merge_from_dict({f'model.{k}': v for k, v in changes.items()})
        self.model = MODELS.build(cfg.model).to(device)
        self.model.init_weights()
        self.model.train()
        if name in FLOORS:
            self.run = self._run_floor
            return
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.optim_wrapper.initialize_count_status(self.model, 0, 10**9)
        self.run = functools.partial(
            self.model.train_step, optim_wrapper=self.optim_wrapper
        )

    def prepare(self, batch: dict) -> object:
        """Return the argument of ``run`` for a batch of the data loader."""
        if self.name in FLOORS:
            return self.make_inputs(batch)
        return copy.deepcopy(batch)

    def make_inputs(self, batch: dict) -> tuple:
        """Return the student's inputs, images and random timesteps."""
        batch = copy.deepcopy(batch)
        inputs = self.model.data_preprocessor(batch, True)['inputs']
        images = self.model.images(inputs)
        length = self.model.teacher.num_timesteps
        timesteps = torch.randint(length, (len(images),), device=images.device)
        return inputs, images, timesteps

    def _run_floor(self, data: tuple) -> None:
        """Run only the arithmetic that every distillation needs."""
        inputs, images, timesteps = data
        self.model.teacher(images, timesteps)
        self.model.student.zero_grad()
        feats = as_tuple(self.model.student(inputs))
        sum(feats[i].sum() for i in self.model.student_indices).backward()


def time_steps(
    steps: Dict[str, Step], batches: list, args: argparse.Namespace
) -> Dict[str, List[float]]:
    """Time all steps round by round, each with its memory policy."""
    endless = itertools.cycle(batches)
    kept = None

    def prepare(step: Step) -> Callable[[], object]:
        nonlocal kept
        keep = step.name not in RETURNING_MEMORY
        if memory.can_keep_memory(args.device) and keep != kept:
            kept = keep
            memory.set_memory_policy(keep)
            # An untimed step, after which there is memory to keep or return.
            step.run(step.prepare(next(endless)))
        return functools.partial(step.run, step.prepare(next(endless)))

    # Sorted so that the policy changes only twice a round.
    order = sorted(steps, key=lambda name: name not in RETURNING_MEMORY)
    times = timing.time_interleaved(
        {name: functools.partial(prepare, steps[name]) for name in order},
        args.rounds, args.warmup, args.device,
    )  # fmt: skip
    if memory.can_keep_memory(args.device):
        memory.set_memory_policy(keep=True)
    return times


def time_parts(step: Step, batch: dict, args: argparse.Namespace) -> dict:
    """Return the milliseconds of each part of our step, and of all of it."""
    model, wrapper = step.model, step.optim_wrapper
    parts = {
        'data': [(model.data_preprocessor, 'forward'), (model, 'images')],
        'teacher': [(model.teacher, 'forward')],
        'student': [(model.student, 'forward')],
        'policy and decoder': [(model.policy, 'forward')],
        'backward': [(wrapper, 'backward')],
        'optimizers': [(wrapper, 'step'), (wrapper, 'zero_grad')],
    }
    if model.policy.learnable:
        parts['policy and decoder'].append((model.policy, 'loss'))
    if model.decoder is not None:
        parts['policy and decoder'].append((model.decoder, 'loss'))
    rows = []
    for _ in range(args.rounds):
        run = functools.partial(step.run, step.prepare(batch))
        with timing.time_methods(parts, args.device) as seconds:
            total = timing.time_call(run, args.device)
        rest = total - sum(seconds.values())
        rows.append(dict(seconds, rest=rest, all=total))
    return {
        name: timing.summarize_ms([row[name] for row in rows])
        for name in rows[0]
    }


def count_arithmetic(steps: Dict[str, Step], batch: dict, device: str) -> dict:
    """Count FLOP, and estimate their time at the rate of matrix products.

    A backward counts as two forwards: torch counts the backward of grouped
    convolutions many times too high.
    """
    model = steps['ours'].model
    inputs, images, timesteps = steps['ours'].make_inputs(batch)
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    with model.teacher.live.feature_extractor.uncompiled():
        teacher = count_flops(lambda: model.teacher(images, timesteps))
        forward = count_flops(lambda: model(**data, mode='loss'))
    student = count_flops(lambda: model.student(inputs))
    trained = 3 * (forward - teacher)
    flops = dict(ours=teacher + trained, floor=teacher + 3 * student)
    if 'reference' in steps:
        complete = steps['reference'].model.teacher
        flops['reference'] = trained + count_flops(
            lambda: complete(images, timesteps)
        )
    dtype = model.teacher.live.denoiser.dtype
    rates = {
        kind: timing.measure_matmul_rate(kind, device)
        for kind in {torch.float32, dtype}
    }
    return dict(
        teacher_flop=teacher,
        step_flop=flops,
        flop_per_second={str(k).split('.')[1]: v for k, v in rates.items()},
        seconds_at_these_rates=(
            teacher / rates[dtype] + trained / rates[torch.float32]
        ),
    )


def compare_features(steps: Dict[str, Step], batch: dict) -> dict:
    """Compare features in half precision with those in float32.

    Returns:
        For each dtype, the norm of the difference relative to the norm, of
        maps and of pooled features; empty without float32.
    """
    names = ('teacher in float32', 'teacher in bfloat16', 'teacher in float16')
    names = [name for name in names if name in steps]
    if 'teacher in float32' not in names:
        return {}
    _, images, timesteps = steps[names[0]].make_inputs(batch)
    exact, *others = (
        list(steps[name].model.teacher(images, timesteps).values())
        for name in names
    )

    def largest_error(feats: list, convert: Callable) -> float:
        pairs = [(convert(a), convert(b)) for a, b in zip(feats, exact)]
        return max(((a - b).norm() / b.norm()).item() for a, b in pairs)

    return {
        name: dict(
            maps=largest_error(feats, torch.Tensor.float),
            pooled=largest_error(feats, pool),
        )
        for name, feats in zip(names[1:], others)
    }


def measure_own_memory(cfg: Config, args: argparse.Namespace) -> dict:
    """Run steps in this process and return their memory in MB.

    Returns:
        ``model``: of the parts before the first step. ``peak``: the most
        during the steps, including the parts. ``grown``: the growth after a
        fifth of the steps.
    """
    batches, _ = read_batches(cfg, args.batch)
    before = memory.memory_in_use(args.device)
    step = Step(args.memory_of, cfg, args.device)
    built = settled = memory.memory_in_use(args.device)
    step.run(step.prepare(batches[0]))  # may compile, which does not count
    memory.reset_peak_memory(args.device)
    for number in range(MEMORY_STEPS):
        step.run(step.prepare(batches[number % len(batches)]))
        if number == MEMORY_STEPS // 5:
            settled = memory.memory_in_use(args.device)
    return dict(
        steps=MEMORY_STEPS,
        model=round(built - before, 1),
        peak=round(memory.peak_memory(args.device) - before, 1),
        grown=round(memory.memory_in_use(args.device) - settled, 1),
    )


def measure_memory(name: str, args: argparse.Namespace) -> dict:
    """Measure the memory of a variant in a new process.

    Raises:
        RuntimeError: The process failed.
    """
    command = [sys.executable, __file__, *args.argv, '--memory-of', name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(
            f'expected to measure the memory of {name!r}, got the error '
            'above; lower --batch if memory is short'
        )
    return json.loads(done.stdout.splitlines()[-1])


class EnoughIterations(Exception):
    """End a run after the timed iterations."""


class LoopTimer(Hook):
    """Time the loop after ``warmup`` iterations, and end it."""

    priority = 'LOWEST'

    def __init__(self, warmup: int, iterations: int, seconds: dict) -> None:
        self.warmup = warmup
        self.iterations = iterations
        self.seconds = seconds

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        """Reset the clocks after the warm-up, and stop after the rest."""
        if runner.iter + 1 == self.warmup:
            self.begin = time.perf_counter()
            self.seconds['step'] = 0.0
        elif runner.iter + 1 == self.warmup + self.iterations:
            self.seconds['loop'] = time.perf_counter() - self.begin
            raise EnoughIterations


def measure_runner(cfg: Config, args: argparse.Namespace) -> dict:
    """Run the config's own loop, hooks and data loader.

    Returns:
        Mean milliseconds of the loop's iterations and of the step in them,
        and the loop's overhead as a share of the step.
    """
    model = MODELS.build(cfg.model)
    # No epoch ends meanwhile, as in a long run.
    num_images = 100 * (args.runner + 10) * args.batch
    loader = build_train_loader(cfg, args.batch, 0, num_images=num_images)
    timed = timing.time_methods({'step': [(model, 'train_step')]}, args.device)
    with tempfile.TemporaryDirectory() as work_dir, timed as seconds:
        timer = LoopTimer(max(2, args.runner // 10), args.runner, seconds)
        runner = Runner(
            model=model, work_dir=work_dir, train_dataloader=loader,
            train_cfg=cfg.train_cfg, optim_wrapper=cfg.optim_wrapper,
            param_scheduler=cfg.get('param_scheduler'),
            default_hooks=cfg.get('default_hooks'),
            custom_hooks=[*(cfg.get('custom_hooks') or []), timer],
            env_cfg=cfg.get('env_cfg', {}), log_level='WARNING',
            default_scope=cfg.get('default_scope', 'mmengine'),
        )  # fmt: skip
        with contextlib.suppress(EnoughIterations):
            runner.train()
    return dict(
        iterations=args.runner,
        loop=1e3 * seconds['loop'] / args.runner,
        step=1e3 * seconds['step'] / args.runner,
        overhead=seconds['loop'] / seconds['step'] - 1,
    )


def prepare_config(args: argparse.Namespace) -> Config:
    """Read the config, with a teacher that needs no network."""
    cfg = read_distillation(args.config, args.cfg_options)
    cfg.model.teacher, cfg.random_teacher = resolve_teacher(cfg.model.teacher)
    if args.device == 'cpu' and cfg.optim_wrapper.get('type') is not None:
        cfg.optim_wrapper.type = 'OptimWrapper'  # AMP needs a GPU
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    # Otherwise each model would log the initialization of its parameters.
    MMLogger.get_instance('benchmark', log_level='WARNING')
    return cfg


def read_batches(cfg: Config, size: int, number: int = 4) -> tuple:
    """Return batches of the config's own pipeline, and their description."""
    loader = build_train_loader(cfg, size, 0, num_images=size * number)
    return list(itertools.islice(loader, number)), describe_data(loader)


def measure(cfg: Config, args: argparse.Namespace) -> dict:
    """Measure everything that the options request."""
    batches, data = read_batches(cfg, args.batch)
    steps = {
        name: Step(name, cfg, args.device)
        for name in NAMES
        if name in (*args.variants, 'ours')
    }
    times = time_steps(steps, batches, args)
    ours = steps['ours']
    result = dict(
        config=args.config, device=args.device, batch=args.batch,
        threads=torch.get_num_threads(), torch=torch.__version__, data=data,
        random_teacher=cfg.random_teacher,
        teacher_dtype=str(ours.model.teacher.live.denoiser.dtype),
        steps={name: timing.summarize_ms(times[name]) for name in steps},
        parts=time_parts(ours, batches[0], args),
        arithmetic=count_arithmetic(steps, batches[0], args.device),
        feature_error=compare_features(steps, batches[0]),
    )  # fmt: skip
    if args.device == 'cuda':
        result['gpu'] = torch.cuda.get_device_name()
    for name, figures in result['steps'].items():
        figures['images_per_second'] = 1e3 * args.batch / figures['median']
        extractor = steps[name].model.teacher.live.feature_extractor
        if extractor.compile and extractor.compiled is None:
            figures['not_compiled'] = True
        if 'reference' in times:
            figures['reference_over'] = timing.ratio_by_round(
                times['reference'], times[name]
            )
    for above, below in (('reference', 'ours'), ('ours', 'floor')):
        if {above, below} <= set(times):
            ratio, _, _ = timing.ratio_by_round(times[above], times[below])
            result[f'{above}_over_{below}'] = ratio
    measured = [name for name in ('reference', 'ours') if name in steps]
    del ours
    steps.clear()
    result['memory'] = {name: measure_memory(name, args) for name in measured}
    if args.runner:
        result['runner'] = measure_runner(cfg, args)
    return result


def print_report(result: dict) -> None:
    """Print the figures under their names in the JSON file."""
    console = Console(width=100, highlight=False)
    weights = 'RANDOM' if result['random_teacher'] else 'pretrained'
    where = result.get('gpu') or f'CPU, {result["threads"]} threads'
    console.print(
        f'{result["config"]}, {result["batch"]} images a step\n'
        f'{where}, torch {result["torch"]}\n'
        f'teacher: {weights} weights, {result["teacher_dtype"]}\n'
        f'images: {result["data"]}'
    )
    columns = ('ms', 'least', 'largest', 'images/s', 'reference / this')
    table = Table('step', *columns)
    for name, step in result['steps'].items():
        ratio = step.get('reference_over')
        table.add_row(
            name + ' (FAILED, not compiled)' * ('not_compiled' in step),
            *(f'{step[k]:.1f}' for k in ('median', 'least', 'largest')),
            f'{step["images_per_second"]:.1f}',
            '{:.2f} ({:.2f} - {:.2f})'.format(*ratio) if ratio else '',
        )
    console.print(table)
    table = Table('part of our step', 'ms', 'share')
    for name, part in result['parts'].items():
        share = part['median'] / result['parts']['all']['median']
        table.add_row(name, f'{part["median"]:.1f}', f'{share:.1%}')
    console.print(table)
    for key in ('reference_over_ours', 'ours_over_floor', 'arithmetic',
                'feature_error', 'memory', 'runner'):  # fmt: skip
        if result.get(key):
            console.print(f'{key}: {format_figures(result[key])}')


def format_figures(figures: object) -> str:
    """Return a nested dict of numbers as text with four digits."""
    if not isinstance(figures, dict):
        return f'{figures:.4g}'
    pairs = (f'{name} {format_figures(f)}' for name, f in figures.items())
    return f'({", ".join(pairs)})'


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='of a distillation')
    add('--device', choices=['cpu', 'cuda'],
        default='cuda' if torch.cuda.is_available() else 'cpu')  # fmt: skip
    add('--batch', type=positive, default=32, help='images in a step')
    add('--variants', nargs='+', metavar='NAME', choices=NAMES,
        help='steps to time next to ours (default: all): '
        + ', '.join(map(repr, NAMES)))  # fmt: skip
    add('--rounds', type=positive, default=9,
        help='timed steps of each variant (default: 9)')  # fmt: skip
    add('--warmup', type=not_negative, default=2,
        help='steps before them (default: 2)')  # fmt: skip
    add('--runner', type=not_negative, default=0, metavar='ITERATIONS',
        help="also time iterations of mmengine's loop")  # fmt: skip
    add('--json', type=Path, metavar='OUT', help='write all figures there')
    add('--cfg-options', nargs='+', action=DictAction)
    # For the processes in which memory is measured.
    add('--memory-of', choices=NAMES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.variants is None:
        glibc = memory.can_keep_memory(args.device)
        args.variants = [n for n in NAMES if glibc or n not in NEEDING_GLIBC]
    args.argv = sys.argv[1:] if argv is None else list(argv)
    return args


def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    with report_errors():
        if args.device == 'cuda' and not torch.cuda.is_available():
            raise RuntimeError('expected a GPU for --device cuda, got none')
        if args.json and not args.json.absolute().parent.is_dir():
            raise FileNotFoundError(
                f'expected a folder for --json, got {str(args.json)!r}'
            )
        if memory.can_keep_memory(args.device):
            memory.set_memory_policy(args.memory_of not in RETURNING_MEMORY)
        enable_safe_loading()
        cfg = prepare_config(args)
        if args.memory_of:
            print(json.dumps(measure_own_memory(cfg, args)))
            return 0
        result = measure(cfg, args)
        print_report(result)
        if args.json:
            args.json.write_text(json.dumps(result, indent=2) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
