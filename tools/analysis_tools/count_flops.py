"""Count the FLOP of a distillation and estimate its time and cost.

    count_flops.py configs/distill/repfusion_r18_cifar.py --images 50000
    count_flops.py --teachers

The second command prints what each teacher of configs/_base_/teachers costs
for one image, as a table in Markdown; list_layers.py lists a teacher's layers.

torch counts the operations of the configured architectures on meta tensors.
One multiply-add is two FLOP, and a backward counts as two forwards. The
policy and the decoder are small and left out.

Hours and milliseconds are estimates: FLOP divided by the rate that a GPU is
assumed to sustain, and the bytes that a ring all-reduce of the gradients
sends, 2 (n - 1) / n of their size, divided by the assumed bandwidth.
"""

import argparse
import sys
from typing import List, Optional

from mmengine.utils import to_2tuple

from repfusion_mm.cli import add_cfg_options, report_errors, script_parser
from repfusion_mm.cli.argument_types import (
    find_teachers,
    positive_float,
    positive_int,
    read_teacher,
)

#: What a GPU is assumed to sustain, and to send: within a machine and between
#: machines.
TFLOPS = 50
BANDWIDTH = (200, 25)


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('config', nargs='?')
    what.add_argument(
        '--teachers', nargs='*', metavar='NAME',
        help='compare the teachers of configs/_base_/teachers, or those named',
    )  # fmt: skip
    parser.add_argument(
        '--images', type=positive_int, help='number of training images'
    )
    parser.add_argument(
        '--tflops', type=positive_float,
        help=f'TFLOP/s that a GPU sustains (default: {TFLOPS})',
    )  # fmt: skip
    parser.add_argument(
        '--gpus', type=positive_int, nargs='+',
        help='numbers of GPUs to compare',
    )  # fmt: skip
    parser.add_argument(
        '--bandwidth', type=positive_float, nargs=2, metavar='GB/s',
        help='of each GPU, within a machine of eight GPUs and between '
        f'machines (default: {BANDWIDTH[0]} {BANDWIDTH[1]})',
    )  # fmt: skip
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    names = ('images', 'tflops', 'gpus', 'bandwidth', 'cfg_options')
    given = [f'--{n.replace("_", "-")}' for n in names if getattr(args, n)]
    if args.config is None and given:
        parser.error(
            f'expected no {", ".join(given)} with --teachers, which counts '
            'one image; leave them out'
        )
    if args.bandwidth and not args.gpus:
        parser.error('expected --gpus with --bandwidth, got none; add it')
    args.tflops = args.tflops or TFLOPS
    args.bandwidth = args.bandwidth or BANDWIDTH
    with report_errors():
        if args.config is None:
            compare_teachers(args.teachers)
        else:
            count(args)
    return 0


def compare_teachers(names: List[str]) -> None:
    """Print the table of teachers."""
    # Not at the top: help and errors in options need not wait for torch.
    from repfusion_mm.analysis.teacher_costs import count_teacher
    from repfusion_mm.analysis.teacher_tables import (
        format_header,
        format_teacher,
    )

    print(format_header())
    for name in names or find_teachers():
        teacher = read_teacher(name)
        costs = count_teacher(teacher)
        layers = teacher.get('layers', [-1])
        print(format_teacher(name, layers, costs), flush=True)


def count(args: argparse.Namespace) -> None:
    """Print the FLOP of an image and the estimates for a run."""
    from repfusion_mm.analysis.flops import all_reduce_ms, count_distillation
    from repfusion_mm.cli.config import read_distillation

    cfg = read_distillation(args.config, args.cfg_options)
    cost = count_distillation(cfg)
    height, width = to_2tuple(cost.image_size)
    print(f'per image of {height} x {width}, in GFLOP:')
    for label, flop in (
        ('teacher, up to its last layer', cost.teacher),
        ('student, forward', cost.student),
        ('student, forward and backward', 3 * cost.student),
        ('teacher and student', cost.total),
    ):
        print(f'  {label:32} {flop / 1e9:8.1f}')
    size = cost.num_parameters / 1e6
    print(
        f'student: {size:.1f} M parameters; several GPUs all-reduce their '
        f'gradients, {4 * size:.1f} MB a step in float32'
    )
    batch = cfg.train_dataloader.batch_size
    compute = 1e3 * cost.total * batch / (args.tflops * 1e12)
    for gpus in args.gpus or ():
        send = all_reduce_ms(4e6 * size, gpus, args.bandwidth)
        print(
            f'{gpus} GPUs of {args.tflops:g} TFLOP/s, {batch} images each: '
            f'estimated {compute:.1f} ms of arithmetic a step and {send:.1f} '
            f'ms of all-reduce, {send / compute:.1%} of it'
        )
    epochs = cfg.train_cfg.get('max_epochs')
    iterations = cfg.train_cfg.get('max_iters')
    if args.images and not epochs:
        raise ValueError(
            f'expected a config by epochs with --images, got {iterations} '
            f'iterations in {args.config}; leave --images out'
        )
    text = ''
    if args.images:
        text, seen = f'{epochs} epochs of {args.images}', args.images * epochs
    elif iterations:
        text, seen = f'{iterations} iterations of {batch}', batch * iterations
    if text:
        flop = cost.total * seen
        hours = flop / (args.tflops * 1e12) / 3600
        print(
            f'{text} images: {flop / 1e15:.0f} PFLOP; at {args.tflops:g} '
            f'TFLOP/s estimated {hours:.1f} h on one GPU, {hours / 8:.1f} h '
            'on eight'
        )


if __name__ == '__main__':
    sys.exit(main())
