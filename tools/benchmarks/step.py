"""Time a distillation step against the reference implementation and a floor.

    step.py configs/distill/repfusion_r18_cifar.py --batch 32 --json step.json

One run times, round by round: the step of the paper's reference
implementation (complete U-Net, float32, one SGD); ours as configured; ours
with single options changed; and the floor, which is the student's forward and
backward and the teacher's forward up to its last layer, also with the
connectors between their channels. On a CPU, all but the
reference keep freed memory, as tools/train.py does; the reference is timed
with and without. With a latent teacher, ours and the floor are also timed on
cached latents. With --amp, all but the reference are trained with mixed
precision. Times are in milliseconds, memory is in MiB.
"""

import argparse
import itertools
import json
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pprint import pprint
from typing import Dict, List, Optional

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import MODELS, OPTIM_WRAPPERS, init_default_scope
from mmengine.runner import Runner

from repfusion_mm.analysis import measuring
from repfusion_mm.analysis.synthetic_data import (
    build_train_loader,
    describe_data,
)
from repfusion_mm.analysis.teacher_presets import resolve_teacher
from repfusion_mm.analysis.timed_steps import (
    CACHED,
    CONNECTED,
    KEEPING,
    NAMES,
    Step,
    count_arithmetic,
    time_batches,
    time_parts,
    time_steps,
)
from repfusion_mm.cli import add_cfg_options, report_errors, script_parser
from repfusion_mm.cli.argument_types import (
    non_negative_int,
    output_file,
    positive_int,
)
from repfusion_mm.cli.config import read_distillation
from repfusion_mm.cli.runner import use_amp
from repfusion_mm.utils.types import is_type

#: Steps after which memory is measured.
MEMORY_STEPS = 5


def measure_memory(name: str, args: argparse.Namespace) -> dict:
    """Measure the memory of a step in a new process."""
    spawn = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        try:
            return pool.submit(measure_own_memory, name, args).result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                f'expected the memory of {name!r}, got a killed process; '
                'lower --batch if memory is short'
            ) from error


def measure_own_memory(name: str, args: argparse.Namespace) -> dict:
    """Run steps in this process and return their memory in MiB.

    Returns:
        ``model``: of the parts before the first step. ``peak``: the most
        during the steps, including the parts. ``grown``: the growth after a
        fifth of the steps.
    """
    cfg = prepare_config(args)
    measuring.set_memory_policy(name != 'reference')
    batches, _ = read_batches(cfg, args.batch)
    before, _ = measuring.read_memory()
    step = Step(name, cfg)
    built, _ = measuring.read_memory()
    step.run(step.prepare(batches[0]))  # may compile, which does not count
    measuring.reset_peak()
    figures = []
    for batch in itertools.islice(itertools.cycle(batches), MEMORY_STEPS):
        step.run(step.prepare(batch))
        figures.append(measuring.read_memory())
    used, peaks = zip(*figures)
    return dict(
        steps=MEMORY_STEPS,
        model=round(built - before, 1),
        peak=round(peaks[-1] - before, 1),
        grown=round(used[-1] - used[MEMORY_STEPS // 5], 1),
    )


def measure_runner(cfg: Config, args: argparse.Namespace) -> dict:
    """Run mmengine's loop with the config's hooks and data loader.

    Returns:
        Mean milliseconds of the loop's iterations and of the step in them,
        and the loop's overhead as a share of the step.
    """
    warmup = max(2, args.runner // 10)
    model = MODELS.build(cfg.model)
    # No epoch ends meanwhile, as in a long run.
    num_images = 2 * (warmup + args.runner) * args.batch
    loader = build_train_loader(
        cfg, num_images, batch_size=args.batch, num_workers=0
    )
    timed = measuring.time_methods({'step': [(model, 'train_step')]})
    # Schedules and checkpoints by epoch do not fit a run by iterations.
    keys = ('optim_wrapper', 'custom_hooks', 'env_cfg', 'default_scope')
    hooks = dict(cfg.get('default_hooks', {}), checkpoint=None)
    with tempfile.TemporaryDirectory() as work_dir, timed as calls:
        Runner(
            model=model, work_dir=work_dir, train_dataloader=loader,
            train_cfg=dict(by_epoch=False, max_iters=warmup + args.runner),
            log_level='WARNING', default_hooks=hooks,
            **{k: cfg[k] for k in keys if k in cfg},
        ).train()  # fmt: skip
    begins, ends = zip(*calls['step'][warmup - 1 :])
    loop = 1e3 * (ends[-1] - ends[0]) / args.runner
    step = 1e3 * (sum(ends[1:]) - sum(begins[1:])) / args.runner
    return dict(
        iterations=args.runner, loop=loop, step=step, overhead=loop / step - 1
    )


def prepare_config(args: argparse.Namespace) -> Config:
    """Read the config, with a teacher that needs no network."""
    cfg = read_distillation(args.config, args.cfg_options)
    cfg.model.teacher, cfg.random_teacher = resolve_teacher(cfg.model.teacher)
    if measuring.DEVICE == 'cpu' and is_type(
        cfg.optim_wrapper, AmpOptimWrapper, OPTIM_WRAPPERS
    ):
        cfg.optim_wrapper.type = 'OptimWrapper'  # it needs a GPU
    if args.amp:
        use_amp(cfg)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    # Otherwise each model would log the initialization of its parameters.
    MMLogger.get_instance('benchmark', log_level='WARNING')
    return cfg


def read_batches(cfg: Config, size: int) -> tuple:
    """Return four batches of the config's pipeline, and their description."""
    loader = build_train_loader(cfg, 4 * size, batch_size=size, num_workers=0)
    return list(itertools.islice(loader, 4)), describe_data(loader)


def measure_steps(cfg: Config, args: argparse.Namespace) -> dict:
    """Measure what needs no other process and no runner."""
    batches, data = read_batches(cfg, args.batch)
    names = [name for name in NAMES if name in (*args.variants, 'ours')]
    if measuring.DEVICE == 'cuda' and KEEPING in names:
        names.remove(KEEPING)  # the allocator of the GPU keeps memory anyway
    steps = {n: Step(n, cfg) for n in names if n not in CACHED}
    if getattr(steps['ours'].model.teacher.live, 'encoder', None) is None:
        names = [*steps]  # no latents
    steps.update({n: Step(n, cfg) for n in names if n not in steps})
    times = time_steps(steps, batches, args.rounds, args.warmup)
    ours = steps['ours']
    result = dict(
        config=args.config, device=measuring.DEVICE, batch=args.batch,
        amp=args.amp,
        threads=torch.get_num_threads(), torch=torch.__version__, data=data,
        random_teacher=cfg.random_teacher,
        teacher_dtype=str(next(ours.model.teacher.live.parameters()).dtype),
        steps={name: measuring.summarize(times[name]) for name in names},
        parts=time_parts(ours, batches[0], args.rounds),
        arithmetic=count_arithmetic(steps, batches[0]),
    )  # fmt: skip
    if measuring.DEVICE == 'cuda':
        result['gpu'] = torch.cuda.get_device_name()
    for name, figures in result['steps'].items():
        figures['images_per_second'] = 1e3 * args.batch / figures['median']
        if not steps[name].is_compiled:
            figures['not_compiled'] = True
        if 'reference' in names:
            ratio = compare(times['reference'], times[name])
            figures['reference_over'] = list(ratio.values())
    for above, below in (
        ('reference', 'ours'),
        ('ours', 'floor'),
        ('ours', CONNECTED),
        ('reference', CACHED[0]),
        CACHED,
    ):
        if {above, below} <= set(names):
            ratio = compare(times[above], times[below])
            result[f'{above}_over_{below}'] = ratio['median']
    return result


def measure_sweep(cfg: Config, args: argparse.Namespace) -> dict:
    """Measure ours with other numbers of images in a step."""
    step = Step('ours', cfg)
    return {
        size: time_batches(
            step, read_batches(cfg, size)[0], args.rounds, args.warmup
        )
        for size in args.sweep
    }


def compare(above: List[float], below: List[float]) -> Dict[str, float]:
    """Summarize the ratios within the rounds."""
    return measuring.summarize([a / b for a, b in zip(above, below)])


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add('config', help='of a distillation')
    add('--batch', type=positive_int, default=32, help='images in a step')
    add('--variants', nargs='+', choices=NAMES, default=NAMES,
        help='steps to time next to ours')  # fmt: skip
    add(
        '--amp',
        action='store_true',
        help='mixed precision, as tools/train.py --amp',
    )
    add('--rounds', type=positive_int, default=9, help='timed steps of each')
    add('--warmup', type=non_negative_int, default=2, help='steps before them')
    add(
        '--sweep',
        type=positive_int,
        nargs='+',
        default=[],
        metavar='N',
        help='also time ours with N images in a step',
    )
    add('--runner', type=non_negative_int, default=0,
        help="also time so many iterations of mmengine's loop")  # fmt: skip
    add('--json', type=output_file, metavar='OUT', help='write all figures')
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    with report_errors():
        cfg = prepare_config(args)
        # First, because a number of images may not be possible.
        sweep = measure_sweep(cfg, args) if args.sweep else {}
        result = measure_steps(cfg, args)
        names = {'reference', 'ours'} & {*result['steps']}
        result['memory'] = {
            name: measure_memory(name, args) for name in sorted(names)[::-1]
        }
        if sweep:
            result['sweep'] = sweep
        if args.runner:
            result['runner'] = measure_runner(cfg, args)
        text = json.dumps(result)  # printed with four digits
        pprint(
            json.loads(text, parse_float=lambda x: float(f'{float(x):.4g}')),
            sort_dicts=False,
            width=100,
        )
        if args.json:
            args.json.write_text(
                json.dumps(result, indent=2) + '\n', encoding='utf-8'
            )
    return 0


if __name__ == '__main__':
    sys.exit(main())
