"""The scores and costs of a study, and their CSV files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Type, TypeVar, Union

#: Number of labels: all training images have one.
ALL = 'all'
NumLabels = Union[int, str]


class Score(NamedTuple):
    """The test score of one student.

    Attributes:
        method: Key of the study's methods.
        num_labels: Number of labeled images, or ``'all'``.
        seed: Seed of labels, pretraining and finetuning.
        score: Accuracy, mIoU or NME as a fraction.
        timestep: Timestep of the teacher; with a learned policy, its mean at
            the end of the distillation; None without a single timestep.
    """

    method: str
    num_labels: NumLabels
    seed: int
    score: float
    timestep: Optional[float] = None


class Cost(NamedTuple):
    """The time of one step of a study.

    Attributes:
        step: ``'probe'``, ``'pretrain'`` or ``'finetune'``.
        name: What was trained, as in the name of its folder.
        iterations: Number of training iterations; 0 for a probe.
        seconds: Wall time of the step, on one CPU thread or a shared GPU.
        device: ``'cpu'`` or the name of the GPU, and ``'--amp'`` with mixed
            precision.
    """

    step: str
    name: str
    iterations: int
    seconds: float
    device: str


Row = TypeVar('Row', Score, Cost)


def parse_num_labels(text: str) -> NumLabels:
    """Return a number of labels, or ``'all'``."""
    return text if text == ALL else int(text)


def order(num_labels: NumLabels) -> float:
    """Return a key to sort numbers of labels by."""
    return float('inf') if num_labels == ALL else float(num_labels)


def read_scores(path: Path) -> List[Score]:
    """Read scores.csv; nothing if there is no such file."""
    return [
        Score(
            row['method'],
            parse_num_labels(row['num_labels']),
            int(row['seed']),
            float(row['score']),
            float(row['timestep']) if row['timestep'] else None,
        )
        for row in _read(path, Score)
    ]


def read_costs(path: Path) -> List[Cost]:
    """Read costs.csv; nothing if there is no such file."""
    return [
        Cost(
            row['step'],
            row['name'],
            int(row['iterations']),
            float(row['seconds']),
            row['device'],
        )
        for row in _read(path, Cost)
    ]


def _read(path: Path, kind: Type[Row]) -> List[dict]:
    if not path.is_file():
        return []
    with path.open(newline='', encoding='utf-8') as file:
        rows = csv.DictReader(file)
        if rows.fieldnames != [*kind._fields]:
            raise ValueError(
                f'expected the columns {[*kind._fields]} in {path}, got '
                f'{rows.fieldnames}; give the file of a study'
            )
        return [*rows]


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write all scores atomically, sorted by method, labels and seed."""
    _write(
        path,
        Score,
        sorted(scores, key=lambda s: (s.method, order(s.num_labels), s.seed)),
    )


def write_costs(path: Path, costs: Sequence[Cost]) -> None:
    """Write all costs atomically, sorted."""
    _write(path, Cost, sorted(costs))


def _write(path: Path, kind: Type[Row], rows: Sequence[Row]) -> None:
    unfinished = path.with_name(path.name + '.tmp')
    with unfinished.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file, lineterminator='\n').writerows([kind._fields, *rows])
    unfinished.replace(path)
