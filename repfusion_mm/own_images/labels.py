"""Read labels of any kind, and check that they fit the images."""

from __future__ import annotations

import json
import os.path as osp
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from PIL import Image

from repfusion_mm.datasets.image_files import read_list
from repfusion_mm.datasets.image_folder import ImageFolderDataset
from repfusion_mm.datasets.mask_folder import MaskFolderDataset
from repfusion_mm.models.utils.labels import UNLABELED
from repfusion_mm.own_images.images import Images, read_sizes

#: The pixels of so many label maps are read.
MAX_MASKS = 50
#: Classes of label maps are below; it is the class of pixels to ignore.
IGNORED = 255


class Labels(NamedTuple):
    """Labels of some images of a folder.

    Attributes:
        task: ``'classes'``, ``'masks'``, ``'keypoints'`` or ``'boxes'``.
        source: ``'folders'``, or the path of a list, folder or COCO file.
        names: Names of the keypoints, or of the classes of boxes.
        text: What was found, for a person.
    """

    task: str
    source: str
    names: Tuple[str, ...] = ()
    text: str = ''


def read_folders(images: Images) -> Labels:
    """Take the subfolders of a folder for classes."""
    dataset = ImageFolderDataset(data_root=images.root, with_label=True)
    labels = [int(label) for label in dataset.get_gt_labels()]
    names = {number: name for name, number in dataset.folder_to_idx.items()}
    return describe_classes('folders', labels, names)


def read_file(images: Images, path: str) -> Labels:
    """Read a list with a line ``path label`` for each labeled image."""
    path = osp.abspath(osp.expanduser(path))
    check_exists(path, '--labels')
    entries = read_list(path, True)
    check_names(images, [name for name, _ in entries], path)
    labels = [int(i) for _, i in entries if i not in (None, UNLABELED)]
    wrong = sorted({label for label in labels if label < 0})
    if wrong:
        raise ValueError(
            f'expected classes from 0, or {UNLABELED} for unlabeled images, '
            f'in {path}, got {wrong}; correct them'
        )
    return describe_classes(path, labels, {})


def describe_classes(
    source: str, labels: List[int], names: Dict[int, str]
) -> Labels:
    """Check the classes of images.

    Raises:
        ValueError: There are less than two classes, or less than two images
            of one of them.
    """
    counts = Counter(labels)
    if len(counts) < 2:
        raise ValueError(
            f'expected images of two classes or more, got {len(labels)} of '
            f'{sorted(counts) or "none"} ({source}); label images of other '
            'classes, or leave --labels out'
        )
    num_classes = max(*counts, *names) + 1
    rare = [str(names.get(i, i)) for i in range(num_classes) if counts[i] < 2]
    if rare:
        raise ValueError(
            f'expected two labeled images or more of each of {num_classes} '
            f'classes, got less of {", ".join(rare[:5])}'
            + ' ...' * (len(rare) > 5)
            + f' ({source}); label more images, or number the classes from 0'
        )
    low, high = min(counts.values()), max(counts.values())
    return Labels(
        'classes', source,
        text=f'{len(labels)} labeled images of {num_classes} classes, {low} '
        f'to {high} of each',
    )  # fmt: skip


def read_masks(images: Images, folder: str) -> Labels:
    """Read a folder of label maps.

    Raises:
        ValueError: The folder is among the images, a label map has another
            size than its image or several channels, or there is one class.
    """
    folder = osp.abspath(osp.expanduser(folder))
    check_exists(folder, '--masks')
    root = osp.realpath(images.root)
    if osp.commonpath([osp.realpath(folder), root]) == root:
        raise ValueError(
            f'expected --masks outside of the folder of the images, got '
            f'{folder}, whose label maps would be taken for images; give the '
            'folder that has only images'
        )
    dataset = MaskFolderDataset(masks=folder, data_root=images.root)
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    paths = [info['seg_map_path'] for info in infos]
    sizes = zip(
        read_sizes('', [i['img_path'] for i in infos]), read_sizes('', paths)
    )
    for path, (size, mask_size) in zip(paths, sizes):
        if size != mask_size:
            raise ValueError(
                'expected label maps of the size of their images, got '
                f'{path} of {mask_size[0]} x {mask_size[1]} for an image of '
                f'{size[0]} x {size[1]}; resize one of them'
            )
    classes = set()
    for path in paths[:MAX_MASKS]:
        with Image.open(path) as image:
            values = np.asarray(image)
        if values.ndim != 2:
            raise ValueError(
                'expected label maps of one channel, whose pixels are '
                f'classes, got {path} of shape {values.shape}; store the '
                'number of the class of each pixel'
            )
        classes |= {*np.unique(values).tolist()} - {IGNORED}
    if len(classes) < 2:
        raise ValueError(
            f'expected two classes or more in label maps, got '
            f'{sorted(classes)} in {min(len(paths), MAX_MASKS)} of them '
            f'({IGNORED} is ignored); store classes as 0, 1, ..., not as 0 '
            f'and {IGNORED}'
        )
    num_classes = int(max(classes)) + 1
    return Labels(
        'masks', folder,
        text=f'{len(paths)} label maps, of classes up to {num_classes - 1}',
    )  # fmt: skip


def read_coco(images: Images, path: str) -> Labels:
    """Read a COCO file of keypoints or boxes.

    Raises:
        ValueError: It is not such a file, its images are not those of the
            folder, or it labels nothing.
    """
    path = osp.abspath(osp.expanduser(path))
    check_exists(path, '--coco')
    content = load_json(path)
    files = {i['id']: i for i in content['images']}
    check_names(images, [i['file_name'] for i in files.values()], path)
    check_coco_sizes(images, [*files.values()], path)
    annotations = [
        i
        for i in content['annotations']
        if not i.get('iscrowd') and min(i.get('bbox', [0])[2:] or [0]) > 0
    ]
    strangers = [i for i in annotations if i['image_id'] not in files]
    if strangers:
        raise ValueError(
            f'expected annotations of the images in {path}, got '
            f'{len(strangers)} of others, such as image_id '
            f'{strangers[0]["image_id"]}; correct them'
        )
    points = [i for i in annotations if any(i.get('keypoints') or [])]
    if points:
        return describe_keypoints(path, content['categories'], points)
    if not annotations:
        raise ValueError(
            f'expected boxes or keypoints in {path}, got none in '
            f'{len(content["annotations"])} annotations (those of iscrowd or '
            'without an area do not count); label images'
        )
    names = tuple(
        i['name'] for i in sorted(content['categories'], key=lambda i: i['id'])
    )
    return Labels(
        'boxes', path, names,
        text=f'{len(annotations)} boxes of {len(names)} classes in '
        f'{len(files)} images',
    )  # fmt: skip


def describe_keypoints(
    path: str, categories: List[dict], annotations: List[dict]
) -> Labels:
    """Check that all instances have the same number of keypoints."""
    counts = Counter(len(i['keypoints']) // 3 for i in annotations)
    (number, _), *others = counts.most_common()
    if others or any(len(i['keypoints']) % 3 for i in annotations):
        raise ValueError(
            f'expected the same number of keypoints (x, y, visibility) in all '
            f'annotations of {path}, got {dict(counts)}; use a file for each '
            'category'
        )
    named = [i['keypoints'] for i in categories if i.get('keypoints')]
    names = named[0] if named and len(named[0]) == number else range(number)
    return Labels(
        'keypoints', path, tuple(map(str, names)),
        text=f'{len(annotations)} instances of {number} keypoints in '
        f'{len({i["image_id"] for i in annotations})} images',
    )  # fmt: skip


def load_json(path: str) -> Dict[str, Any]:
    """Read a COCO file.

    Raises:
        ValueError: It is no JSON, or has other lists.
    """
    lists = ('images', 'annotations', 'categories')
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        missing = [name for name in lists if name not in content]
    except (ValueError, TypeError) as error:
        raise ValueError(
            f'expected a COCO file (JSON) at {path}, got: {error}; export the '
            'labels as COCO'
        ) from error
    if missing or not isinstance(content, dict):
        raise ValueError(
            f'expected {", ".join(lists)} in {path}, got none of '
            f'{", ".join(missing)}; export the labels as COCO'
        )
    return content


def check_exists(path: str, option: str) -> None:
    """Refuse a path that does not exist."""
    if not osp.exists(path):
        raise FileNotFoundError(
            f'expected labels at {path}, got no such file or folder; correct '
            f'{option}'
        )


def check_names(images: Images, names: List[str], path: str) -> None:
    """Refuse labels of images that are not in the folder."""
    known = {osp.normpath(name) for name in images.names}
    missing = [name for name in names if osp.normpath(name) not in known]
    if not missing:
        return
    by_name: Dict[str, str] = {osp.basename(i): i for i in images.names}
    similar = by_name.get(osp.basename(missing[0]))
    hint = f' (there is {similar!r})' if similar else ''
    raise ValueError(
        f'expected images in {images.root} for all labels of {path}, got none '
        f'for {len(missing)} of {len(names)}, such as {missing[0]!r}{hint}; '
        'give paths relative to the folder of the images'
    )


def check_coco_sizes(images: Images, files: List[dict], path: str) -> None:
    """Refuse a COCO file of images of other sizes."""
    sizes = read_sizes(images.root, [i['file_name'] for i in files])
    for file, size in zip(files, sizes):
        stated = file.get('width'), file.get('height')
        if stated != size:
            raise ValueError(
                f'expected the sizes of the images in {path}, got '
                f'{stated[0]} x {stated[1]} for {file["file_name"]!r}, which '
                f'has {size[0]} x {size[1]}; were the images resized after '
                'they were labeled?'
            )


def read_labels(
    images: Images,
    labels: Optional[str],
    masks: Optional[str],
    coco: Optional[str],
) -> Optional[Labels]:
    """Read the labels that the options name, if any.

    Args:
        images: The images.
        labels: ``'folders'``, or the path of a list.
        masks: A folder of label maps.
        coco: A COCO file.
    """
    if labels == 'folders':
        return read_folders(images)
    if labels:
        return read_file(images, labels)
    if masks:
        return read_masks(images, masks)
    if coco:
        return read_coco(images, coco)
    return None
