"""Read a COCO file, and check the fields that mmdet and mmpose read."""

from __future__ import annotations

import json
import math
from reprlib import repr as shorten
from typing import Any, Callable, Dict, List, NamedTuple

from repfusion_mm.own_images.labels.base import find_repeated


class Kind(NamedTuple):
    """What the value of a field is."""

    text: str
    fits: Callable[[Any], bool]


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return is_integer(value) or isinstance(value, float)


def is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(fits, value))


INTEGER = Kind('an integer', is_integer)
NUMBER = Kind('a number', is_finite)
NAME = Kind('a name', lambda value: isinstance(value, str) and value != '')
BOX = Kind(
    'four numbers (x, y, width, height)',
    lambda value: is_list(value, is_finite) and len(value) == 4,
)
#: Coordinates of keypoints that do not count may be NaN.
POINTS = Kind(
    'numbers (x, y and visibility of each keypoint)',
    lambda value: is_list(value, is_number) and len(value) % 3 == 0,
)
#: The fields that each entry of the lists has.
FIELDS = dict(
    images=dict(id=INTEGER, file_name=NAME, width=NUMBER, height=NUMBER),
    categories=dict(id=INTEGER, name=NAME),
    annotations=dict(
        id=INTEGER, image_id=INTEGER, category_id=INTEGER, bbox=BOX
    ),
)
#: The fields of which no two entries have the same value.
UNIQUE = dict(images=('id',), categories=('id', 'name'), annotations=('id',))
#: The fields of annotations that are the ``id`` of an entry of a list.
REFERENCES = dict(image_id='images', category_id='categories')


def load_coco(path: str) -> Dict[str, List[dict]]:
    """Read a COCO file.

    Raises:
        ValueError: It is no JSON, or lists or fields are missing, have other
            values, are repeated, or refer to nothing.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except ValueError as error:
        raise ValueError(
            f'expected a COCO file (JSON) at {path}, got: {error}; export the '
            'labels as COCO'
        ) from error
    wrong = [
        name
        for name in FIELDS
        if not isinstance(content, dict)
        or not isinstance(content.get(name), list)
    ]
    if wrong:
        raise ValueError(
            f'expected the lists {", ".join(FIELDS)} in {path}, got none of '
            f'{", ".join(wrong)}; export the labels as COCO'
        )
    for name, fields in FIELDS.items():
        check_fields(path, name, content[name], fields)
        for field in UNIQUE[name]:
            check_unique(path, name, content[name], field)
    for field, name in REFERENCES.items():
        check_references(path, content, field, name)
    return content


def check_fields(
    path: str, name: str, entries: List[Any], fields: Dict[str, Kind]
) -> None:
    """Refuse an entry without a field, or with another kind of value.

    Args:
        path: The COCO file.
        name: Name of the list.
        entries: The list.
        fields: Kinds of the fields that each entry has.
    """
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(
                f'expected objects {{...}} in {name} of {path}, got '
                f'{shorten(entry)} at index {index}; correct it'
            )
        for field, kind in fields.items():
            if not kind.fits(entry.get(field)):
                has_id = INTEGER.fits(entry.get('id'))
                where = f'id {entry["id"]}' if has_id else f'index {index}'
                got = shorten(entry[field]) if field in entry else 'none'
                raise ValueError(
                    f'expected {kind.text} as "{field}" of the entry of '
                    f'{where} in {name} of {path}, got {got}; correct it'
                )


def check_unique(
    path: str, name: str, entries: List[dict], field: str
) -> None:
    """Refuse entries that have the same value of a field."""
    repeated = find_repeated(entry[field] for entry in entries)
    if repeated:
        raise ValueError(
            f'expected another "{field}" of each of the {name} of {path}, got '
            f'{repeated[0]!r} more than once; remove or rename the repeats'
        )


def check_references(
    path: str, content: Dict[str, List[dict]], field: str, name: str
) -> None:
    """Refuse annotations of an image or a category that is not listed."""
    known = {entry['id'] for entry in content[name]}
    wrong = [i for i in content['annotations'] if i[field] not in known]
    if wrong:
        raise ValueError(
            f'expected the id of one of the {name} as "{field}" of each '
            f'annotation of {path}, got {len(wrong)} others, such as '
            f'{wrong[0][field]} of the annotation of id {wrong[0]["id"]}; '
            f'add it to {name}, or remove the annotation'
        )
