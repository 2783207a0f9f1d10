"""Read the work directories of runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from repfusion_mm.analysis.dumped_config import read_dumped_config
from repfusion_mm.analysis.probe import read_best
from repfusion_mm.engine.hooks import env_info_hook
from repfusion_mm.utils.settings import flatten_settings
from repfusion_mm.visualization import policy_log

#: Numbers that mmengine logs along with validation scores.
NOT_SCORES = ('data_time', 'time', 'step')
#: Iterations and values.
Curve = List[Tuple[int, float]]
Curves = Dict[str, Curve]
#: A flat config: {'model.policy.type': ...}.
Settings = Dict[str, str]


@dataclass
class Run:
    """The content of one work directory."""

    folder: Path
    name: str  # of the config
    settings: Settings
    curves: Curves  # training losses and statistics
    scores: Curves  # validation scores
    records: List[dict]  # of the policy; empty if there is none
    probe: Optional[Tuple[Dict[int, float], str]]  # see read_best
    verdict: str  # of the probe; empty if there is none
    versions: dict  # content of env_info.json, or empty

    @property
    def seed(self) -> str:
        """The seed, drawn or configured."""
        configured = self.settings.get('randomness.seed', '?')
        return str(self.versions.get('seed', configured))


def read_run(folder: Path) -> Run:
    """Read a work directory.

    Raises:
        Exception: The folder is not a work directory, nothing was logged, or
            a file has other content than a run writes.
    """
    if not folder.is_dir():
        found = 'a file' if folder.exists() else 'nothing'
        raise NotADirectoryError(
            f'expected the work directory of a run at {folder}, got {found}'
        )
    # mmengine makes a folder for each start of a training or a test.
    starts = [path for path in sorted(folder.iterdir()) if _is_training(path)]
    if not starts:
        raise ValueError(
            f'expected the work directory of a run at {folder}, got a folder '
            'without logs; give the --work-dir of a run'
        )
    curves, scores = _read_scalars(starts)
    has_policy = any((s / policy_log.FILENAME).exists() for s in starts)
    if not has_policy and not scores:
        raise ValueError(
            f'expected policy.jsonl or validation scores in {folder}, got '
            'neither; give the work directory of a distillation with '
            'TimestepPolicyHook, or of a finetuning with validation'
        )
    configs = sorted(folder.glob('*.py'), key=lambda p: p.stat().st_mtime)
    if not configs:
        raise FileNotFoundError(
            f'expected the config of a run, a .py file, in {folder}, got '
            'none; give the --work-dir of a run'
        )
    # A later test or start overwrites the config in the work directory.
    own_config = starts[-1] / 'vis_data' / 'config.py'
    config = own_config if own_config.exists() else configs[-1]
    verdict = folder / 'probe.txt'
    return Run(
        folder=folder,
        name=configs[-1].stem,
        settings=flatten_settings(read_dumped_config(config)),
        curves=curves,
        scores=scores,
        records=policy_log.read_records(str(folder)) if has_policy else [],
        probe=read_best(folder / 'probe.csv'),
        verdict=verdict.read_text(encoding='utf-8')
        if verdict.exists()
        else '',
        versions=_read_versions(starts[-1] / env_info_hook.FILENAME),
    )


def _is_training(start: Path) -> bool:
    """Return whether a log folder belongs to a training, not to a test."""
    scalars = start / 'vis_data' / 'scalars.json'
    return (start / policy_log.FILENAME).exists() or (
        scalars.exists()
        and '"loss"' in scalars.read_text(errors='replace', encoding='utf-8')
    )


def _read_scalars(starts: List[Path]) -> Tuple[Curves, Curves]:
    """Return the curves of training and of validation scores."""
    paths = [start / 'vis_data' / 'scalars.json' for start in starts]
    curves: Curves = {}
    scores: Curves = {}
    for entry in policy_log.read_logs(paths, 'step'):
        target = curves if 'loss' in entry else scores
        for name, value in entry.items():
            if isinstance(value, (int, float)):
                target.setdefault(name, []).append((entry['step'], value))
    for name in NOT_SCORES:
        scores.pop(name, None)
    return curves, scores


def _read_versions(path: Path) -> dict:
    """Read the file that EnvInfoHook writes, if it exists."""
    if not path.exists():
        return {}
    try:
        versions = json.loads(path.read_text(encoding='utf-8'))
        if all(isinstance(versions[k], dict) for k in ('packages', 'commits')):
            return versions
        raise TypeError('other types')
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f'expected packages and commits in {path}, as EnvInfoHook writes '
            f'them, got {type(error).__name__}: {error}; remove the file'
        ) from error
