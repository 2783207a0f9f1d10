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

#: Models that become the teacher, or a part of it.
TEACHERS = ('DenoisingDiffusion', 'AutoencoderTraining')
#: Pictures that their hooks draw.
PICTURES = ('samples_*.png', 'reconstructions_*.png')
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
    title: str  # name of the folder; see set_titles
    name: str  # of the config
    settings: Settings
    curves: Curves  # training losses and statistics
    scores: Curves  # validation scores
    records: List[dict]  # of the policy; empty if there is none
    probe: Optional[Tuple[Dict[int, float], str]]  # see read_best
    verdict: str  # of the probe; empty if there is none
    student_verdict: str  # of distill_folder.py, likewise
    versions: dict  # content of env_info.json, or empty
    pictures: List[Path]  # of a teacher, in the order in which they were drawn

    @property
    def seed(self) -> str:
        """The seed, drawn or configured."""
        configured = self.settings.get('randomness.seed', '?')
        seed = str(self.versions.get('seed', configured))
        return '?' if seed == 'None' else seed  # drawn, and not recorded

    def is_complete(self, metric: str) -> bool:
        """Return whether the last score was measured at the end of the run.

        True, too, if the length of the run is unknown, or if an
        ``EarlyStoppingHook`` may end it.
        """
        if any('EarlyStopping' in value for value in self.settings.values()):
            return True
        by_epoch = 'train_cfg.max_epochs' in self.settings
        name = 'max_epochs' if by_epoch else 'max_iters'
        length = self._read_number(f'train_cfg.{name}')
        if length is None:
            return True
        end: float = self.scores[metric][-1][0]
        interval = self._read_number('train_cfg.val_interval') or 1
        if by_epoch and end > length:  # log_metric_by_epoch=False
            end = self.curves.get('epoch', [(0, end)])[-1][1]
        elif not by_epoch and end == 0:  # log_metric_by_epoch=True
            end = self.curves.get('loss', [(end, 0.0)])[-1][0]
            interval = self._read_number('default_hooks.logger.interval') or 10
        return end + interval > length

    def _read_number(self, name: str) -> Optional[int]:
        text = self.settings.get(name, '')
        return int(text) if text.isdecimal() else None

    @property
    def is_teacher(self) -> bool:
        """Whether it trains a teacher."""
        return self.settings.get('model.type', '').split('.')[-1] in TEACHERS


def set_titles(runs: List[Run]) -> None:
    """Name runs by their folders, with the parents that tell them apart."""
    parts = [run.folder.resolve().parts for run in runs]
    for run, own in zip(runs, parts):
        others = [other for other in parts if other != own]
        depth = 1
        while any(other[-depth:] == own[-depth:] for other in others):
            depth += 1
        run.title = '/'.join(own[-depth:])


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
    answer = _read_text(folder / 'probe.txt').strip().rpartition('\n')[2]
    if not starts and answer:
        raise ValueError(
            f'expected the work directory of a run at {folder}, got only the '
            f'probe of a teacher: {answer}'
        )
    if not starts:
        raise ValueError(
            f'expected the work directory of a run at {folder}, got a folder '
            'without logs; give the --work-dir of a run'
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
    curves, scores = _read_scalars(starts)
    has_policy = any((s / policy_log.FILENAME).exists() for s in starts)
    versions = _read_versions(starts[-1] / env_info_hook.FILENAME)
    # That of a later test may be newer.
    name = Path(versions.get('config') or configs[-1]).stem
    run = Run(
        folder=folder,
        title=folder.resolve().name,
        name=name,
        settings=flatten_settings(read_dumped_config(config)),
        curves=curves,
        scores=scores,
        records=policy_log.read_records(str(folder)) if has_policy else [],
        probe=read_best(folder / 'probe.csv'),
        verdict=_read_text(folder / 'probe.txt'),
        student_verdict=_read_verdict(folder),
        versions=versions,
        pictures=[path for start in starts for path in _find_pictures(start)],
    )
    if not (run.records or run.scores or run.is_teacher):
        raise ValueError(
            f'expected policy.jsonl or validation scores in {folder}, got '
            'neither; give the work directory of a distillation with '
            'TimestepPolicyHook, of a finetuning with validation, or of the '
            'training of a teacher'
        )
    return run


def _read_text(path: Path) -> str:
    return path.read_text(encoding='utf-8') if path.exists() else ''


def _read_verdict(folder: Path) -> str:
    """Return the verdict on the student; empty if that is newer."""
    verdict, student = folder / 'verdict.txt', folder / 'student.pth'
    times = [p.stat().st_mtime for p in (student, verdict) if p.exists()]
    return _read_text(verdict) if times == sorted(times) else ''


def _is_training(start: Path) -> bool:
    """Return whether a log folder belongs to a training, not to a test."""
    scalars = start / 'vis_data' / 'scalars.json'
    return (
        (start / policy_log.FILENAME).exists()
        or bool(_find_pictures(start))
        or (
            scalars.exists()
            and '"loss"'
            in scalars.read_text(errors='replace', encoding='utf-8')
        )
    )


def _find_pictures(start: Path) -> List[Path]:
    """Return the pictures of a teacher's training, sorted by iteration."""
    folder = start / 'vis_data' / 'vis_image'
    paths = [path for pattern in PICTURES for path in folder.glob(pattern)]
    return sorted(paths, key=iteration_of)


def iteration_of(picture: Path) -> int:
    """Return the iteration of a picture, which its name ends with."""
    number = picture.stem.rpartition('_')[2]
    return int(number) if number.isdecimal() else 0


def _read_scalars(starts: List[Path]) -> Tuple[Curves, Curves]:
    """Return the curves of training and of validation scores."""
    paths = [start / 'vis_data' / 'scalars.json' for start in starts]
    curves: Curves = {}
    scores: Curves = {}
    # The step of a validation may be an epoch, that of others an iteration.
    entries = policy_log.read_logs(
        paths, 'step', is_validation=lambda entry: 'loss' not in entry
    )
    for entry in entries:
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
