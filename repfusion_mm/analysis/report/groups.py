"""Group runs that differ only in their seed."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from string import digits
from typing import Dict, List

from repfusion_mm.analysis.report.runs import Run, Settings

#: Settings that may differ between the runs of a group.
IGNORED = (
    'work_dir',
    'randomness.seed',
    'launcher',
    'resume',
    'experiment_name',
    'visualizer.name',
)
#: Initialization of a backbone, which may contain the student (BiSeNet).
INIT_CFG = re.compile(r'model\.backbone\.(.*\.)?init_cfg\b')
#: Labels that would name more settings than this name none.
MAX_NAMED = 3


@dataclass
class Group:
    """Runs that differ only in their seed."""

    label: str  # common to the folders, or to the configs
    name: str  # of the config
    settings: Settings  # of all runs, but for those that may differ
    differing: Settings  # from those of at least one other group
    runs: List[Run]

    def scored(self, metric: str) -> List[Run]:
        """Return the runs that have a score, of their end."""
        return [
            run
            for run in self.runs
            if metric in run.scores and run.is_complete(metric)
        ]

    def scores(self, metric: str) -> List[float]:
        """Return the last score of each run that is complete."""
        return [run.scores[metric][-1][1] for run in self.scored(metric)]


def group_runs(runs: List[Run]) -> List[Group]:
    """Group runs by their settings."""
    equal: Dict[tuple, List[Run]] = {}
    for run in runs:
        items = [i for i in run.settings.items() if i[0] not in IGNORED]
        equal.setdefault((run.name, *items), []).append(run)
    members: Dict[tuple, List[Run]] = {}
    for key, group_members in equal.items():
        if len(group_members) == 1:
            key = _mask_seed(key, group_members[0].seed)
        members.setdefault(key, []).extend(group_members)
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
        label = ', '.join([key[0], *words])
        group = Group(label, key[0], own, differing, members[key])
        groups.append((sort_key, group))
    groups.sort(key=lambda item: item[0])
    _label([group for _, group in groups])
    return [group for _, group in groups]


def _mask_seed(key: tuple, seed: str) -> tuple:
    """Remove the seed from the path of the student.

    Each seed may have a student of its own, in a folder that is named by it.
    """
    settings = dict(key[1:])
    for name in find_checkpoints(settings):
        # The last one: other numbers may equal it.
        settings[name] = re.sub(
            rf'(.*(?<!\d)){re.escape(seed)}(?!\d)',
            r'\1SEED',
            settings[name],
            count=1,
        )
    return (key[0], *settings.items())


def find_checkpoints(settings: Settings) -> List[str]:
    """Return the settings of checkpoints that initialize a backbone."""
    return [
        name
        for name in settings
        if INIT_CFG.match(name) and name.endswith('.checkpoint')
    ]


def _label(groups: List[Group]) -> None:
    """Name groups by their folders, or else number equal labels."""
    titles = [common_title([r.title for r in group.runs]) for group in groups]
    for group, title in zip(groups, titles):
        if title and titles.count(title) == 1:
            group.label = title
    labels = [group.label for group in groups]
    for i, group in enumerate(groups):
        if labels.count(labels[i]) > 1:
            group.label += f' #{labels[: i + 1].count(labels[i])}'


def common_title(titles: List[str]) -> str:
    """Return what the names of folders have in common.

    What differs between them is an asterisk. Nothing is returned if it is more
    than half of a name, or if there is no letter in the rest.
    """
    common = label = titles[0]
    if len({*titles}) > 1:
        # Numbers such as 1 and 10 differ as a whole.
        first = _common_start(titles).rstrip(digits)
        rests = [title[len(first) :][::-1] for title in titles]
        last = _common_start(rests)[::-1].lstrip(digits)
        common, label = first + last, f'{first}*{last}'
    is_short = 2 * len(common) < min(map(len, titles))
    return '' if is_short or not re.search('[a-zA-Z]', common) else label


def _common_start(texts: List[str]) -> str:
    equal = itertools.takewhile(lambda i: len({*i}) == 1, zip(*texts))
    return ''.join(characters[0] for characters in equal)


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
