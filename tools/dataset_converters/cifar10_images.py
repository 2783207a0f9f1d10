"""List the images of CIFAR-10-images for mmpretrain's CustomDataset.

    cifar10_images.py [data/cifar10_images]

The folder is a checkout of the repository CIFAR-10-images, which has CIFAR-10
as {train,test}/CLASS/NNNN.jpg of 32 x 32 pixels. The script writes train.txt
and test.txt into it, one line "path class" per image. Classes are numbered in
sorted order; the lines are sorted by file name, then class, so that the first
10, 20, ... lines have all classes equally often.
"""

import sys
from pathlib import Path
from typing import List, Optional

from PIL import Image

from repfusion_mm.cli import report_errors, script_parser

CLASSES = (
    'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse',
    'ship', 'truck',
)  # fmt: skip
SIZES = dict(train=50_000, test=10_000)
IMAGE_SIZE = (32, 32)


def list_images(root: Path, split: str) -> List[Path]:
    """List the images of a split, by file name, then class."""
    folder = root / split
    found = {p.name for p in folder.glob('*') if p.is_dir()}
    if found != set(CLASSES):
        raise FileNotFoundError(
            f'expected the folders of {len(CLASSES)} classes in '
            f'{str(folder)!r}, got {sorted(set(CLASSES) - found)} missing '
            f'and {sorted(found - set(CLASSES))} unknown; give a checkout of '
            'CIFAR-10-images'
        )
    images = sorted(folder.glob('*/*.jpg'), key=lambda p: (p.name, p.parent))
    empty = sorted(set(CLASSES) - {path.parent.name for path in images})
    if empty:
        raise ValueError(
            f'expected images of all classes in {folder}, got none of '
            f'{empty}; check the repository out again'
        )
    return images


def check_image(path: Path) -> None:
    """Raise a ValueError if an image is damaged or has another size."""
    size = 'a damaged file'
    try:
        with Image.open(path) as image:
            image.load()
            size = image.size
    except (OSError, SyntaxError, ValueError):
        pass
    if size != IMAGE_SIZE:
        raise ValueError(
            f'expected an image of {IMAGE_SIZE} at {path}, got {size}; check '
            'the repository out again'
        )


def convert(root: Path) -> None:
    """Write both lists, after checking both."""
    lists = {split: list_images(root, split) for split in SIZES}
    for images in lists.values():
        for path in images:
            check_image(path)
    for split, images in lists.items():
        text = ''.join(
            f'{path.relative_to(root).as_posix()} '
            f'{CLASSES.index(path.parent.name)}\n'
            for path in images
        )
        path = root / f'{split}.txt'
        path.write_text(text, encoding='utf-8')
        print(f'{path}: {len(images)} images of {len(CLASSES)} classes')
    sizes = {split: len(images) for split, images in lists.items()}
    if sizes != SIZES:
        print(f'note: the complete dataset has {SIZES} images, got {sizes}')


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument('root', nargs='?', default='data/cifar10_images')
    args = parser.parse_args(argv)
    with report_errors():
        convert(Path(args.root))
    return 0


if __name__ == '__main__':
    sys.exit(main())
