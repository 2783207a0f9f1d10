"""Check the labels that condition a teacher, before the first iteration."""

from __future__ import annotations

from typing import Any

import numpy as np

from repfusion_mm.datasets.wrappers import iter_infos, iter_leaves


def check_class_signal(dataset: Any, teacher: Any) -> None:
    """Refuse images without a label, and labels that the teacher cannot take.

    Labels that only the pipeline returns are not known before training.

    Args:
        dataset: The training dataset.
        teacher: A teacher that is conditioned on labels.

    Raises:
        ValueError: An image has no label, or not one of the teacher's classes.
    """
    count = teacher.label_classes
    infos = [
        info for leaf in iter_leaves(dataset) for info in iter_infos(leaf)
    ]
    if not any('gt_label' in info for info in infos):
        return
    for info in infos:
        labels = np.atleast_1d(info.get('gt_label', -1)).tolist()
        if len(labels) == 1 and 0 <= labels[0] < count:
            continue
        raise ValueError(
            f'expected a label in [0, {count - 1}], one of the classes that '
            'the denoiser is trained on, for each image with '
            "model.teacher.class_signal='label', got "
            f'{labels if "gt_label" in info else "none"} for '
            f"{info.get('img_path')}; set it to 'none' or 'random'"
        )
