"""Distill a teacher on a folder of images, with one command.

    distill_folder.py IMAGES --teacher work_dirs/ddpm_custom/teacher \\
        --labels labels.txt

It lists the images, checks the labels, writes a complete config into the work
directory, asks the probe which timestep to distill and whether the teacher is
worth it, distills, and says what the student has learned. It stops before the
distillation if the teacher is not worth it.

Labels are one of these; without labels, nothing can be said about the teacher:

    each subfolder of IMAGES is a class: --labels folders
    a line "path label" for each labeled image: --labels FILE.txt
    a label map for each labeled image, of the same name: --masks FOLDER
    keypoints or boxes in the COCO format: --coco FILE.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, Optional

from repfusion_mm.cli import add_cfg_options, report_errors, script_parser
from repfusion_mm.cli.argument_types import positive_int

DEFAULT_TEACHER = 'sd21'


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command; return its exit status.

    It is 1 if the teacher is not worth distilling, or the student not worth
    finetuning.
    """
    args = parse_args(argv)
    with report_errors():
        # Not at the top: help and errors in options need not wait for torch.
        from repfusion_mm.own_images.job import run

        return run(args, sys.argv[1:] if argv is None else argv)


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = script_parser(__doc__ or '')
    parser.add_argument('images', metavar='IMAGES', help='folder of images')
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument('--labels', metavar='FILE', help='classes, see above')
    kinds.add_argument('--masks', metavar='FOLDER', help='label maps')
    kinds.add_argument('--coco', metavar='FILE', help='keypoints or boxes')
    parser.add_argument(
        '--teacher', default=DEFAULT_TEACHER, metavar='NAME_OR_PATH',
        help='a file of configs/_base_/teachers, such as dinov2_b14, or the '
        'folder or hub id of a diffusers U-Net (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--student', nargs='+', metavar=('TYPE', 'key=value'),
        help='a backbone, such as mmpretrain.ResNet depth=50, or the config '
        'of your project, whose backbone is taken (default: a ResNet-18 for '
        'the size of the images)',
    )  # fmt: skip
    parser.add_argument(
        '--epochs',
        type=positive_int,
        help='(default: by the number of images)',
    )
    parser.add_argument(
        '--max-images', type=positive_int, metavar='N',
        help='largest number of labeled images to probe (default: 500; with '
        'more than 125 classes, four times their number, as far as the pixels '
        'fit into 4 GiB)',
    )  # fmt: skip
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/distill_folder'),
        help='folder of everything that is written (default: %(default)s)',
    )  # fmt: skip
    parser.add_argument(
        '--dry-run', action='store_true',
        help='stop when the config is written',
    )  # fmt: skip
    parser.add_argument(
        '--ignore-verdict', action='store_true',
        help='distill even if the probe says that the teacher is not worth it',
    )  # fmt: skip
    parser.add_argument(
        '--resume', action='store_true',
        help='resume an interrupted distillation in the work directory',
    )  # fmt: skip
    parser.add_argument(
        '--amp', action='store_true', help='train with mixed precision'
    )
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    for name in ('labels', 'masks', 'coco'):
        if getattr(args, name) == '':
            parser.error(f'expected a path for --{name}, got an empty one')
    return args
