"""Measure how many images a second a config's data pipeline gives.

    benchmark_data.py configs/distill/repfusion_r18_cifar.py --workers 0 2

The config's own training loader (data set, transforms, sampler, collation,
workers) is run alone, for each number of workers; then, alone too, its data
preprocessor on one batch. In training the two run beside each other where
there are workers, and one after the other where there are none. Where the
data are not on this disk, pictures of the usual size stand in for them.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Callable, Dict, List, Optional

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from mmengine.utils.dl_utils import set_multi_processing
from synthetic_data import build_train_loader, describe

import repfusion_mm  # noqa: F401  # heals the stack before it is imported


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config')
    parser.add_argument(
        '--images', type=int, default=5120, help='in a pass (default: 5120)'
    )
    parser.add_argument(
        '--passes', type=int, default=5, help='that count (default: 5)'
    )
    parser.add_argument(
        '--workers',
        type=int,
        nargs='+',
        help="numbers of worker processes (default: the config's)",
    )
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='of the data preprocessor (default: a GPU, if there is one)',
    )
    parser.add_argument('--json', type=Path, help='where to write all passes')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args(argv)
    if args.images < 1 or args.passes < 1:
        parser.error('expected --images and --passes of at least 1')
    return args


def measure(run: Callable[[], int], passes: int) -> List[float]:
    """Return the images a second of each pass, behind one that warms up.

    Args:
        run: Does a pass and returns its number of images.
        passes: Passes that count.
    """
    rates = []
    for _ in range(passes + 1):
        start = perf_counter()
        num_images = run()
        rates.append(num_images / (perf_counter() - start))
    return rates[1:]


def build_preprocessor(cfg: Config, device: str) -> torch.nn.Module:
    """Build the config's data preprocessor on a device."""
    config = cfg.model.get('data_preprocessor') or cfg.data_preprocessor
    with_type = {'type': 'mmpretrain.ClsDataPreprocessor', **config}
    return MODELS.build(with_type).to(device)


def measure_preprocessor(
    preprocessor: torch.nn.Module, batch: dict, images: int, passes: int
) -> List[float]:
    """Return the images a second of a data preprocessor, in training."""
    size = len(batch['inputs'])
    repeats = max(1, images // size)

    def run() -> int:
        for _ in range(repeats):
            preprocessor(dict(batch), training=True)
        if preprocessor.device.type == 'cuda':
            torch.cuda.synchronize()
        return repeats * size

    return measure(run, passes)


def show(name: str, rates: List[float]) -> None:
    print(
        f'{name:30}{median(rates):8.0f} images/s '
        f'({min(rates):.0f} - {max(rates):.0f})'
    )


def main(argv: Optional[List[str]] = None) -> Dict[str, object]:
    args = parse_args(argv)
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    set_multi_processing(**cfg.get('env_cfg', {}).get('mp_cfg', {}))

    pipeline: Dict[str, List[float]] = {}
    for workers in args.workers or [cfg.train_dataloader.num_workers]:
        loader = build_train_loader(
            cfg, num_workers=workers, num_images=args.images
        )
        if not pipeline:
            print(f'data: {describe(loader)}')

        def run(loader=loader) -> int:
            return sum(len(batch['inputs']) for batch in loader)

        pipeline[str(workers)] = measure(run, args.passes)
        show(f'pipeline, {workers} workers', pipeline[str(workers)])
    batch = next(iter(loader))
    own = measure_preprocessor(
        build_preprocessor(cfg, args.device), batch, args.images, args.passes
    )
    show(f'data preprocessor, {args.device}', own)
    report = dict(
        config=args.config,
        data=describe(loader),
        batch_size=len(batch['inputs']),
        device=args.device,
        torch_threads=torch.get_num_threads(),
        pipeline=pipeline,
        data_preprocessor=own,
    )
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    return report


if __name__ == '__main__':
    main()
