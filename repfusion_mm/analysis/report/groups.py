"""Group runs that differ only in their seed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List

from repfusion_mm.analysis.report.runs import Run, Settings

#: Settings that may differ between the runs of a group.
IGNORED = ('work_dir', 'randomness.seed', 'launcher', 'resume')
#: Labels that would name more settings than this name none.
MAX_NAMED = 3


@dataclass
class Group:
    """Runs that differ only in their seed."""

    label: str  # name of the config, and how it differs from its namesakes
    differing: Settings  # those that any other group does not share
    runs: List[Run]

    def scores(self, metric: str) -> List[float]:
        """Return the last score of each run."""
        return [
            run.scores[metric][-1][1]
            for run in self.runs
            if metric in run.scores
        ]


def group_runs(runs: List[Run]) -> List[Group]:
    """Group runs by their settings."""
    members: Dict[tuple, List[Run]] = {}
    for run in runs:
        items = [i for i in run.settings.items() if i[0] not in IGNORED]
        members.setdefault((run.name, *items), []).append(run)
    settings = {key: dict(key[1:]) for key in members}
    groups = []
    for key, own in settings.items():
        same_name = [s for k, s in settings.items() if k[0] == key[0]]
        words = [
            f'{name.split(".")[-1]}={value.split("/")[-1]}'
            for name, value in _differing(own, same_name).items()
            if 'init_cfg' not in name
        ]
        if len(words) > MAX_NAMED:
            words = []
        differing = _differing(own, list(settings.values()))
        # Sort by what differs first, then by name.
        sort_key = natural(f'{", ".join(words)} {key[0]}')
        group = Group(', '.join([key[0], *words]), differing, members[key])
        groups.append((sort_key, group))
    groups.sort(key=lambda item: item[0])
    labels = [group.label for _, group in groups]
    for i, (_, group) in enumerate(groups):
        if labels.count(group.label) > 1:
            group.label += f' #{labels[: i + 1].count(labels[i])}'
    return [group for _, group in groups]


def natural(text: str) -> list:
    """Return a key that sorts a_20 before a_100."""
    parts = re.split(r'(\d+)', text)
    return [(int(p), '') if p.isdigit() else (-1, p) for p in parts]


def _differing(own: Settings, others: List[Settings]) -> Settings:
    """Return the settings that differ from those of any other group."""
    return {
        key: value
        for key, value in own.items()
        if any(other.get(key) != value for other in others)
    }
