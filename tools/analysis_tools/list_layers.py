"""List the layers of a teacher that output maps, and the cost up to each.

    list_layers.py sd21
    list_layers.py google/ddpm-cifar10-32 --depth 2
    list_layers.py flux_dev --filter 'single_transformer_blocks.9.*'

TEACHER is a config (of a distillation, or one of configs/_base_/teachers), the
name of one of configs/_base_/teachers, or the folder or hub id of a diffusers
pipeline. Everything is computed from its configs on meta tensors: no weights
are read. A teacher of configs/_base_/teachers needs no network.

GFLOP are for one image, one multiply-add as two, from the start of the pass
to the end of the layer. Parameters are those of the modules that run until
then. A teacher that exits after this layer also encodes the image: the last
column is the encoder's part of all GFLOP.
"""

import argparse
import sys
from typing import List, Optional

from repfusion_mm.cli import report_errors, script_parser
from repfusion_mm.cli.argument_types import positive_int, read_teacher


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument('teacher', metavar='TEACHER')
    parser.add_argument(
        '--input-size', type=positive_int, nargs='+', metavar='PIXELS',
        help='side of the images, or height and width; sets '
        'model.teacher.input_size',
    )  # fmt: skip
    parser.add_argument(
        '--depth', type=positive_int, default=1,
        help='1: blocks (default), 2: also their parts, and so on',
    )  # fmt: skip
    parser.add_argument(
        '--filter', metavar='PATTERN',
        help="layers of any depth whose path matches, such as '*.norm1'",
    )  # fmt: skip
    args = parser.parse_args(argv)
    with report_errors():
        list_layers(args)
    return 0


def list_layers(args: argparse.Namespace) -> None:
    """Print the layers of the teacher."""
    teacher = read_teacher(args.teacher)
    # Not at the top: help and errors in options need not wait for torch.
    from repfusion_mm.analysis.teacher_costs import count_teacher
    from repfusion_mm.analysis.teacher_tables import format_layers

    if args.input_size:
        size = args.input_size
        teacher['input_size'] = size[0] if len(size) == 1 else size
    costs = count_teacher(teacher)
    for line in format_layers(costs, args.depth, args.filter):
        print(line)


if __name__ == '__main__':
    sys.exit(main())
