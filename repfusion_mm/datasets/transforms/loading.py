"""Read images, of which some may be damaged."""

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
    """Read an image, and name it where it cannot be read.

    mmcv's ``LoadImageFromFile`` does not name an empty file, and with
    ``ignore_empty=True`` says nothing at all. All other arguments are its, but
    for ``ignore_empty``.

    Args:
        on_error: ``'raise'``, or ``'skip'``: another image is drawn in its
            place, as mmengine's ``BaseDataset`` does; the log names the image,
            and counts those that each process skipped.

    Raises:
        ValueError: ``on_error`` is neither; or, with ``'raise'``, an image
            is empty, damaged or missing, or has values that are not finite.
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
        """Read ``results['img_path']``."""
        path = results['img_path']
        try:
            loaded = super().transform(results)
            image = loaded['img']
            if image.dtype.kind != 'f' or np.isfinite(image).all():
                return loaded
            reason = 'values that are not finite'
        except Exception as error:
            # OpenCV's errors have lines of their own.
            reason = ' '.join(str(error).split())
        if self.on_error == 'raise':
            raise ValueError(
                f'expected an image at {path!r}, got none ({reason}); mend or '
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
