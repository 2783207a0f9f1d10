"""What the archive of CelebAMask-HQ holds: images, masks, the split."""

import re
from pathlib import Path
from typing import Dict, List, Tuple

#: Classes 1 to 18, later ones painted over earlier ones; 0 is background.
PARTS = (
    'skin', 'l_brow', 'r_brow', 'l_eye', 'r_eye', 'eye_g', 'l_ear', 'r_ear',
    'ear_r', 'nose', 'mouth', 'u_lip', 'l_lip', 'neck', 'neck_l', 'cloth',
    'hair', 'hat',
)  # fmt: skip
SPLITS = ('train', 'val', 'test')
IMAGES, MASKS = 'CelebA-HQ-img', 'CelebAMask-HQ-mask-anno'

Parts = Dict[str, Path]


def read_split(root: Path, partition: Path) -> Dict[str, List[int]]:
    """Return the ids of each split, by CelebA's own partition.

    Raises:
        ValueError: A line that is not understood, or an image without place.
    """
    places = {}
    for number, line in read_lines(partition):
        fields = line.split()
        if len(fields) != 2 or fields[1] not in ('0', '1', '2'):
            raise ValueError(
                f'expected "file 0|1|2" in {partition}, line {number}, got '
                f'{line!r}'
            )
        places[fields[0]] = SPLITS[int(fields[1])]
    mapping = root / 'CelebA-HQ-to-CelebA-mapping.txt'
    splits: Dict[str, List[int]] = {name: [] for name in SPLITS}
    seen = set()
    for number, line in read_lines(mapping)[1:]:  # a header comes first
        fields = line.split()
        valid = len(fields) == 3 and fields[0].isdigit()
        if not valid or fields[2] not in places or fields[0] in seen:
            raise ValueError(
                f'expected "id id file" in {mapping}, line {number}, each id '
                f'once, the file listed in {partition}, got {line!r}'
            )
        seen.add(fields[0])
        splits[places[fields[2]]].append(int(fields[0]))
    if not seen:
        raise ValueError(f'expected images in {mapping}, got none')
    return splits


def read_lines(path: Path) -> List[Tuple[int, str]]:
    """Return the lines that are not blank, with their numbers."""
    if not path.is_file():
        raise ValueError(
            f'expected {path.name} at {path}, got no such file; see '
            'docs/benchmarks/celebamask_hq.md for what belongs where'
        )
    lines = enumerate(path.read_text().splitlines(), 1)
    return [(number, line) for number, line in lines if line.strip()]


def find_masks(root: Path) -> Dict[int, Parts]:
    """Find the part masks of each id, in folders of 2,000 ids."""
    masks: Dict[int, Parts] = {}
    for path in (root / MASKS).glob('*/*.png'):
        if path.name.startswith('.'):  # what file managers leave
            continue
        match = re.fullmatch(r'(\d{5})_(\w+)', path.stem)
        if match is None or match[2] not in PARTS:
            raise ValueError(
                f'expected ID_PART.png of the parts {PARTS}, got {path}'
            )
        masks.setdefault(int(match[1]), {})[match[2]] = path
    return masks


def check_sources(
    root: Path, splits: Dict[str, List[int]], masks: Dict[int, Parts]
) -> None:
    """Check that every id has an image and a mask of some part.

    Raises:
        ValueError: Some have not; their ids are listed.
    """
    ids = [i for name in SPLITS for i in splits[name]]
    no_image = [i for i in ids if not (root / IMAGES / f'{i}.jpg').is_file()]
    # One part may be hidden, but not all.
    no_mask = [i for i in ids if i not in masks]
    for what, missing in (('images', no_image), ('part masks', no_mask)):
        if missing:
            raise ValueError(
                f'expected {what} for all {len(ids)} ids in {root}, got none '
                f'for {len(missing)}: {missing[:20]}; unpack the archive '
                'again'
            )
