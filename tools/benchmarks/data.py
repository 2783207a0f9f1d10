"""Measure how many images per second a config's data pipeline delivers.

    data.py configs/distill/repfusion_r18_cifar.py --workers 0 2

Times the config's own training loader (data set, transforms, sampler,
collation) for each number of workers, and then its data preprocessor on one
batch. In training both run at the same time if there are workers, and one
after the other if there are none. If the data set is not on this disk,
synthetic images of its usual size are used.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Callable, Dict, List, Optional

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from mmengine.utils.dl_utils import set_multi_processing

from repfusion_mm.analysis.synthetic_data import (
    build_train_loader,
    describe_data,
)
from repfusion_mm.analysis.timing import synchronize
from repfusion_mm.cli import report_errors
from repfusion_mm.cli.argument_types import not_negative, positive


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config')
    add('--images', type=positive, default=5120,
        help='images in a pass (default: 5120)')  # fmt: skip
    add('--passes', type=positive, default=5,
        help='timed passes (default: 5)')  # fmt: skip
    add('--workers', type=not_negative, nargs='+',
        help="numbers of workers (default: the config's)")  # fmt: skip
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
        help='of the data preprocessor (default: a GPU, if any)')  # fmt: skip
    add('--json', type=Path, metavar='OUT', help='write all passes there')
    add('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args(argv)


def measure_rates(run: Callable[[], int], passes: int) -> List[float]:
    """Return the images per second of each pass, after one of warm-up.

    Args:
        run: Does one pass and returns its number of images.
        passes: Number of passes that count.
    """
    rates = []
    for _ in range(passes + 1):
        begin = perf_counter()
        num_images = run()
        rates.append(num_images / (perf_counter() - begin))
    return rates[1:]


def measure_loader(loader, passes: int) -> List[float]:
    """Return the images per second of a data loader."""
    return measure_rates(
        lambda: sum(len(batch['inputs']) for batch in loader), passes
    )


def measure_preprocessor(
    cfg: Config, batch: dict, args: argparse.Namespace
) -> List[float]:
    """Return the images per second of the data preprocessor in training."""
    config = cfg.model.get('data_preprocessor') or cfg.data_preprocessor
    with_type = {'type': 'mmpretrain.ClsDataPreprocessor', **config}
    preprocessor = MODELS.build(with_type).to(args.device)
    size = len(batch['inputs'])
    repeats = max(1, args.images // size)

    def run() -> int:
        for _ in range(repeats):
            preprocessor(dict(batch), training=True)
        synchronize(preprocessor.device.type)
        return repeats * size

    return measure_rates(run, args.passes)


def print_rates(name: str, rates: List[float]) -> None:
    print(
        f'{name:30}{median(rates):8.0f} images/s '
        f'({min(rates):.0f} - {max(rates):.0f})'
    )


def measure(args: argparse.Namespace) -> Dict[str, object]:
    """Measure a config's loader and data preprocessor, and print the rates."""
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    set_multi_processing(**cfg.get('env_cfg', {}).get('mp_cfg', {}))
    pipeline = {}
    for workers in args.workers or [cfg.train_dataloader.num_workers]:
        loader = build_train_loader(
            cfg, num_workers=workers, num_images=args.images
        )
        if not pipeline:
            print(f'data: {describe_data(loader)}')
        pipeline[str(workers)] = measure_loader(loader, args.passes)
        print_rates(f'pipeline, {workers} workers', pipeline[str(workers)])
    batch = next(iter(loader))
    rates = measure_preprocessor(cfg, batch, args)
    print_rates(f'data preprocessor, {args.device}', rates)
    return dict(
        config=args.config,
        data=describe_data(loader),
        batch_size=len(batch['inputs']),
        device=args.device,
        torch_threads=torch.get_num_threads(),
        pipeline=pipeline,
        data_preprocessor=rates,
    )


def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    with report_errors():
        report = measure(args)
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
