"""List the images of Tiny-ImageNet for mmpretrain's CustomDataset.

    tiny_imagenet.py [data/tiny-imagenet-200]

The folder is the unpacked tiny-imagenet-200.zip. The script writes
meta/train.txt and meta/val.txt into it, one line "path class" per image.
Classes are numbered in the sorted order of wnids.txt.
"""

import sys
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from repfusion_mm.cli import report_errors, script_parser

Entry = Tuple[str, int]
SIZES = dict(train=100_000, val=10_000)


def read_classes(root: Path) -> Dict[str, int]:
    """Return the class of each WordNet id, in sorted order."""
    for name in ('wnids.txt', 'train', 'val/val_annotations.txt'):
        if not (root / name).exists():
            raise FileNotFoundError(
                f'expected {name} in {str(root)!r}, got none; give the folder '
                'of the unpacked tiny-imagenet-200.zip'
            )
    wnids = sorted((root / 'wnids.txt').read_text(encoding='utf-8').split())
    if not wnids or len(set(wnids)) < len(wnids):
        raise ValueError(
            f'expected unique WordNet ids in {root / "wnids.txt"}, got '
            f'{len(wnids)} ids, {len(set(wnids))} of them unique; unpack the '
            'archive again'
        )
    return {wnid: number for number, wnid in enumerate(wnids)}


def list_train(root: Path, classes: Dict[str, int]) -> List[Entry]:
    """List train/WNID/images/*.JPEG with their classes."""
    return [
        (str(path.relative_to(root)), number)
        for wnid, number in classes.items()
        for path in sorted((root / 'train' / wnid / 'images').glob('*.JPEG'))
    ]


def list_val(root: Path, classes: Dict[str, int]) -> List[Entry]:
    """List val/images with the classes of val/val_annotations.txt."""
    annotations = root / 'val' / 'val_annotations.txt'
    entries = []
    for number, line in enumerate(
        annotations.read_text(encoding='utf-8').splitlines(), 1
    ):
        fields = line.split('\t')
        if len(fields) < 2 or fields[1] not in classes:
            raise ValueError(
                f'expected a file and one of {len(classes)} WordNet ids in '
                f'{annotations}, line {number}, got {line!r}'
            )
        if Path(fields[0]).name != fields[0]:
            raise ValueError(
                f'expected a file name in {annotations}, line {number}, got '
                f'the path {fields[0]!r}; unpack the original archive'
            )
        entries.append((f'val/images/{fields[0]}', classes[fields[1]]))
    return entries


def check(root: Path, name: str, entries: List[Entry], classes: dict) -> None:
    """Check that no file is missing or empty, and no class without images."""
    missing = [path for path, _ in entries if not has_content(root / path)]
    empty = sorted(set(classes.values()) - {number for _, number in entries})
    if missing or empty:
        raise ValueError(
            f'expected all images of {name} in {root}, got {len(missing)} '
            f'missing or empty files {missing[:5]} and {len(empty)} classes '
            f'without images {empty[:5]}; unpack the archive again'
        )


def has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def convert(root: Path) -> None:
    """Write both lists, after checking both."""
    classes = read_classes(root)
    lists = dict(train=list_train(root, classes), val=list_val(root, classes))
    for name, entries in lists.items():
        check(root, name, entries, classes)
    (root / 'meta').mkdir(exist_ok=True)
    for name, entries in lists.items():
        path = root / 'meta' / f'{name}.txt'
        path.write_text(
            ''.join(f'{p} {c}\n' for p, c in entries), encoding='utf-8'
        )
        print(f'{path}: {len(entries)} images of {len(classes)} classes')
    sizes = {name: len(entries) for name, entries in lists.items()}
    if sizes != SIZES:
        print(f'note: the complete dataset has {SIZES} images, got {sizes}')


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument('root', nargs='?', default='data/tiny-imagenet-200')
    args = parser.parse_args(argv)
    with report_errors():
        convert(Path(args.root))
    return 0


if __name__ == '__main__':
    sys.exit(main())
