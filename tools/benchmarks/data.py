"""Measure how many images per second a config's data pipeline delivers.

    data.py configs/distill/repfusion_r18_cifar.py --workers 0 2

Times the config's own training loader (dataset, transforms, sampler,
collation) for each number of workers, and then its data preprocessor on one
batch. In training both run at the same time if there are workers, and one
after the other if there are none. If the data of a benchmark of images are
missing, synthetic images of their usual size are used.
"""

import argparse
import json
import sys
from statistics import median
from typing import Callable, Dict, List, Optional

import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.utils.dl_utils import set_multi_processing

from repfusion_mm.analysis import synthetic_data
from repfusion_mm.analysis.measuring import DEVICE, now
from repfusion_mm.cli import add_cfg_options, report_errors, script_parser
from repfusion_mm.cli.argument_types import (
    non_negative_int,
    output_file,
    positive_int,
)
from repfusion_mm.cli.config import read_config


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add('config')
    add(
        '--images', type=positive_int, default=5120, help='images of each pass'
    )
    add('--passes', type=positive_int, default=5, help='timed passes')
    add(
        '--workers',
        type=non_negative_int,
        nargs='+',
        help="default: the config's",
    )
    add(
        '--json',
        type=output_file,
        metavar='OUT',
        help='write all passes',
    )
    add_cfg_options(parser)
    return parser.parse_args(argv)


def measure_rates(name: str, run: Callable[[], int], passes: int) -> list:
    """Print and return the images per second of passes, after a warm-up.

    ``run()`` does one pass and returns its number of images.
    """
    rates = []
    for _ in range(passes + 1):
        begin = now()
        num_images = run()
        rates.append(num_images / (now() - begin))
    del rates[0]
    print(f'{name:30}{median(rates):8.0f} images/s')
    return rates


def measure(args: argparse.Namespace) -> Dict[str, object]:
    """Measure a config's loader and data preprocessor."""
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    set_multi_processing(**cfg.get('env_cfg', {}).get('mp_cfg', {}))
    settings = cfg.model.get('data_preprocessor') or cfg.data_preprocessor
    settings = {'type': 'mmpretrain.ClsDataPreprocessor', **settings}
    preprocessor = MODELS.build(settings).to(DEVICE)
    pipeline = {}
    for workers in args.workers or [cfg.train_dataloader.num_workers]:
        loader = synthetic_data.build_train_loader(
            cfg, args.images, num_workers=workers
        )
        pipeline[str(workers)] = measure_rates(
            f'pipeline, {workers} workers',
            lambda loader=loader: sum(len(b['inputs']) for b in loader),
            args.passes,
        )
    data = synthetic_data.describe_data(loader)
    print(f'data: {data}')
    batch = next(iter(loader))
    batch_size = len(batch['inputs'])
    repeats = range(max(1, args.images // batch_size))
    preprocessing = measure_rates(
        f'data preprocessor, {DEVICE}',
        lambda: sum(
            len(preprocessor(dict(batch), True)['inputs']) for _ in repeats
        ),
        args.passes,
    )
    return dict(
        config=args.config,
        data=data,
        batch_size=batch_size,
        device=DEVICE,
        torch_threads=torch.get_num_threads(),
        pipeline=pipeline,
        data_preprocessor=preprocessing,
    )


def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    with report_errors():
        report = measure(args)
        if args.json:
            args.json.write_text(
                json.dumps(report, indent=1) + '\n', encoding='utf-8'
            )
    return 0


if __name__ == '__main__':
    sys.exit(main())
