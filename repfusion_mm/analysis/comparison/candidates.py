"""Probe the teachers of several configs on the same labeled images."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from mmengine.config import Config

from repfusion_mm.analysis.comparison.results import Point
from repfusion_mm.analysis.probe.baselines import score_baselines
from repfusion_mm.analysis.probe.prober import MAX_IMAGES, Prober
from repfusion_mm.analysis.probe.scores import Score, mean_curves
from repfusion_mm.analysis.teacher_costs import count_teacher


class Settings(NamedTuple):
    """What the probes of all teachers have in common."""

    num_labels: int = 50  # that a linear model is fitted to
    num_splits: int = 10
    #: By default those of :meth:`Prober.select_timesteps`. A teacher of one
    #: timestep is probed at 0.
    timesteps: Optional[List[int]] = None
    max_images: int = MAX_IMAGES


def check_candidates(configs: Dict[str, Config], settings: Settings) -> None:
    """Refuse configs that cannot be compared, before a feature is computed.

    Teachers are built one after the other, so that only one is in memory, and
    again to be probed: that takes seconds, and the probes of the first ones
    minutes to hours, after which a missing file of the last one would end the
    comparison.

    Args:
        configs: Configs of distillations, by their names.
        settings: Settings of the probes.

    Raises:
        ValueError: The labeled images or their labels differ, a config has
            too few of them, or a timestep is not one of a teacher's schedule.
    """
    first: Optional[Tuple[str, Dict[str, object]]] = None
    for name, cfg in configs.items():
        data = _open(name, cfg, settings)[0].fingerprint()
        first = first or (name, data)
        for part, value in data.items():
            expected = first[1][part]
            if value != expected:
                values = f'{part} {expected} and {value}'
                if part in ('pixels', 'labels'):
                    values = f'different {part}'
                raise ValueError(
                    'expected the same labeled images in all configs, got '
                    f'{values} in {first[0]} and {name}; set probe_dataset '
                    'to the same dataset, without random augmentation, in '
                    'each'
                )


def probe_candidates(
    configs: Dict[str, Config], settings: Settings, folder: Path
) -> Tuple[List[Point], List[Point], str]:
    """Probe each teacher; add only the scores that a folder does not have.

    Args:
        configs: Configs that :func:`check_candidates` accepts.
        settings: Settings of the probes.
        folder: A subfolder for each config holds its ``probe.csv``.

    Returns:
        The points of all teachers, those of the baselines without a teacher,
        and the name of the score.
    """
    points: List[Point] = []
    baselines: List[Point] = []
    for name, cfg in configs.items():
        prober, timesteps = _open(name, cfg, settings)
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        mode = getattr(prober.teacher, 'input_mode', 'clean')
        scores = [
            score
            for score in prober.resume(timesteps, None, own)
            if score.input_mode == mode and score.timestep in timesteps
        ]
        costs = count_teacher(cfg.model.teacher)
        flop = {
            layer: costs.flop(layer) for layer in prober.teacher.feature_shapes
        }
        points += summarize(name, scores, settings, flop)
        if not baselines:
            scores = score_baselines(prober)
            zeros = dict.fromkeys((score.layer for score in scores), 0)
            baselines = summarize('', scores, settings, zeros)
        metric = prober.task.metric
        del prober  # before the next teacher is built
    return points, baselines, metric


def summarize(
    name: str, scores: List[Score], settings: Settings, flop: Dict[str, int]
) -> List[Point]:
    """Return the mean scores over the splits that all teachers have."""
    curves = mean_curves(
        [s for s in scores if s.num_labels == settings.num_labels
         and s.split < settings.num_splits and s.layer in flop]
    )  # fmt: skip
    return [
        Point(
            name, layer, t, mode, flop[layer] / 1e9, mean, error,
            error * settings.num_splits**0.5,
        )
        for (mode, layer, _), curve in curves.items()
        for t, (mean, error) in curve.items()
    ]  # fmt: skip


def _open(
    name: str, cfg: Config, settings: Settings
) -> Tuple[Prober, List[int]]:
    """Build a prober, and select the timesteps of its teacher."""
    num_labels, num_splits, timesteps, max_images = settings
    try:
        prober = Prober(cfg, [num_labels], num_splits, max_images)
        if prober.teacher.num_timesteps == 1:
            timesteps = None
        return prober, prober.select_timesteps(timesteps)
    except ValueError as error:
        raise ValueError(f'{error} (config {name})') from error
