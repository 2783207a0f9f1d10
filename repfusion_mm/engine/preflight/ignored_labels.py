"""Find the class of pixels that no loss counts."""

from __future__ import annotations

import itertools
from typing import Any

from repfusion_mm.datasets.wrappers import (
    get_transforms,
    iter_leaves,
    iter_paths,
)


def check_ignored(dataset: Any, model: Any) -> None:
    """Refuse pixels that the data ignores and the decoder would learn."""
    own = getattr(model.decoder, 'ignore_index', None)
    if own is None:
        return
    values = []
    for part in itertools.chain(*iter_paths(dataset)):
        for owner, name in (
            (part, 'ignore_index'),
            *((i, 'seg_pad_val') for i in get_transforms(part)),
        ):
            value = getattr(owner, name, own)
            values.append((f'{name} of {type(owner).__name__}', value))
    preprocessor = model.data_preprocessor
    if getattr(preprocessor, 'size', None) or getattr(
        preprocessor, 'size_divisor', None
    ):
        value = getattr(preprocessor, 'seg_pad_val', own)
        values.append(('data_preprocessor.seg_pad_val', value))
    for name, value in values:
        if value != own and value in range(model.decoder.num_classes):
            raise ValueError(
                f'expected the class that the decoder ignores ({own}) as '
                f'{name}, got {value}, which the decoder would learn; set '
                f'model.decoder.ignore_index={value}, or correct the other'
            )


def find_ignore_index(dataset: Any, model: Any) -> int:
    """Return the class of pixels to ignore: the decoder's, or without a
    decoder for masks the dataset's, or 255."""
    index = getattr(model.decoder, 'ignore_index', None)
    if index is not None:
        return index
    parts = (getattr(i, 'ignore_index', None) for i in iter_leaves(dataset))
    return next((i for i in parts if i is not None), 255)
