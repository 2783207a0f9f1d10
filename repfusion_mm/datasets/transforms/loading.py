"""Load images, some of which may be damaged."""

from __future__ import annotations

import logging
from typing import Optional

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from repfusion_mm.registry import TRANSFORMS

CHOICES = ('raise', 'skip')


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image, and report its path if it cannot be read.

    mmcv's ``LoadImageFromFile`` does not report the path of an empty file, and
    with ``ignore_empty=True`` it skips damaged files silently.

    Args:
        on_error: ``'raise'``, or ``'skip'``: mmengine's ``BaseDataset`` draws
            another image instead, and the log reports the path and the number
            of images that this process skipped.
        **kwargs: Arguments of ``LoadImageFromFile`` except ``ignore_empty``.

    Raises:
        ValueError: ``on_error`` is neither. With ``'raise'``: an image is
            empty, damaged or missing, or has NaN or Inf values.
    """

    def __init__(self, on_error: str = 'raise', **kwargs) -> None:
        super().__init__(ignore_empty=False, **kwargs)
        if on_error not in CHOICES:
            raise ValueError(
                f'expected on_error to be one of {CHOICES}, got {on_error!r}'
            )
        self.on_error = on_error
        self.skipped: set = set()

    def transform(self, results: dict) -> Optional[dict]:
        """Load the image at ``results['img_path']``."""
        path = results['img_path']
        try:
            loaded = super().transform(results)
            image = loaded['img']
            if image.dtype.kind != 'f' or np.isfinite(image).all():
                return loaded
            reason = 'NaN or Inf values'
        except Exception as error:
            # OpenCV's messages have several lines.
            reason = ' '.join(str(error).split())
        if self.on_error == 'raise':
            raise ValueError(
                f'expected an image at {path!r}, got none ({reason}); fix or '
                "remove the file, or set on_error='skip' in the pipeline"
            )
        if path not in self.skipped:
            self.skipped.add(path)
            print_log(
                f'skipped {len(self.skipped)} damaged images in this process '
                f'so far, the last is {path} ({reason})',
                logger='current',
                level=logging.WARNING,
            )
        return None
