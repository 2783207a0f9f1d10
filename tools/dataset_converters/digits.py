"""Write scikit-learn's 1,797 handwritten digits as a folder of images.

OUT/train/00000.png ...   1,297 images, 16 x 16
OUT/test/00000.png ...    500 images
OUT/train.txt, test.txt   lines "file label" for all of them
OUT/train_20.txt ...      the same for 2, 5 and 10 images of each digit
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits

NUM_TEST = 500
BUDGETS = (20, 50, 100)
SIDE = 16


def convert(out: Path, seed: int) -> None:
    """Write the images and lists into ``out``."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    splits = dict(train=order[NUM_TEST:], test=order[:NUM_TEST])
    for split, indices in splits.items():
        folder = out / split
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        for i, index in enumerate(indices):
            image = np.clip(digits.images[index] * (255 / 16), 0, 255)
            image = cv2.resize(
                image.astype(np.uint8), (SIDE, SIDE), cv2.INTER_CUBIC
            )
            if not cv2.imwrite(str(folder / f'{i:05d}.png'), image):
                raise OSError(f'could not write into {folder}')
            lines.append(f'{i:05d}.png {digits.target[index]}')
        write_lines(out / f'{split}.txt', lines)
        if split == 'train':
            for budget in BUDGETS:
                write_lines(
                    out / f'train_{budget}.txt', balanced(lines, budget)
                )


def balanced(lines: list, budget: int) -> list:
    """Take the first ``budget`` lines with as many of each label."""
    labels = sorted({line.split()[1] for line in lines})
    each = budget // len(labels)
    return sorted(
        line
        for label in labels
        for line in [s for s in lines if s.split()[1] == label][:each]
    )


def write_lines(path: Path, lines: list) -> None:
    path.write_text('\n'.join(lines) + '\n')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--out', type=Path, default=Path('data/digits'))
    parser.add_argument(
        '--seed', type=int, default=0, help='of the split (default: 0)'
    )
    args = parser.parse_args()
    convert(args.out, args.seed)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    try:
        main()
    except OSError as error:
        sys.exit(f'error: {error}; choose another --out')
