"""Crop the faces of P1_Facial_Keypoints (Udacity), annotated for mmpose.

    facial_keypoints.py [data/P1_Facial_Keypoints/data]
        [--out data/facial_keypoints] [--size 80]

The folder has images in training/ and test/ and 68 points for each image, in
the order of 300W, in {training,test}_frames_keypoints.csv. Images are named
PERSON_VF.jpg: frame F of video V. test/ has other frames of the videos in
training/, so its score would reward memorizing persons. Therefore the script
splits all frames by person: every fourth person, in alphabetical order,
is in test.

The script writes images/{train,test}/FOLDER_NAME.jpg, one square crop per face
(JPEG, quality 95), and annotations/{train,test}.json for mmpose's
Face300WDataset with data_prefix=dict(img='images/').

A crop is 25 / 16 times as large as the larger side of the box of its points.
The bounding box is the inner 4 / 5 of the crop and leaves a margin of 25%
around the points; the rest is for shifts and rotations in augmentation.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import cv2
import numpy as np
from PIL import Image

from repfusion_mm.cli import report_errors, script_parser
from repfusion_mm.cli.argument_types import positive_int
from repfusion_mm.utils.folders import check_no_others

FOLDERS = ('training', 'test')
NUM_FACES = 4232
#: Of the sorted persons, every fourth is in test.
TEST_STRIDE = 4
NUM_POINTS = 68
#: Side of the bounding box, in longer sides of the box around the points.
MARGIN = 1.25
#: Side of the crop, in sides of the bounding box.
CONTEXT = 1.25
#: mmpose stores the side of a box of 300W in units of 200 pixels.
PIXEL_STD = 200

#: Points of each image file of a folder, 68 x 2 arrays of x, y in pixels.
Points = Dict[str, np.ndarray]


def read_points(path: Path) -> Points:
    """Return the points of a table."""
    if not path.is_file():
        raise FileNotFoundError(
            f'expected {path.name} in {str(path.parent)!r}, got none; give '
            'the folder data of P1_Facial_Keypoints'
        )
    points: Points = {}
    with path.open(encoding='utf-8', newline='') as file:
        for number, row in enumerate(csv.reader(file), 1):
            if number > 1:  # the first line is a header
                where = f'in {path}, line {number}'
                name, values = parse_row(row, where)
                if Path(name).name != name or name in points:
                    raise ValueError(
                        f'expected a file name, each once, {where}, got '
                        f'{name!r}; remove the row'
                    )
                points[name] = values
    if not points:
        raise ValueError(f'expected images in {path}, got an empty table')
    return points


def parse_row(row: List[str], where: str) -> Tuple[str, np.ndarray]:
    """Return the file and the 68 x 2 coordinates of a row."""
    if len(row) != 1 + 2 * NUM_POINTS:
        raise ValueError(
            f'expected a file and {2 * NUM_POINTS} coordinates {where}, got '
            f'{len(row)} fields; get the table again'
        )
    try:
        points = np.array(row[1:], dtype=float).reshape(NUM_POINTS, 2)
    except ValueError:
        points = np.full((NUM_POINTS, 2), np.nan)
    if not np.isfinite(points).all():
        raise ValueError(
            f'expected {2 * NUM_POINTS} finite numbers {where}, got '
            f'{", ".join(row[1:4])}, ...; get the table again'
        )
    if len(np.unique(points, axis=0)) < 2:
        raise ValueError(
            f'expected at least 2 distinct points {where}, got '
            f'{NUM_POINTS} times {points[0].tolist()}; remove the row'
        )
    return row[0], points


def check_images(folder: Path, points: Points) -> None:
    """Check that all images exist, are readable and have the points.

    Points may be outside of an image, but by less than its own size.
    """
    missing = [name for name in points if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f'expected {len(points)} images in {folder}, got none for '
            f'{len(missing)}: {missing[:5]}; unpack the archive again'
        )
    for name, values in points.items():
        height, width = read_image(folder / name).shape[:2]
        if np.any(np.abs(values / [width, height] - 0.5) > 1.5):
            raise ValueError(
                f'expected points near {folder / name} of {width} x {height} '
                f'pixels, got x, y of {values.min(axis=0).tolist()} to '
                f'{values.max(axis=0).tolist()}; correct or remove the row'
            )


def read_image(path: Path) -> np.ndarray:
    """Return an image, an H x W x 3 array of uint8 in RGB."""
    try:
        with Image.open(path) as image:
            return np.array(image.convert('RGB'))
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f'expected an image at {path}, got a damaged file; unpack the '
            'archive again'
        ) from error


def crop(
    image: np.ndarray, points: np.ndarray, size: int
) -> Tuple[np.ndarray, np.ndarray]:
    """Crop a square around the points and resize it.

    The corners of the square are rounded to whole pixels, and pixels outside
    of the image repeat those at its border. Coordinates are those of cv2: the
    center of the top left pixel is (0, 0).

    Args:
        image: H x W x 3 array.
        points: N x 2 array of x, y.
        size: Side of the result, in pixels.

    Returns:
        The crop, a ``size`` x ``size`` x 3 array, and the points in it.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    side = int(np.ceil(MARGIN * CONTEXT * (high - low).max()))
    left, top = np.round((low + high + 1 - side) / 2).astype(int)
    height, width = image.shape[:2]
    # A border on each side makes any square lie inside.
    border = max(0, -left, -top, left + side - width, top + side - height)
    image = cv2.copyMakeBorder(
        image, border, border, border, border, cv2.BORDER_REPLICATE
    )
    left, top = left + border, top + border
    image = image[top : top + side, left : left + side]
    interpolation = cv2.INTER_AREA if size < side else cv2.INTER_LINEAR
    image = cv2.resize(image, (size, size), interpolation=interpolation)
    # cv2.resize aligns the corners of the outer pixels, not their centers.
    return image, (points + border - [left, top] + 0.5) * size / side - 0.5


def annotate(number: int, points: np.ndarray, size: int) -> Dict[str, Any]:
    """Return the annotation of a crop in the format of COCO."""
    keypoints = np.insert(points.round(3), 2, 2, axis=1)  # 2 is visible
    side = size / CONTEXT
    corner = (size - side) / 2
    return dict(
        id=number,
        image_id=number,
        category_id=1,
        iscrowd=0,
        keypoints=keypoints.ravel().tolist(),
        num_keypoints=NUM_POINTS,
        bbox=[corner, corner, side, side],
        center=[size / 2, size / 2],
        scale=side / PIXEL_STD,
        area=side**2,
    )


def split_persons(tables: Dict[str, Points]) -> Dict[str, List[Path]]:
    """Return the images of each split, relative to the root."""
    images = [
        Path(folder, name)
        for folder, points in tables.items()
        for name in points
    ]
    persons = sorted({person(image) for image in images})
    held_out = {*persons[::TEST_STRIDE]}
    return dict(
        train=[image for image in images if person(image) not in held_out],
        test=[image for image in images if person(image) in held_out],
    )


def person(image: Path) -> str:
    """Return PERSON of PERSON_VF.jpg."""
    return image.stem.rpartition('_')[0]


def crop_name(image: Path) -> str:
    """Return the file name of the crop of an image."""
    return f'{image.parent}_{image.stem}.jpg'


def write(
    root: Path,
    points_by_image: Dict[Path, np.ndarray],
    out: Path,
    split: str,
    size: int,
) -> Dict[str, Any]:
    """Write the crops of a split; return its annotations.

    Args:
        root: Folder of the images.
        points_by_image: Points of each image, by its path relative to the
            root.
        out: Folder to write into.
        split: Name of the split.
        size: Side of the crops, in pixels.
    """
    (out / 'images' / split).mkdir(parents=True, exist_ok=True)
    entries, annotations = [], []
    for number, (path, points) in enumerate(points_by_image.items(), 1):
        image, moved = crop(read_image(root / path), points, size)
        file = f'{split}/{crop_name(path)}'
        Image.fromarray(image).save(out / 'images' / file, quality=95)
        entries.append(
            dict(id=number, file_name=file, height=size, width=size)
        )
        annotations.append(annotate(number, moved, size))
    category = dict(id=1, name='face', supercategory='face')
    return dict(images=entries, annotations=annotations, categories=[category])


def convert(root: Path, out: Path, size: int) -> None:
    """Write all crops, then the annotations."""
    tables = {
        folder: read_points(root / f'{folder}_frames_keypoints.csv')
        for folder in FOLDERS
    }
    for folder, points in tables.items():
        check_images(root / folder, points)
    splits = {
        split: {path: tables[path.parent.name][path.name] for path in paths}
        for split, paths in split_persons(tables).items()
    }
    for split, faces in splits.items():  # removed rows change the split
        names = [crop_name(path) for path in faces]
        check_no_others(out / 'images' / split, names)
    (out / 'annotations').mkdir(parents=True, exist_ok=True)
    paths = {s: out / 'annotations' / f'{s}.json' for s in splits}
    for path in paths.values():  # annotations stand for complete crops
        path.unlink(missing_ok=True)
    content = {
        split: write(root, images, out, split, size)
        for split, images in splits.items()
    }
    for split, path in paths.items():
        path.write_text(json.dumps(content[split]), encoding='utf-8')
        persons = {person(image) for image in splits[split]}
        print(f'{path}: {len(splits[split])} faces of {len(persons)} persons')
    for folder, points in tables.items():
        unlisted = {p.name for p in (root / folder).iterdir()} - {*points}
        if unlisted:
            print(
                f'note: {len(unlisted)} files of {root / folder} are not in '
                'its table'
            )
    num_faces = sum(map(len, tables.values()))
    if num_faces != NUM_FACES:
        print(
            f'note: the complete dataset has {NUM_FACES} faces, got '
            f'{num_faces}'
        )


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument(
        'root', nargs='?', default='data/P1_Facial_Keypoints/data'
    )
    parser.add_argument('--out', default='data/facial_keypoints')
    parser.add_argument(
        '--size', type=positive_int, default=80,
        help='side of the crops, in pixels',
    )  # fmt: skip
    args = parser.parse_args(argv)
    with report_errors():
        convert(Path(args.root), Path(args.out), args.size)
    return 0


if __name__ == '__main__':
    sys.exit(main())
