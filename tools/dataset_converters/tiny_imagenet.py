"""List the images of Tiny-ImageNet, as mmpretrain's CustomDataset reads them.

    tiny_imagenet.py [data/tiny-imagenet-200]

The folder is the unpacked tiny-imagenet-200.zip. meta/train.txt and
meta/val.txt are written into it, with a line "path class" for each image;
classes are numbered in the order of wnids.txt, sorted.
"""

import argparse
import sys
from pathlib import Path
from typing import Dict, List, Optional, Tuple

Entry = Tuple[str, int]
SIZES = dict(train=100_000, val=10_000)


def read_classes(root: Path) -> Dict[str, int]:
    """Number the WordNet ids, sorted as mmpretrain sorts folders."""
    wnids = sorted((root / 'wnids.txt').read_text().split())
    if not wnids or len(set(wnids)) < len(wnids):
        raise ValueError(
            f'expected WordNet ids in {root / "wnids.txt"}, each once, got '
            f'{len(wnids)}, of which {len(set(wnids))} differ'
        )
    return {wnid: number for number, wnid in enumerate(wnids)}


def list_train(root: Path, classes: Dict[str, int]) -> List[Entry]:
    """List train/WNID/images/*.JPEG."""
    return [
        (str(path.relative_to(root)), number)
        for wnid, number in classes.items()
        for path in sorted((root / 'train' / wnid / 'images').glob('*.JPEG'))
    ]


def list_val(root: Path, classes: Dict[str, int]) -> List[Entry]:
    """List val/images by val/val_annotations.txt: file, WNID and a box."""
    annotations = root / 'val' / 'val_annotations.txt'
    entries = []
    for number, line in enumerate(annotations.read_text().splitlines(), 1):
        fields = line.split('\t')
        if len(fields) < 2 or fields[1] not in classes:
            raise ValueError(
                f'expected a file and one of {len(classes)} WordNet ids in '
                f'{annotations}, line {number}, got {line!r}'
            )
        if Path(fields[0]).name != fields[0]:
            raise ValueError(
                f'expected the name of a file in {annotations}, line '
                f'{number}, got the path {fields[0]!r}; do not trust this list'
            )
        entries.append((f'val/images/{fields[0]}', classes[fields[1]]))
    return entries


def is_there(path: Path) -> bool:
    """Say whether there is a file with anything in it."""
    return path.is_file() and path.stat().st_size > 0


def check(root: Path, name: str, entries: List[Entry], classes: dict) -> None:
    """Check that the files are there, and that every class has some."""
    missing = [path for path, _ in entries if not is_there(root / path)]
    empty = sorted(set(classes.values()) - {number for _, number in entries})
    if missing or empty:
        raise ValueError(
            f'expected all images of {name} in {root}, got {len(missing)} '
            f'missing or empty files {missing[:5]} and {len(empty)} classes '
            f'without images {empty[:5]}; unpack the archive again'
        )


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('root', nargs='?', default='data/tiny-imagenet-200')
    root = Path(parser.parse_args(argv).root)
    classes = read_classes(root)
    lists = dict(
        train=list_train(root, classes), val=list_val(root, classes)
    )  # fmt: skip
    for name, entries in lists.items():
        check(root, name, entries, classes)
    (root / 'meta').mkdir(exist_ok=True)
    for name, entries in lists.items():
        path = root / 'meta' / f'{name}.txt'
        path.write_text(''.join(f'{p} {c}\n' for p, c in entries))
        print(f'{path}: {len(entries)} images of {len(classes)} classes')
    sizes = {name: len(entries) for name, entries in lists.items()}
    if sizes != SIZES:
        print(f'note: the whole data set has {SIZES} images, here are {sizes}')


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
