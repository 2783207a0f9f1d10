"""The command line of training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, List, Optional

from repfusion_mm.cli.files import check_file
from repfusion_mm.cli.parser import make_parser

if TYPE_CHECKING:
    from mmengine.runner import Runner


def build_runner(argv: Optional[List[str]] = None) -> Runner:
    """Build the runner of a command line; None stands for ``sys.argv[1:]``."""
    args = parse_args(argv)
    check_file(args.config, 'a config')
    # Importing it takes seconds, which errors above need not wait for.
    from repfusion_mm.cli.runner import make_runner

    return make_runner(args)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the options of training."""
    return train_parser(
        'Train from a config: a teacher, a distillation or a finetuning.'
    ).parse_args(argv)


def train_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the options of training."""
    parser = make_parser(description)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from this checkpoint, or, without a value, from the '
        'latest one in the work directory',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train with mixed precision: bfloat16 on GPUs and CPUs that '
        'multiply it in hardware, else float16 (GPU only)',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the total batch size',
    )
    return parser
