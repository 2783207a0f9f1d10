"""What identifies the labeled images of a probe."""

from __future__ import annotations

from hashlib import sha256
from typing import Dict, Sequence

import numpy as np
import torch


def fingerprint_images(
    batches: Sequence[torch.Tensor], targets: Sequence[np.ndarray]
) -> Dict[str, object]:
    """Return number, sizes and hashes of images and labels, in their order.

    Args:
        batches: Batches of images, float in [0, 1].
        targets: The labels of all images.
    """
    pixels, labels = sha256(), sha256()
    for images in batches:
        # Quantize to 8 bits, so that float rounding errors of the
        # preprocessing rarely change the hash.
        levels = (images * 255).round().clamp(0, 255).to(torch.uint8)
        pixels.update(levels.contiguous().cpu().numpy().tobytes())
    for target in targets:
        labels.update(np.ascontiguousarray(target).tobytes())
    sizes = {tuple(images.shape[-2:]) for images in batches}
    return dict(
        num_images=len(targets),
        sizes=sorted(f'{height} x {width}' for height, width in sizes),
        pixels=pixels.hexdigest(),
        labels=labels.hexdigest(),
    )
