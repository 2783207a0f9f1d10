"""Convert CelebAMask-HQ: merge its part masks into label maps, write splits.

    celebamask_hq.py [data/CelebAMask-HQ] [--jobs 8]

The folder is the unpacked CelebAMask-HQ.zip together with CelebA's
list_eval_partition.txt. The script adds label_maps/ID.png with 19 classes,
splits/{train,val,test}.txt with the ids, and splits/train_images.txt with the
images for distillation. Run it again to verify that all files are there and
readable, or to resume an interrupted conversion; if masks have changed, remove
label_maps first.
"""

import itertools
import os
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import cv2
import numpy as np
from PIL import Image, PngImagePlugin
from rich.progress import track

from repfusion_mm.cli import report_errors, script_parser
from repfusion_mm.cli.argument_types import positive_int

#: Classes 1 to 18; later ones are drawn over earlier ones. 0 is background.
#: face-parsing.PyTorch has this order; MaskGAN's g_mask.py has another one.
PARTS = (
    'skin', 'l_brow', 'r_brow', 'l_eye', 'r_eye', 'eye_g', 'l_ear', 'r_ear',
    'ear_r', 'nose', 'mouth', 'u_lip', 'l_lip', 'neck', 'neck_l', 'cloth',
    'hair', 'hat',
)  # fmt: skip
SPLITS = ('train', 'val', 'test')
IMAGES, MASKS = 'CelebA-HQ-img', 'CelebAMask-HQ-mask-anno'
NUM_IMAGES = 30_000
#: The configs decode images at a half or a quarter of this size.
IMAGE_SIZE = (1024, 1024)
MASK_SIZE = (512, 512)

#: Paths of the masks of one image, by part.
Masks = Dict[str, Path]


def read_splits(root: Path, partition: Path) -> Dict[str, List[int]]:
    """Return the sorted ids of each split, from CelebA's own partition."""
    split_of = {}
    for number, line in read_lines(partition):
        fields = line.split()
        if len(fields) != 2 or fields[1] not in ('0', '1', '2'):
            raise ValueError(
                f'expected "file 0|1|2" in {partition}, line {number}, got '
                f'{line!r}; use the file of CelebA'
            )
        split_of[fields[0]] = SPLITS[int(fields[1])]
    mapping = root / 'CelebA-HQ-to-CelebA-mapping.txt'
    splits: Dict[str, List[int]] = {name: [] for name in SPLITS}
    seen = set()
    for number, line in read_lines(mapping)[1:]:  # the first is a header
        fields = line.split()
        valid = len(fields) == 3 and fields[0].isdigit()
        if not valid or fields[2] not in split_of or fields[0] in seen:
            raise ValueError(
                f'expected "id id file" in {mapping}, line {number}, each id '
                f'once and each file in {partition}, got {line!r}; unpack the '
                'archive again'
            )
        seen.add(fields[0])
        splits[split_of[fields[2]]].append(int(fields[0]))
    if not seen:
        raise ValueError(
            f'expected images in {mapping}, got none; unpack the archive again'
        )
    return {name: sorted(ids) for name, ids in splits.items()}


def read_lines(path: Path) -> List[Tuple[int, str]]:
    """Return the lines that are not blank with their numbers."""
    if not path.is_file():
        raise ValueError(
            f'expected {path.name} at {path}, got no such file; see '
            'docs/benchmarks/celebamask_hq.md for the layout of the folder'
        )
    lines = enumerate(path.read_text(encoding='utf-8').splitlines(), 1)
    return [(number, line) for number, line in lines if line.strip()]


def find_masks(root: Path) -> Dict[int, Masks]:
    """Return the part masks of each id."""
    masks: Dict[int, Masks] = {}
    for path in (root / MASKS).glob('*/*.png'):
        if path.name.startswith('.'):  # written by file managers
            continue
        match = re.fullmatch(r'(\d{5})_(\w+)', path.stem)
        if match is None or match[2] not in PARTS:
            raise ValueError(
                f'expected ID_PART.png of the parts {PARTS}, got {path}; '
                'remove it'
            )
        masks.setdefault(int(match[1]), {})[match[2]] = path
    return masks


def check_archive(root: Path, ids: List[int], masks: Dict[int, Masks]) -> None:
    """Check that every id has an image and at least one mask."""
    no_image = [i for i in ids if not (root / IMAGES / f'{i}.jpg').is_file()]
    no_mask = [i for i in ids if i not in masks]
    for what, missing in (('images', no_image), ('part masks', no_mask)):
        if missing:
            raise ValueError(
                f'expected {what} for all {len(ids)} ids in {root}, got none '
                f'for {len(missing)}: {missing[:20]}; unpack the archive '
                'again'
            )


def merge_masks(masks: Masks) -> np.ndarray:
    """Return the label map, a 512 x 512 array of uint8 in 0 to 18."""
    label_map = np.zeros(MASK_SIZE, dtype=np.uint8)
    for label, part in enumerate(PARTS, 1):
        if part not in masks:
            continue
        path = masks[part]
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if mask is None or mask.shape != MASK_SIZE:
            got = 'a damaged file' if mask is None else mask.shape
            raise ValueError(
                f'expected a mask of {MASK_SIZE} at {path}, got {got}; unpack '
                'the archive again'
            )
        label_map[mask > 0] = label
    return label_map


def is_valid(path: Path, masks: Masks) -> bool:
    """Return whether a label map is readable and made from these masks."""
    try:
        with Image.open(path) as image:
            label_map = np.asarray(image)
            same_parts = image.info.get('parts') == ' '.join(sorted(masks))
    except (OSError, SyntaxError):
        return False
    is_map = label_map.shape == MASK_SIZE and label_map.max() <= len(PARTS)
    return is_map and same_parts


def check_image(path: Path) -> None:
    """Raise a ValueError if an image is damaged or has another size."""
    try:
        with Image.open(path) as image:
            got: object = image.size
            image.draft('L', (1, 1))  # a fast way to read all of a JPEG
            image.load()
    except (OSError, SyntaxError, ValueError):
        got = 'a damaged file'
    if got != IMAGE_SIZE:
        raise ValueError(
            f'expected an image of {IMAGE_SIZE} at {path}, got {got}; unpack '
            'the archive again: images of another size are not supported'
        )


def convert(task: Tuple[int, Masks], root: Path) -> Optional[str]:
    """Write one label map unless a valid one exists; return the error."""
    number, masks = task
    path = root / 'label_maps' / f'{number}.png'
    try:
        check_image(root / IMAGES / f'{number}.jpg')
        if is_valid(path, masks):
            return None
        label_map = merge_masks(masks)
    except ValueError as error:
        return str(error)
    info = PngImagePlugin.PngInfo()
    info.add_text('parts', ' '.join(sorted(masks)))
    unfinished = path.with_name(f'.{number}.tmp')
    Image.fromarray(label_map).save(unfinished, format='PNG', pnginfo=info)
    os.replace(unfinished, path)
    valid = is_valid(path, masks)
    return None if valid else f'{path}: cannot be read; check the disk'


def convert_all(
    root: Path, ids: List[int], masks: Dict[int, Masks], jobs: int
) -> None:
    """Write the label maps of all ids."""
    (root / 'label_maps').mkdir(exist_ok=True)
    tasks = [(i, masks[i]) for i in ids]
    try:
        with ProcessPoolExecutor(jobs) as pool:
            write = partial(convert, root=root)
            results = pool.map(write, tasks, chunksize=16)
            results = track(results, 'writing label maps', total=len(tasks))
            errors = [error for error in results if error]
    except BrokenProcessPool as error:
        raise RuntimeError(
            'expected all processes to finish, got one that was killed, '
            'perhaps for lack of memory; run the command again with fewer '
            '--jobs to resume'
        ) from error
    if errors:
        raise ValueError(
            f'expected to write {len(ids)} label maps, got {len(errors)} '
            'errors:\n  ' + '\n  '.join(errors[:20])
        )


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument(
        'root', nargs='?', default='data/CelebAMask-HQ',
        help='the unpacked CelebAMask-HQ.zip',
    )  # fmt: skip
    parser.add_argument(
        '--partition', help="CelebA's list_eval_partition.txt, if not in root"
    )
    parser.add_argument(
        '--jobs', type=positive_int, default=os.cpu_count(),
        help='number of processes',
    )  # fmt: skip
    args = parser.parse_args(argv)
    root = Path(args.root)
    with report_errors():
        partition = Path(args.partition or root / 'list_eval_partition.txt')
        splits = read_splits(root, partition)
        ids = sorted(itertools.chain(*splits.values()))
        masks = find_masks(root)
        check_archive(root, ids, masks)
        convert_all(root, ids, masks, args.jobs)
        images = [f'{i}.jpg' for i in splits['train']]
        (root / 'splits').mkdir(exist_ok=True)
        for name, entries in dict(splits, train_images=images).items():
            text = ''.join(f'{entry}\n' for entry in entries)
            (root / f'splits/{name}.txt').write_text(text, encoding='utf-8')
    sizes = ', '.join(f'{len(splits[name])} {name}' for name in SPLITS)
    print(f'{root}: {len(ids)} label maps, {sizes}')
    counts = Counter(part for i in ids for part in masks[i])
    print('masks:', ', '.join(f'{part} {counts[part]}' for part in PARTS))
    if len(ids) != NUM_IMAGES:
        print(f'note: the complete dataset has {NUM_IMAGES} images')
    return 0


if __name__ == '__main__':
    sys.exit(main())
