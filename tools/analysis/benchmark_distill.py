"""Time a distillation's step against the public algorithm and the floor.

    benchmark_distill.py configs/distill/repfusion_r18_cifar.py --batch 32

In one run, in turn, after a warm-up: the step of the paper's public algorithm
(whole U-Net, float32, one SGD), ours as configured, ours with single options
changed, and the floor: the student's forward and backward and the teacher's
forward up to its last layer, alone. On a CPU ours keeps freed memory, as
tools/train.py does, and the public algorithm is timed with and without.
Several batch sizes show how the cost grows; --runner, --growth and --equal
measure mmengine's loop, memory over many steps, and the student's weights.
"""

import argparse
import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import List, Optional

import step_memory
import torch
from benchmark_report import print_report
from measuring import interleave, median_ratio, summarize
from memory_policy import can_be_kept, keep_memory
from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from runner_overhead import measure_runner
from step_figures import (
    compare_features,
    count_arithmetic,
    time_parts,
    time_steps,
)
from step_variants import (
    GIVING_BACK,
    NAMES,
    REFERENCE,
    build_step,
    compare_students,
    names_for,
)
from synthetic_data import build_train_loader, describe

import repfusion_mm  # noqa: F401  # heals the stack before it is imported
from repfusion_mm.analysis.teacher_presets import resolve_teacher
from repfusion_mm.cli.argument_types import (
    not_negative,
    positive,
    read_distillation,
)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='of a distillation')
    add('--device', choices=['cpu', 'cuda'])
    add('--batch', type=positive, nargs='+', default=[32], metavar='N',
        help='images in a step; several show how the cost grows')  # fmt: skip
    add('--variants', nargs='+', metavar='NAME',
        choices=NAMES,
        help='which to time beside ours, of '
        + ', '.join(map(repr, NAMES)))  # fmt: skip
    add(
        '--rounds', type=positive, default=9, help='steps of each (default: 9)'
    )
    add(
        '--warmup', type=not_negative, default=2, help='uncounted (default: 2)'
    )
    add('--runner', type=not_negative, default=0, metavar='ITERATIONS',
        help="time so many iterations of mmengine's loop too")  # fmt: skip
    add('--growth', type=not_negative, default=0, metavar='STEPS',
        help='watch the memory of so many steps too')  # fmt: skip
    add('--equal', type=not_negative, default=0, metavar='STEPS',
        help='compare the student with that of the public algorithm after so '
        'many steps on the same draws')  # fmt: skip
    add('--json', type=Path, metavar='OUT', help='write all figures there')
    add('--cfg-options', nargs='+', action=DictAction)
    step_memory.add_arguments(parser)
    return parser.parse_args(argv)


def load_config(args: argparse.Namespace) -> Config:
    """Return the config, with a teacher that needs no network.

    Raises:
        SystemExit: It is no distillation, or its teacher cannot be had.
    """
    cfg = read_distillation(args.config, args.cfg_options)
    teacher, cfg.random_teacher = resolve_teacher(cfg.model.teacher)
    cfg.model.teacher = teacher
    if args.device == 'cpu' and cfg.optim_wrapper.get('type') is not None:
        cfg.optim_wrapper.type = 'OptimWrapper'  # AMP needs a GPU
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    # Or each model that is built would list how it was initialised.
    MMLogger.get_instance('benchmark', log_level='WARNING')
    return cfg


def read_batches(cfg: Config, size: int, number: int = 4) -> tuple:
    """Return batches of the config's own pipeline, and what they are of."""
    loader = build_train_loader(cfg, size, 0, num_images=size * number)
    batches = [data for data, _ in zip(loader, range(number))]
    return batches, describe(loader)


def measure_memory(
    name: str, size: int, args: argparse.Namespace, num_steps: int = 5
) -> dict:
    """Measure in a process of its own; see ``step_memory``."""
    options = [f'{k}={v}' for k, v in (args.cfg_options or {}).items()]
    command = [
        sys.executable, __file__, args.config, '--device', args.device,
        '--batch', str(size), '--memory-of', name,
        '--memory-steps', str(num_steps),
        *(['--cfg-options', *options] if options else []),
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f'error: {name} failed with {size} images')
    return json.loads(done.stdout.splitlines()[-1])


def measure_growth(cfg: Config, args: argparse.Namespace) -> List[dict]:
    """Time ours at every batch size, in turn."""
    step = {'ours': build_step('ours', cfg, args.device)}
    batches = {size: read_batches(cfg, size, 1)[0] for size in args.batch}
    runs = {
        str(size): lambda b=batch: (
            lambda: step['ours'].run(copy.deepcopy(b[0]))
        )
        for size, batch in batches.items()
    }
    times = interleave(runs, args.rounds, args.warmup, args.device)
    return [
        dict(
            summarize(times[str(size)]),
            batch=size,
            memory=measure_memory('ours', size, args),
        )
        for size in args.batch
    ]


def main(argv: Optional[List[str]] = None) -> dict:
    args = parse_args(argv)
    args.device = args.device or (
        'cuda' if torch.cuda.is_available() else 'cpu'
    )
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise SystemExit('error: expected a GPU for --device cuda, got none')
    if args.json and not args.json.absolute().parent.is_dir():
        raise SystemExit(
            f'error: expected a folder for --json, got {str(args.json)!r}'
        )
    if can_be_kept(args.device):
        keep_memory(args.memory_of not in GIVING_BACK)
    cfg = load_config(args)
    size = args.batch[0]
    batches, data = read_batches(cfg, size)
    if args.memory_of:
        result = step_memory.measure(args, cfg, batches)
        print(json.dumps(result))
        return result

    possible = names_for(args.device)
    wanted = {*(args.variants or possible), 'ours'}
    if not wanted <= set(possible):
        raise SystemExit(
            f'error: expected variants for {args.device}, got '
            f'{sorted(wanted - set(possible))}'
        )
    names = [name for name in possible if name in wanted]
    steps = {name: build_step(name, cfg, args.device) for name in names}
    times = time_steps(steps, batches, args)
    result = dict(
        config=args.config, device=args.device, batch=size,
        threads=torch.get_num_threads(), torch=torch.__version__, data=data,
        random_teacher=cfg.random_teacher,
        teacher_dtype=str(steps['ours'].model.teacher.denoiser.dtype),
        steps={
            name: dict(
                summarize(seconds),
                images_per_second=1e3 * size / summarize(seconds)['median'],
            )
            for name, seconds in times.items()
        },
        parts=time_parts(steps['ours'], batches, args),
        arithmetic=count_arithmetic(steps, batches, args.device),
        feature_error=compare_features(steps, batches),
    )  # fmt: skip
    if args.device == 'cuda':
        result['gpu'] = torch.cuda.get_device_name()
    for name in times:
        if not steps[name].compiles():
            result['steps'][name]['not_compiled'] = True
        if REFERENCE in times:
            result['steps'][name]['reference_over'] = median_ratio(
                times[REFERENCE], times[name]
            )
    ratios = {
        'reference_over_ours': (REFERENCE, 'ours'),
        'ours_over_floor': ('ours', 'floor'),
    }
    for key, (above, below) in ratios.items():
        if {above, below} <= set(times):
            result[key] = median_ratio(times[above], times[below])[0]
    steps.clear()
    result['memory'] = {
        name: measure_memory(name, size, args)
        for name in names
        if name in (REFERENCE, 'ours')
    }
    if args.growth:
        result['growth'] = measure_memory('ours', size, args, args.growth)
    if len(args.batch) > 1:
        result['batches'] = measure_growth(cfg, args)
    if args.equal:
        result['student_difference'] = dict(
            compare_students(cfg, batches, args.equal, args.device),
            steps=args.equal,
        )
    if args.runner:
        result['runner'] = measure_runner(cfg, size, args.runner, args.device)
    print_report(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + '\n')
    return result


if __name__ == '__main__':
    main()
