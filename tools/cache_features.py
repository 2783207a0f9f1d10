"""Write the teacher's features of a config's training images to disk.

    python tools/cache_features.py CONFIG
    python tools/cache_features.py CONFIG --latents --views 4

The training dataset must be a repfusion_mm.CachedFeaturesDataset, which sets
the folder and the number of views of each image. tools/train.py then reads
the features instead of running the teacher.

With --latents, the tool writes the latents of the image encoder (VAE), which
do not depend on timestep, layer or noise, and a training config that uses
them. CONFIG must not have a CachedFeaturesDataset then. See
docs/feature_cache.md.
"""

import argparse
import sys
from pathlib import Path
from typing import List, Optional

from mmengine.config import Config

from repfusion_mm.cli import config_parser, report_errors
from repfusion_mm.cli.argument_types import positive_int

#: Where caches of latents, and the configs that train on them, are written.
LATENTS_FOLDER = Path('work_dirs', 'latents')


def main(argv: Optional[List[str]] = None) -> int:
    parser = config_parser(__doc__)
    parser.add_argument(
        '--device',
        help='device of the teacher, such as cpu or cuda:0 (default: a GPU '
        'if there is one)',
    )
    parser.add_argument(
        '--batch-size', type=positive_int, help='default: as in training'
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
        type=positive_int,
        help='with --latents: number of views of each image (default: 1)',
    )
    args = parser.parse_args(argv)
    if args.views and not args.latents:
        parser.error(
            'expected --views only with --latents, got --views without '
            '--latents; set num_views of CachedFeaturesDataset in the config'
        )
    with report_errors():
        config_path = write_caches(args)
    options = ''
    if args.cfg_options and not args.latents:
        options = ', with the same --cfg-options'
    print(f'next: python tools/train.py {config_path}{options}')
    return 0


def write_caches(args: argparse.Namespace) -> Path:
    """Write the caches; return the config that trains on them."""
    # Not at the top: help and errors in options need not wait for torch.
    import torch
    from mmengine.device import get_device

    from repfusion_mm.cli.config import load_config
    from repfusion_mm.engine.feature_cache import (
        wrap_in_latents,
        write_feature_caches,
    )

    device = args.device or get_device()
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise ValueError(
            f'expected a GPU for --device {device}, got none; use --device cpu'
        )
    cfg, config_path = load_config(args), Path(args.config)
    if args.latents:
        print_encoder_share(cfg)
        views = args.views or 1
        cfg = wrap_in_latents(
            cfg, str(LATENTS_FOLDER / config_path.stem), views
        )
        config_path = LATENTS_FOLDER / f'{config_path.stem}_latents.py'
        if not config_path.exists():  # also if the caches are complete
            config_path.parent.mkdir(parents=True, exist_ok=True)
            cfg.dump(config_path)
    write_feature_caches(cfg, device, args.batch_size, args.overwrite)
    if args.latents:
        cfg.dump(config_path)
        if views > 1:
            print(
                f'An epoch has {views} times as many images as before: '
                'divide train_cfg.max_epochs and the milestones of '
                'param_scheduler by that.'
            )
    return config_path


def print_encoder_share(cfg: Config) -> None:
    """Print the share of the arithmetic of a step that latents save."""
    from repfusion_mm.analysis.flops import count_distillation

    cost = count_distillation(cfg)
    if cost.encoder:
        print(
            f'image encoder: {cost.encoder / 1e9:.1f} of '
            f'{cost.total / 1e9:.1f} GFLOP per image and step '
            f'({cost.encoder / cost.total:.0%}), which cached latents save'
        )


if __name__ == '__main__':
    sys.exit(main())
