"""Read the classes of images, from a list or from subfolders."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Dict, List

from repfusion_mm.datasets.image_files import read_list
from repfusion_mm.datasets.image_folder import ImageFolderDataset
from repfusion_mm.models.utils.labels import UNLABELED
from repfusion_mm.own_images.images import Images
from repfusion_mm.own_images.labels.base import (
    Labels,
    check_names,
    find_path,
)


def read_folders(images: Images) -> Labels:
    """Take the subfolders of a folder for classes."""
    dataset = ImageFolderDataset(data_root=images.root, with_label=True)
    labels = [int(label) for label in dataset.get_gt_labels()]
    names = {number: name for name, number in dataset.folder_to_idx.items()}
    return describe_classes('folders', labels, names)


def read_list_file(images: Images, path: str) -> Labels:
    """Read a list with a line ``path label`` for each labeled image."""
    path = find_path('--labels', path)
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
    rare = (str(names.get(i, i)) for i in range(num_classes) if counts[i] < 2)
    # A number may be an identifier, such as 10000000.
    first = [*islice(rare, 6)]
    if first:
        raise ValueError(
            f'expected two labeled images or more of each of {num_classes} '
            f'classes, got less of {", ".join(first[:5])}'
            + ' ...' * (len(first) > 5)
            + f' ({source}); label more images, or number the classes from 0'
        )
    low, high = min(counts.values()), max(counts.values())
    return Labels(
        'classes', source,
        text=f'{len(labels)} labeled images of {num_classes} classes, {low} '
        f'to {high} of each',
        num_classes=num_classes,
    )  # fmt: skip
