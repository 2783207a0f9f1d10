"""What labels of all kinds have in common."""

from __future__ import annotations

import os.path as osp
from collections import Counter
from typing import Dict, Hashable, Iterable, List, NamedTuple, Tuple, TypeVar

from repfusion_mm.own_images.images import Images

#: What the value of each option is, and how to test it.
OPTIONS = {
    '--labels': ('"folders", or a file of lines "path label"', osp.isfile),
    '--masks': ('a folder of label maps', osp.isdir),
    '--coco': ('a COCO file (JSON)', osp.isfile),
}


H = TypeVar('H', bound=Hashable)


class Labels(NamedTuple):
    """Labels of some images of a folder.

    Attributes:
        task: ``'classes'``, ``'masks'``, ``'keypoints'`` or ``'boxes'``.
        source: ``'folders'``, or the path of a list, folder or COCO file.
        names: Names of the keypoints, or of the classes of boxes.
        text: Summary of the labels, to print.
        num_classes: Number of classes if ``task`` is ``'classes'``, else 0.
    """

    task: str
    source: str
    names: Tuple[str, ...] = ()
    text: str = ''
    num_classes: int = 0


def find_path(option: str, path: str) -> str:
    """Return the absolute path that is the value of an option.

    Raises:
        FileNotFoundError: It does not exist, or is a folder instead of a
            file, or the reverse.
    """
    expected, exists = OPTIONS[option]
    found = osp.abspath(osp.expanduser(path))
    if not exists(found):
        kind = 'is a folder' if osp.isdir(found) else 'is a file'
        raise FileNotFoundError(
            f'expected {option} to be {expected}, got {path!r}, which '
            + (kind if osp.exists(found) else 'does not exist')
            + f'; correct {option}'
        )
    return found


def check_names(images: Images, names: List[str], path: str) -> None:
    """Refuse labels of images that are not in the folder, or occur twice.

    Args:
        images: The images of the folder.
        names: Paths of the labeled images, relative to ``images.root``.
        path: The file with the labels, for the error message.

    Raises:
        ValueError: There is no such image, or an image is repeated.
    """
    known = {osp.normpath(name) for name in images.names}
    missing = [name for name in names if osp.normpath(name) not in known]
    if missing:
        by_name: Dict[str, str] = {osp.basename(i): i for i in images.names}
        similar = by_name.get(osp.basename(missing[0]))
        hint = f' (there is {similar!r})' if similar else ''
        raise ValueError(
            f'expected images in {images.root} for all labels of {path}, got '
            f'none for {len(missing)} of {len(names)}, such as '
            f'{missing[0]!r}{hint}; give paths relative to the folder of the '
            'images'
        )
    repeated = find_repeated(map(osp.normpath, names))
    if repeated:
        raise ValueError(
            f'expected each image once in {path}, got {len(repeated)} images '
            f'that are repeated, such as {repeated[0]!r}; remove the repeats: '
            'the probe is scored on images that it is not fitted to'
        )


def find_repeated(values: Iterable[H]) -> List[H]:
    """Return the values that occur more than once."""
    return [value for value, count in Counter(values).items() if count > 1]
