"""A folder of images with labels of each kind, in their real layouts."""

import json
from pathlib import Path

import cv2
import numpy as np

from repfusion_mm.own_images.images import list_images
from repfusion_mm.own_images.labels import read_labels

SIDE = 16
CLASSES = ('circle', 'square')


def make_folder(root: Path, num_images: int = 24) -> Path:
    """Write images of a bright square in one half, and labels of all kinds.

    ``images`` has a folder for each class, ``labels.txt`` classes, ``masks``
    label maps, and ``boxes.json`` and ``points.json`` are COCO files.
    """
    rng = np.random.default_rng(0)
    (root / 'images').mkdir(parents=True)
    lines, files, boxes, points = [], [], [], []
    for i in range(num_images):
        label = i % 2
        image = rng.integers(0, 90, (SIDE, SIDE, 3), dtype=np.uint8)
        x, y, size = 1 + 8 * label, int(rng.integers(1, 9)), 6
        image[y : y + size, x : x + size] += 150
        name = f'{CLASSES[label]}/{i}.jpg'
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[y : y + size, x : x + size] = 1 + label
        for folder, content in (('images', image), ('masks', mask)):
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if folder == 'masks':
                path = path.with_suffix('.png')
            cv2.imwrite(str(path), content)
        lines.append(f'{name} {label}\n')
        files.append(dict(id=i, file_name=name, width=SIDE, height=SIDE))
        common = dict(
            id=i, image_id=i, bbox=[x, y, size, size], area=size**2, iscrowd=0
        )
        boxes.append(dict(common, category_id=1 + label))
        corners = [x, y, 2, x + size, y, 2, x, y + size, 2]
        points.append(
            dict(common, category_id=1, keypoints=corners, num_keypoints=3)
        )
    (root / 'labels.txt').write_text(''.join(lines))
    categories = [dict(id=i + 1, name=n) for i, n in enumerate(CLASSES)]
    names = ['left', 'right', 'bottom']
    for name, annotations, kinds in (
        ('boxes', boxes, categories),
        ('points', points, [dict(id=1, name='square', keypoints=names)]),
    ):
        content = dict(images=files, annotations=annotations, categories=kinds)
        (root / f'{name}.json').write_text(json.dumps(content))
    return root


#: The options that name the labels, by task.
OPTIONS = dict(
    classes=('--labels', 'labels.txt'),
    folders=('--labels', 'folders'),
    masks=('--masks', 'masks'),
    keypoints=('--coco', 'points.json'),
    boxes=('--coco', 'boxes.json'),
)


def read(root: Path, task: str):
    """Read the labels of a task in a folder of ``make_folder``."""
    option, name = OPTIONS[task]
    if name != 'folders':
        name = str(root / name)
    kinds = {'labels': None, 'masks': None, 'coco': None, option[2:]: name}
    return read_labels(list_images(str(root / 'images')), **kinds)


def edit(path: Path, function) -> None:
    """Change a JSON file."""
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))
