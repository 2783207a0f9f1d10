"""Count the arithmetic of a distillation, and estimate what it costs.

    count_flops.py configs/distill/repfusion_r18_cifar.py --images 50000

Counted by torch on tensors without memory, of the true architectures; one
multiply-add is two FLOP, and a backward is taken as two forwards. Policy and
decoder are small and left out. Hours and milliseconds are estimates: FLOP,
divided by what a GPU is assumed to sustain; and the bytes that a ring
all-reduce of the gradients sends, 2 (n - 1) / n of them, over the bandwidth
that each GPU is assumed to have.
"""

import argparse
from pathlib import Path
from typing import Callable, List, Optional

import torch
from mmengine.config import DictAction
from mmengine.registry import MODELS, init_default_scope
from teacher_presets import KNOWN_TEACHERS
from torch.utils.flop_counter import FlopCounterMode

import repfusion_mm  # noqa: F401  # heals the stack before it is imported
from repfusion_mm.cli.argument_types import (
    above_zero,
    positive,
    read_distillation,
)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config')
    parser.add_argument('--images', type=positive, help='in the training set')
    parser.add_argument(
        '--tflops',
        type=above_zero,
        default=50,
        help='TFLOP/s that a GPU sustains (default: 50)',
    )
    parser.add_argument(
        '--gpus',
        type=positive,
        nargs='+',
        default=[],
        help='how many, to compare',
    )
    parser.add_argument(
        '--bandwidth',
        type=above_zero,
        nargs=2,
        default=(200, 25),
        metavar='GB/s',
        help='of a GPU, within a machine of eight and beyond it '
        '(default: 200 25)',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args(argv)


def build_teacher(teacher: dict) -> torch.nn.Module:
    """Build the teacher without memory.

    Raises:
        SystemExit: It is neither known nor on this disk.
    """
    teacher = dict(teacher)
    name = teacher.get('pretrained')
    if name in KNOWN_TEACHERS:
        teacher.pop('pretrained')
        teacher['config'] = KNOWN_TEACHERS[name]
    elif name is not None:
        if not Path(name).is_dir():
            raise SystemExit(
                f'error: expected a teacher among {list(KNOWN_TEACHERS)} or '
                f'on this disk, got {name!r}'
            )
        from diffusers import UNet2DModel

        config = UNet2DModel.load_config(name)
        teacher.pop('pretrained')
        teacher['config'] = dict(config, type=config['_class_name'])
    with torch.device('meta'):
        return MODELS.build(teacher)


def blank(side: int) -> torch.Tensor:
    """Return one image without memory."""
    return torch.zeros(1, 3, side, side, device='meta')


def count(run: Callable[[], object]) -> int:
    """Return the FLOP of ``run()``."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def all_reduce_ms(num_bytes: float, gpus: int, bandwidth: tuple) -> float:
    """Return the milliseconds of a ring all-reduce, without its latency."""
    sent = 2 * (gpus - 1) / gpus * num_bytes
    return 1e3 * sent / (bandwidth[gpus > 8] * 1e9)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    cfg = read_distillation(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    teacher = build_teacher(cfg.model.teacher)
    student = MODELS.build(cfg.model.student).to('meta')

    side = teacher.image_size
    timesteps = torch.zeros(1, dtype=torch.long, device='meta')
    of_teacher = count(lambda: teacher(blank(side), timesteps))
    own_side = cfg.model.get('input_size') or side
    of_student = count(lambda: student(blank(own_side)))
    total = of_teacher + 3 * of_student
    print(f'per image of {own_side} x {own_side}, in GFLOP:')
    print(f'  teacher, up to its last layer    {of_teacher / 1e9:8.1f}')
    print(f'  student, forward                 {of_student / 1e9:8.1f}')
    print(f'  student, forward and backward    {3 * of_student / 1e9:8.1f}')
    print(f'  teacher and student              {total / 1e9:8.1f}')
    size = sum(p.numel() for p in student.parameters()) / 1e6
    print(
        f'student: {size:.1f} M parameters; several GPUs all-reduce their '
        f'gradients, {4 * size:.1f} MB a step in float32'
    )
    batch = cfg.train_dataloader.batch_size
    compute = 1e3 * total * batch / (args.tflops * 1e12)
    for gpus in args.gpus:
        send = all_reduce_ms(4e6 * size, gpus, args.bandwidth)
        print(
            f'{gpus} GPUs of {args.tflops:g} TFLOP/s, {batch} images each: '
            f'estimated {compute:.1f} ms of arithmetic a step and {send:.1f} '
            f'ms of all-reduce, {send / compute:.1%} of it'
        )
    epochs = cfg.train_cfg.get('max_epochs')
    if args.images and epochs:
        flop = total * args.images * epochs
        hours = flop / (args.tflops * 1e12) / 3600
        print(
            f'{epochs} epochs of {args.images} images: {flop / 1e15:.0f} '
            f'PFLOP; at {args.tflops:g} TFLOP/s estimated {hours:.1f} h on '
            f'one GPU, {hours / 8:.1f} h on eight'
        )


if __name__ == '__main__':
    main()
