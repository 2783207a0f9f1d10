"""Read the work directories that a report is about."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from mmengine.config import Config, ConfigDict
from probe_report import best_curve, curves
from probe_timesteps import read_scores

from repfusion_mm.engine import versions_hook
from repfusion_mm.engine.policy_records import read_records

#: Settings in which runs of one kind differ.
INCIDENTAL = ('work_dir', 'randomness.seed', 'launcher', 'resume', 'load_from')
#: What is logged beside validation scores.
NO_SCORES = ('data_time', 'time', 'step')
#: Points of a curve.
Curve = List[Tuple[int, float]]


@dataclass
class Run:
    """One work directory.

    Attributes:
        name: The name of the config.
        settings: The whole config, flat: ``{'model.policy.type': ...}``.
        curves: Losses and statistics by iteration.
        results: The last validation scores.
        records: The policy's distributions; empty if there is no policy.
        probe: What a probe found each timestep to be worth.
        versions: See VersionsHook; empty if the run had none.
    """

    folder: Path
    name: str
    settings: Dict[str, str]
    curves: Dict[str, Curve]
    results: Dict[str, float]
    records: List[dict] = field(default_factory=list)
    probe: Optional[Dict[int, float]] = None
    versions: Dict[str, dict] = field(default_factory=dict)

    @property
    def seed(self) -> str:
        """The seed, as configured or as drawn."""
        drawn = self.versions.get('seed', '?')
        return self.settings.get('randomness.seed', str(drawn))


def read_run(folder: Path) -> Run:
    """Read a work directory.

    Raises:
        FileNotFoundError: It holds no config, or neither a policy log nor
            validation scores.
    """
    configs = sorted(folder.glob('*.py'), key=lambda p: p.stat().st_mtime)
    if not configs:
        raise FileNotFoundError(
            f'expected the work directory of a run, with its config, got '
            f'{folder}; give the folders that were --work-dir'
        )
    cfg = Config.fromfile(configs[-1], use_predefined_variables=False)
    train, results = read_scalars(folder)
    try:
        records = read_records(str(folder))
    except FileNotFoundError:
        if not results:
            raise
        records = []
    versions = sorted(folder.glob(f'*/{versions_hook.FILENAME}'))
    return Run(
        folder=folder,
        name=configs[-1].stem,
        settings=flatten(cfg._cfg_dict),
        curves=train,
        results=results,
        records=records,
        probe=read_probe(folder / 'probe.csv'),
        versions=json.loads(versions[-1].read_text()) if versions else {},
    )


def read_scalars(folder: Path) -> Tuple[Dict[str, Curve], Dict[str, float]]:
    """Read what mmengine logged, of a run and of those it was resumed from.

    Returns:
        Curves of what was logged while training; where a later run began
        again, those of the earlier ones end. And the last validation scores.
    """
    entries: List[dict] = []
    results: Dict[str, float] = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        # A run that was killed may leave a line cut short.
        lines = [i for i in path.read_text().splitlines() if i.endswith('}')]
        newer = []
        for entry in map(json.loads, lines):
            if 'loss' in entry:
                newer.append(entry)
            else:
                results = {
                    name: value
                    for name, value in entry.items()
                    if name not in NO_SCORES
                }
        begin = newer[0]['step'] if newer else float('inf')
        entries = [e for e in entries if e['step'] < begin] + newer
    found: Dict[str, Curve] = {}
    for entry in entries:
        for name, value in entry.items():
            if isinstance(value, (int, float)):
                found.setdefault(name, []).append((entry['step'], value))
    return found, results


def read_probe(path: Path) -> Optional[Dict[int, float]]:
    """Return the best curve, at the fewest labels, of a probe's scores."""
    found = curves(read_scores(path))
    if not found:
        return None
    _, _, curve = best_curve(found, min(key[2] for key in found))
    return {t: mean for t, (mean, _) in curve.items()}


def flatten(value, prefix: str = '') -> Dict[str, str]:
    """Return nested settings as ``{'a.b.0': 'value'}``."""
    if isinstance(value, (dict, ConfigDict)):
        items = list(value.items())
    elif isinstance(value, (list, tuple)) and any(
        isinstance(item, dict) for item in value
    ):
        items = list(enumerate(value))
    else:
        return {prefix: str(value)}
    flat: Dict[str, str] = {}
    for key, item in items:
        flat.update(flatten(item, f'{prefix}.{key}' if prefix else str(key)))
    return flat


@dataclass
class Group:
    """Runs that differ by their seed alone.

    Attributes:
        name: The name of the config.
        differs: The settings in which it differs from the other groups.
        results: For each metric, the scores of all runs.
    """

    name: str
    differs: Dict[str, str]
    results: Dict[str, List[float]]

    def visible(self) -> List[str]:
        """Return what differs, but for the initialisation, in short."""
        return [
            value.rsplit('/', 1)[-1]
            for key, value in self.differs.items()
            if 'init_cfg' not in key
        ]


def compare(runs: List[Run]) -> List[Group]:
    """Group runs that have validation scores by their settings."""
    grouped: Dict[tuple, List[Run]] = {}
    for run in runs:
        settings = {
            k: v for k, v in run.settings.items() if k not in INCIDENTAL
        }
        grouped.setdefault((run.name, *settings.items()), []).append(run)
    everything = [dict(key[1:]) for key in grouped]
    names = {name for settings in everything for name in settings}
    differing = sorted(
        name
        for name in names
        if len({settings.get(name) for settings in everything}) > 1
    )
    groups = []
    for (name, *settings), members in grouped.items():
        own = dict(settings)
        metrics = sorted({m for run in members for m in run.results})
        groups.append(
            Group(
                name=name,
                differs={k: own[k] for k in differing if k in own},
                results={
                    m: [r.results[m] for r in members if m in r.results]
                    for m in metrics
                },
            )
        )
    return sorted(groups, key=_order)


def _order(group: Group) -> list:
    """Put twins, which differ by their initialisation, beside each other,
    and train_20.txt before train_100.txt."""
    words = [*group.visible(), group.name]
    parts = re.split(r'(\d+)', ' '.join(words))
    # Numbers by size, the rest by letter.
    return [
        (int(part), '') if part.isdigit() else (-1, part) for part in parts
    ]
