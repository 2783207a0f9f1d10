"""Paint CelebAMask-HQ's part masks into label maps, and write its split.

    celebamask_hq.py [data/CelebAMask-HQ] [--partition list_eval_partition.txt]

The folder is the unpacked CelebAMask-HQ.zip, with CelebA's
list_eval_partition.txt beside it. Into it go label_maps/ID.png, with 19
classes, and splits/{train,val,test}.txt with the ids and
splits/train_images.txt with the files to distil on. Call it again to go on
where it was stopped, and to check what it wrote.
"""

import argparse
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import List, Optional, Tuple

import cv2
import numpy as np
from celebamask_sources import (
    IMAGES,
    PARTS,
    SPLITS,
    Parts,
    check_sources,
    find_masks,
    read_split,
)
from PIL import Image, PngImagePlugin
from rich.progress import track

SIZE = (512, 512)
#: Configs decode images at a half or a quarter of this.
IMAGE_SIZE = (1024, 1024)
NUM_IMAGES = 30_000


def paint(parts: Parts) -> np.ndarray:
    """Return the label map, 512 x 512, of uint8 in 0 to 18.

    Raises:
        ValueError: A mask cannot be read, or is of another size.
    """
    label_map = np.zeros(SIZE, dtype=np.uint8)
    for label, part in enumerate(PARTS, 1):
        if part not in parts:
            continue
        mask = cv2.imread(str(parts[part]), cv2.IMREAD_GRAYSCALE)
        if mask is None or mask.shape != SIZE:
            got = 'a damaged file' if mask is None else mask.shape
            raise ValueError(
                f'expected a mask of {SIZE} at {parts[part]}, got {got}'
            )
        label_map[mask > 0] = label
    return label_map


def is_sound(path: Path, parts: Parts) -> bool:
    """Say whether a label map is there, whole, in range and of all parts."""
    try:
        with Image.open(path) as image:
            label_map = np.asarray(image)
            painted = image.info.get('parts')
    except (OSError, SyntaxError):
        return False
    return (
        label_map.shape == SIZE
        and label_map.max() <= len(PARTS)
        and painted == ' '.join(sorted(parts))
    )


def check_image(path: Path) -> None:
    """Raise a ValueError for a damaged image, or one of another size."""
    try:
        with Image.open(path) as image:
            size = image.size
    except OSError:
        size = 'a damaged file'
    if size != IMAGE_SIZE:
        raise ValueError(
            f'expected an image of {IMAGE_SIZE} at {path}, got {size}'
        )


def convert(task: Tuple[int, Parts], root: Path) -> Optional[str]:
    """Write one label map, unless it is there; return what went wrong."""
    number, parts = task
    path = root / 'label_maps' / f'{number}.png'
    try:
        check_image(root / IMAGES / f'{number}.jpg')
        if is_sound(path, parts):
            return None
        label_map = paint(parts)
    except ValueError as error:
        return str(error)
    info = PngImagePlugin.PngInfo()
    info.add_text('parts', ' '.join(sorted(parts)))
    unfinished = path.with_name(f'.{number}.tmp')
    Image.fromarray(label_map).save(unfinished, format='PNG', pnginfo=info)
    os.replace(unfinished, path)
    if not is_sound(path, parts):
        return f'{path}: written, but cannot be read'
    return None


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', nargs='?', default='data/CelebAMask-HQ')
    parser.add_argument(
        '--partition', help="CelebA's list_eval_partition.txt, if elsewhere"
    )
    parser.add_argument(
        '--jobs', type=int, default=os.cpu_count(), help='processes'
    )
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    root = Path(args.root)
    partition = Path(args.partition or root / 'list_eval_partition.txt')
    splits = read_split(root, partition)
    masks = find_masks(root)
    check_sources(root, splits, masks)

    (root / 'label_maps').mkdir(exist_ok=True)
    ids = sorted(i for name in SPLITS for i in splits[name])
    work = partial(convert, root=root)
    tasks = [(i, masks[i]) for i in ids]
    with ProcessPoolExecutor(max(args.jobs, 1)) as pool:
        results = pool.map(work, tasks, chunksize=16)
        faults = list(track(results, 'painting label maps', total=len(tasks)))
    faults = [fault for fault in faults if fault]
    if faults:
        raise ValueError(
            f'{len(faults)} of {len(ids)} label maps were not written:\n  '
            + '\n  '.join(faults[:20])
        )
    (root / 'splits').mkdir(exist_ok=True)
    for name in SPLITS:
        write_list(root / 'splits' / f'{name}.txt', sorted(splits[name]))
    files = [f'{i}.jpg' for i in sorted(splits['train'])]
    write_list(root / 'splits' / 'train_images.txt', files)
    sizes = ', '.join(f'{len(splits[name])} {name}' for name in SPLITS)
    print(f'{root}: {len(ids)} label maps, {sizes}')
    counts = Counter(part for i in ids for part in masks[i])
    print('masks:', ', '.join(f'{part} {counts[part]}' for part in PARTS))
    if len(ids) != NUM_IMAGES:
        print(f'note: the whole data set has {NUM_IMAGES} images')


def write_list(path: Path, entries: List) -> None:
    path.write_text(''.join(f'{entry}\n' for entry in entries))


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
    except BrokenProcessPool:
        sys.exit(
            'error: a process was killed, perhaps for memory; call again, '
            'with fewer --jobs, to go on'
        )
    except KeyboardInterrupt:
        sys.exit('stopped; call again to go on')
