"""Load images, some of which may be damaged."""

from __future__ import annotations

import errno
import logging
from typing import Optional

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from repfusion_mm.registry import TRANSFORMS
from repfusion_mm.utils.arguments import check_choice

CHOICES = ('raise', 'skip')
#: With ``on_error='skip'``, so many failures in a row stop the run.
MAX_FAILURES = 200
#: Errors of the process, which say nothing about a file.
OTHER_ERRORS = (ImportError, MemoryError)
OTHER_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image, and report its path if it cannot be read.

    mmcv's ``LoadImageFromFile`` does not report the path of an empty file, and
    with ``ignore_empty=True`` it skips damaged files silently. The decoder is
    tested when the transform is built.

    Args:
        on_error: ``'raise'``, or ``'skip'``: mmengine's ``BaseDataset`` draws
            another image instead, and the log reports the path and the number
            of images that this process skipped.
        **kwargs: Arguments of ``LoadImageFromFile`` except ``ignore_empty``.

    Raises:
        ValueError: ``on_error`` is neither, or ``imdecode_backend`` and
            ``color_type`` decode no image. With ``'raise'``: an image is
            empty, damaged or missing, or has NaN or Inf values. With
            ``'skip'``: 200 images in a row are.
    """

    def __init__(self, on_error: str = 'raise', **kwargs) -> None:
        super().__init__(ignore_empty=False, **kwargs)
        check_choice('LoadImage.on_error', on_error, CHOICES)
        self.on_error = on_error
        self.skipped: set = set()
        self.failures = 0
        check_decoder(self.imdecode_backend, self.color_type)

    def __setstate__(self, state: dict) -> None:
        """Prepare the decoder in a worker process that was spawned."""
        self.__dict__.update(state)
        check_decoder(self.imdecode_backend, self.color_type)

    def transform(self, results: dict) -> Optional[dict]:
        """Load the image at ``results['img_path']``."""
        path = results['img_path']
        advice = 'fix or remove the file'
        try:
            loaded = super().transform(results)
            image = loaded['img']
            if image.dtype.kind != 'f' or np.isfinite(image).all():
                self.failures = 0
                return loaded
            reason = 'NaN or Inf values'
        except OTHER_ERRORS:
            raise
        except Exception as error:
            number = getattr(error, 'errno', None)
            if number in OTHER_ERRNOS:
                raise
            if number is not None:  # of the file system
                advice = 'correct the path, or make the file readable'
            # OpenCV's messages have several lines.
            reason = ' '.join(str(error).split())
        if self.on_error == 'raise':
            raise ValueError(
                f'expected an image at {path!r}, got none ({reason}); '
                f"{advice}, or set on_error='skip' in the pipeline"
            )
        self.failures += 1
        if self.failures == MAX_FAILURES:
            raise ValueError(
                f'expected images that can be read, got {MAX_FAILURES} in a '
                f'row that cannot, the last at {path!r} ({reason}); {advice}'
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


def check_decoder(backend: Optional[str], color_type: str) -> None:
    """Refuse a decoder that is not installed, or decodes nothing.

    mmcv initializes its decoder 'turbojpeg' only if ``use_backend`` selects
    it; the selection is restored.
    """
    error: Optional[Exception] = None
    pixels = np.zeros((8, 8, 3), np.uint8)
    selected = mmcv.image.io.imread_backend
    try:
        mmcv.use_backend(backend or selected)
        for suffix in ('.jpg', '.tiff'):  # each decoder reads one of them
            content = cv2.imencode(suffix, pixels)[1].tobytes()
            try:
                mmcv.imfrombytes(content, color_type, backend=backend)
                return
            except Exception as reason:
                error = error or reason
    except Exception as reason:
        error = reason
    finally:
        mmcv.use_backend(selected)
    advice = 'install that package' if isinstance(error, ImportError) else ''
    raise ValueError(
        f'expected a decoder of images, got imdecode_backend={backend!r} and '
        f'color_type={color_type!r} ('
        + (str(error) or 'no such decoder')
        + f'); {advice or "correct them"}, or use imdecode_backend="cv2" and '
        'color_type="color" in LoadImage'
    ) from error
