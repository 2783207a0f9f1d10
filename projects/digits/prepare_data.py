"""Write scikit-learn's 1,797 handwritten digits as a folder of images.

OUT/train/00000.png ...   1,297 images, 16 x 16
OUT/test/00000.png ...    500 images
OUT/train.txt, test.txt   one line "file label" per image
OUT/train_20.txt ...      the same for 2, 5 and 10 training images per digit
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import List, Optional

import cv2
import numpy as np
from sklearn.datasets import load_digits

from projects.study.labels import take_balanced, write_lines
from repfusion_mm.cli import report_errors

NUM_TEST = 500
#: Numbers of labeled images for which a list is written.
BUDGETS = (20, 50, 100)
IMAGE_SIZE = 16


def write_digits(out: Path, seed: int = 0) -> None:
    """Write images and label lists, each file atomically.

    Several processes may write the same folder, and others read it.

    Args:
        out: Folder to write into.
        seed: Seed of the split into training and test images.

    Raises:
        OSError: An image cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.writing-', dir=out) as name:
        temporary = Path(name)
        write_files(temporary, seed)
        # Images before the lists that name them.
        for file in [*temporary.rglob('*.png'), *temporary.glob('*.txt')]:
            target = out / file.relative_to(temporary)
            target.parent.mkdir(exist_ok=True)
            os.replace(file, target)


def write_files(out: Path, seed: int) -> None:
    """Write images and label lists into a new folder."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    splits = dict(train=order[NUM_TEST:], test=order[:NUM_TEST])
    for split, indices in splits.items():
        folder = out / split
        folder.mkdir()
        lines = []
        for i, index in enumerate(indices):
            image = np.clip(digits.images[index] * (255 / 16), 0, 255)
            image = cv2.resize(
                image.astype(np.uint8),
                (IMAGE_SIZE, IMAGE_SIZE),
                interpolation=cv2.INTER_LINEAR,
            )
            if not cv2.imwrite(str(folder / f'{i:05d}.png'), image):
                raise OSError(
                    f'expected to write images into {folder}, got an error '
                    'of OpenCV; choose another --out'
                )
            lines.append(f'{i:05d}.png {digits.target[index]}')
        write_lines(out / f'{split}.txt', lines)
        for budget in BUDGETS if split == 'train' else ():
            chosen = take_balanced(lines, budget)
            write_lines(out / f'train_{budget}.txt', chosen)


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--out', type=Path, default=Path('data/digits'))
    parser.add_argument(
        '--seed', type=int, default=0, help='of the split (default: 0)'
    )
    args = parser.parse_args(argv)
    with report_errors():
        write_digits(args.out, args.seed)
    print(f'wrote {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
