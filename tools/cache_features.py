"""Write the teacher's features of a config's training images to disk.

    python tools/cache_features.py CONFIG

The training dataset must be a repfusion_mm.CachedFeaturesDataset, which sets
the folder and the number of views of each image. tools/train.py then reads
the features instead of running the teacher. See docs/feature_cache.md.
"""

import sys
from typing import List, Optional

import torch
from mmengine.device import get_device

from repfusion_mm.cli import load_config, make_parser, report_errors
from repfusion_mm.cli.argument_types import positive
from repfusion_mm.engine.feature_cache import write_feature_caches


def main(argv: Optional[List[str]] = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument('--device', default=get_device())
    parser.add_argument(
        '--batch-size', type=positive, help='default: as in training'
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace an existing cache when the new one is complete',
    )
    args = parser.parse_args(argv)
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error(
            f'expected a GPU for --device {args.device}, got none; use '
            '--device cpu'
        )
    with report_errors():
        write_feature_caches(
            load_config(args), args.device, args.batch_size, args.overwrite
        )
    print(f'next: python tools/train.py {args.config}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
