"""Write the teacher's features of a config's training images to disk.

    python tools/cache_features.py CONFIG
    python tools/cache_features.py CONFIG --latents --views 4

The training dataset must be a repfusion_mm.CachedFeaturesDataset, which sets
the folder and the number of views of each image. tools/train.py then reads
the features instead of running the teacher.

With --latents, the tool writes the latents of the image encoder (VAE), which
do not depend on timestep, layer or noise, and a training config that uses
them. CONFIG needs no CachedFeaturesDataset then. See docs/feature_cache.md.
"""

import sys
from pathlib import Path
from typing import List, Optional

import torch
from mmengine.config import Config
from mmengine.device import get_device

from repfusion_mm.analysis.flops import count_distillation
from repfusion_mm.cli import load_config, make_parser, report_errors
from repfusion_mm.cli.argument_types import positive
from repfusion_mm.engine.feature_cache import (
    wrap_in_latents,
    write_feature_caches,
)

#: Where caches of latents, and the configs that train on them, are written.
LATENTS_FOLDER = Path('work_dirs', 'latents')


def main(argv: Optional[List[str]] = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--device',
        default=get_device(),
        help='device of the teacher, such as cpu or cuda:0 (default: '
        '%(default)s)',
    )
    parser.add_argument(
        '--batch-size', type=positive, help='default: as in training'
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='replace an existing cache when the new one is complete',
    )
    parser.add_argument(
        '--latents',
        action='store_true',
        help="write the image encoder's latents to work_dirs/latents",
    )
    parser.add_argument(
        '--views',
        type=positive,
        help='with --latents: number of views of each image (default: 1)',
    )
    args = parser.parse_args(argv)
    if args.views and not args.latents:
        parser.error(
            'expected --views only with --latents, got --views without '
            '--latents; set num_views of CachedFeaturesDataset in the config'
        )
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error(
            f'expected a GPU for --device {args.device}, got none; use '
            '--device cpu'
        )
    with report_errors():
        cfg, config_path = load_config(args), Path(args.config)
        if args.latents:
            print_encoder_share(cfg)
            views = args.views or 1
            cfg = wrap_in_latents(
                cfg, str(LATENTS_FOLDER / config_path.stem), views
            )
            config_path = LATENTS_FOLDER / f'{config_path.stem}_latents.py'
        write_feature_caches(cfg, args.device, args.batch_size, args.overwrite)
        if args.latents:
            cfg.dump(config_path)
            if views > 1:
                print(
                    f'An epoch has {views} times as many images as before: '
                    'divide train_cfg.max_epochs and the milestones of '
                    'param_scheduler by that.'
                )
    print(f'next: python tools/train.py {config_path}')
    return 0


def print_encoder_share(cfg: Config) -> None:
    """Print the share of the arithmetic of a step that latents save."""
    cost = count_distillation(cfg)
    if cost.encoder:
        print(
            f'image encoder: {cost.encoder / 1e9:.1f} of '
            f'{cost.total / 1e9:.1f} GFLOP per image and step '
            f'({cost.encoder / cost.total:.0%}), which cached latents save'
        )


if __name__ == '__main__':
    sys.exit(main())
