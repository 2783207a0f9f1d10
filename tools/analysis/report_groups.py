"""Compare finetunings: which differ by their seed alone, and in what else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List

from report_runs import Run

#: Settings in which runs of one group may differ.
INCIDENTAL = ('work_dir', 'randomness.seed', 'launcher', 'resume')
#: A label that names more settings than this is no label.
MOST_NAMED = 3


@dataclass
class Group:
    """Runs that differ by their seed alone.

    Attributes:
        label: Unique: the config's name, and what tells it from others of
            this name.
        differs: All settings in which it differs from any other group.
    """

    label: str
    differs: Dict[str, str]
    runs: List[Run]

    def scores(self, metric: str) -> List[float]:
        """Return the last score of each run."""
        return [
            run.scores[metric][-1][1]
            for run in self.runs
            if metric in run.scores
        ]


def compare(runs: List[Run]) -> List[Group]:
    """Group runs that have validation scores by their settings."""
    grouped: Dict[tuple, List[Run]] = {}
    for run in runs:
        own = {k: v for k, v in run.settings.items() if k not in INCIDENTAL}
        grouped.setdefault((run.name, *own.items()), []).append(run)
    groups = []
    for (name, *settings), members in grouped.items():
        namesakes = [dict(key[1:]) for key in grouped if key[0] == name]
        named = _differing(dict(settings), namesakes)
        named = {k: v for k, v in named.items() if 'init_cfg' not in k}
        words = [f'{k.split(".")[-1]}={v.split("/")[-1]}'
                 for k, v in named.items()]  # fmt: skip
        if len(words) > MOST_NAMED:
            words = []
        everyone = [dict(key[1:]) for key in grouped]
        differs = _differing(dict(settings), everyone)
        groups.append(Group(', '.join([name, *words]), differs, members))
    groups.sort(key=lambda group: natural(_twins_beside(group.label)))
    labels = [group.label for group in groups]
    for i, group in enumerate(groups):
        if labels.count(group.label) > 1:
            group.label += f' #{labels[: i + 1].count(labels[i])}'
    return groups


def _differing(own: Dict[str, str], all_settings: List[dict]) -> dict:
    """Return those of ``own`` that not all settings share."""
    return {
        key: value
        for key, value in own.items()
        if any(other.get(key) != value for other in all_settings)
    }


def _twins_beside(label: str) -> str:
    """Put what tells namesakes apart in front of the name."""
    name, _, rest = label.partition(', ')
    return f'{rest} {name}'


def natural(text: str) -> list:
    """Return a key that sorts a_20 before a_100."""
    parts = re.split(r'(\d+)', text)
    return [(int(p), '') if p.isdigit() else (-1, p) for p in parts]
