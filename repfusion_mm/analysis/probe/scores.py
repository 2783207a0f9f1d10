"""The scores of linear probes and their files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import List, NamedTuple


class Score(NamedTuple):
    """The score of one linear probe; higher is better."""

    input_mode: str
    layer: str
    timestep: int
    num_labels: int
    split: int
    score: float


def read_scores(path: Path) -> List[Score]:
    """Read a CSV file of scores, without a last line that is truncated.

    Returns:
        An empty list if there is no file.

    Raises:
        ValueError: The file is not a table of scores.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline='') as file:
            head, *rows = csv.reader(file)
        if tuple(head) != Score._fields:
            raise ValueError(f'its first line is {head}')
        return [
            Score(mode, layer, int(t), int(n), int(split), float(score))
            for mode, layer, t, n, split, score in filter(_is_complete, rows)
        ]
    except ValueError as error:
        raise ValueError(
            f'expected scores of probe_timesteps.py in {path}, got something '
            f'else: {error}'
        ) from error


def _is_complete(row: List[str]) -> bool:
    return len(row) == len(Score._fields)


def write_scores(path: Path, scores: List[Score]) -> None:
    """Write all scores atomically."""
    unfinished = path.with_name(path.name + '.tmp')
    with unfinished.open('w', newline='') as file:
        csv.writer(file).writerows([Score._fields, *scores])
    unfinished.replace(path)


def check_settings(path: Path, teacher: dict, num_images: int) -> None:
    """Write what scores depend on, or compare it with an earlier call's.

    Args:
        path: JSON file of the settings.
        teacher: ``model.teacher`` of the config. Its ``input_mode`` may
            differ: it is a column of the scores.
        num_images: Number of labeled images.

    Raises:
        ValueError: The file holds other settings.
    """
    teacher = {k: v for k, v in teacher.items() if k != 'input_mode'}
    text = json.dumps(dict(teacher=teacher, num_images=num_images), indent=2)
    try:
        same = not path.exists() or (
            json.loads(path.read_text()) == json.loads(text)
        )
    except ValueError:
        same = False
    if not same:
        raise ValueError(
            f'expected the scores in {path.parent} to be of the same teacher '
            'and images, got those of others; give another --out'
        )
    path.write_text(text + '\n')
