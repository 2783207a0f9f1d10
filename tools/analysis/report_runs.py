"""Read the work directories that a report is about."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from dumped_config import read_dumped_config
from probe_report import Curve as ProbeCurve
from probe_report import best_curve, curves
from probe_timesteps import read_scores

from repfusion_mm.engine import env_info_hook, policy_records
from repfusion_mm.engine.resume.immutable_settings import flatten

#: What is logged beside validation scores.
NO_SCORES = ('data_time', 'time', 'step')
#: Points of a curve: iteration and value.
Curve = List[Tuple[int, float]]


class Probe(NamedTuple):
    """What a linear probe found each timestep to be worth."""

    label: str
    scores: Dict[int, float]


@dataclass
class Run:
    """One work directory.

    Attributes:
        name: The name of the config.
        settings: The whole config, flat: ``{'model.policy.type': ...}``.
        curves: Losses and statistics by iteration.
        scores: Validation scores by iteration.
        records: The policy's distributions; empty if there is no policy.
        versions: See EnvInfoHook; empty if the run had none.
    """

    folder: Path
    name: str
    settings: Dict[str, str]
    curves: Dict[str, Curve]
    scores: Dict[str, Curve]
    records: List[dict] = field(default_factory=list)
    probe: Optional[Probe] = None
    versions: Dict[str, dict] = field(default_factory=dict)

    @property
    def seed(self) -> str:
        """The seed, as drawn or as configured."""
        configured = self.settings.get('randomness.seed', '?')
        return str(self.versions.get('seed', configured))


def read_run(folder: Path) -> Run:
    """Read a work directory.

    Raises:
        OSError: It is not there, or is no work directory of a run.
        ValueError: It logged nothing, or a file is not what it should be.
        Exception: A file holds what no run logs, of any kind.
    """
    if not folder.is_dir():
        what = 'a file' if folder.exists() else 'nothing'
        raise NotADirectoryError(
            f'expected the work directory of a run at {folder}, got {what}'
        )
    # mmengine makes a folder for each start of a run, and of a test.
    starts = [path for path in sorted(folder.iterdir()) if logged(path)]
    if not starts:
        raise ValueError(
            f'expected the work directory of a run at {folder}, got one in '
            'which none has logged anything; give the folder that was '
            '--work-dir'
        )
    train, scores = read_scalars(starts)
    found = any((start / policy_records.FILENAME).exists() for start in starts)
    if not found and not scores:
        raise ValueError(
            f'expected policy.jsonl or validation scores in {folder}, got '
            'neither: is it the work directory of a distillation with '
            'TimestepPolicyHook, or of a finetuning that was validated?'
        )
    last = starts[-1]
    versions = last / env_info_hook.FILENAME
    config = find_config(folder)
    return Run(
        folder=folder,
        name=config.stem,
        settings=read_settings(config, last),
        curves=train,
        scores=scores,
        records=policy_records.read_records(str(folder)) if found else [],
        probe=read_probe(folder / 'probe.csv'),
        versions=read_versions(versions) if versions.exists() else {},
    )


def find_config(folder: Path) -> Path:
    """Return the config that mmengine wrote under its name."""
    configs = sorted(folder.glob('*.py'), key=lambda p: p.stat().st_mtime)
    if not configs:
        raise FileNotFoundError(
            f'expected the config of a run, a .py file, in {folder}, got '
            'none; give the folder that was --work-dir'
        )
    return configs[-1]


def read_settings(config: Path, start: Path) -> Dict[str, str]:
    """Read the config as it was at a start of the run.

    A later test or start writes over the one in the work directory.
    """
    own = start / 'vis_data' / 'config.py'
    path = own if own.exists() else config
    return flatten(read_dumped_config(path))


def logged(start: Path) -> bool:
    """Return whether a start of a run, or of a test, logged training."""
    scalars = start / 'vis_data' / 'scalars.json'
    return (start / policy_records.FILENAME).exists() or (
        scalars.exists() and '"loss"' in scalars.read_text(errors='replace')
    )


def read_scalars(
    starts: List[Path],
) -> Tuple[Dict[str, Curve], Dict[str, Curve]]:
    """Read what mmengine logged at each start of a run.

    Returns:
        Curves of what was logged while training, and of validation scores;
        where a later start began again, those of the earlier ones end.
    """
    entries: List[dict] = []
    for start in starts:
        path = start / 'vis_data' / 'scalars.json'
        newer = (
            policy_records.read_lines(path, ('step',)) if path.exists() else []
        )
        begin = newer[0]['step'] if newer else float('inf')
        entries = [e for e in entries if e['step'] < begin] + newer
    train: Dict[str, Curve] = {}
    scores: Dict[str, Curve] = {}
    for entry in entries:
        training = 'loss' in entry
        for name, value in entry.items():
            if isinstance(value, (int, float)) and (
                training or name not in NO_SCORES
            ):
                curve = (train if training else scores).setdefault(name, [])
                curve.append((entry['step'], value))
    return train, scores


def read_versions(path: Path) -> dict:
    """Read what EnvInfoHook wrote; a ValueError names another file."""
    try:
        versions = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f'expected JSON in {path}, got {error}') from error
    for name in ('packages', 'commits'):
        if not isinstance(versions, dict) or not isinstance(
            versions.get(name), dict
        ):
            raise ValueError(
                f'expected {name} in {path}, got none; it is not what '
                'EnvInfoHook wrote'
            )
    return versions


def read_probe(path: Path) -> Optional[Probe]:
    """Return the best curve, at the fewest labels, of a probe's scores."""
    found: Dict[tuple, ProbeCurve] = curves(read_scores(path))
    if not found:
        return None
    fewest = min(key[2] for key in found)
    mode, layer, curve = best_curve(found, fewest)
    return Probe(
        f'linear probe\n{fewest} labels, {mode}\n{layer}',
        {t: mean for t, (mean, _) in curve.items()},
    )
