"""Lists of labeled images, with a line "file label" for each."""

from __future__ import annotations

from pathlib import Path
from typing import List

import numpy as np


def draw_balanced(
    source: Path, path: Path, num_labels: int, seed: int
) -> None:
    """Write a list of images that has equally many of each label.

    Args:
        source: Lines ``'file label'`` of all images.
        path: File to write.
        num_labels: Number of lines to draw.
        seed: Of the draw.

    Raises:
        ValueError: The labels do not allow as many lines.
    """
    lines = source.read_text(encoding='utf-8').splitlines()
    shuffled = np.random.default_rng(seed).permutation(lines).tolist()
    chosen = take_balanced(shuffled, num_labels)
    if len(chosen) != num_labels:
        raise ValueError(
            f'expected {num_labels} labeled images, equally many of each '
            f'class, in {source}, got {len(chosen)}; complete the list'
        )
    write_lines(path, chosen)


def take_balanced(lines: List[str], budget: int) -> List[str]:
    """Return the first ``budget`` lines with equally many of each label.

    Args:
        lines: Lines ``'file label'``.
        budget: A multiple of the number of labels; a remainder is dropped.
    """
    labels = sorted({line.split()[1] for line in lines})
    per_label = budget // len(labels)
    return sorted(
        line
        for label in labels
        for line in [s for s in lines if s.split()[1] == label][:per_label]
    )


def write_lines(path: Path, lines: List[str]) -> None:
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
