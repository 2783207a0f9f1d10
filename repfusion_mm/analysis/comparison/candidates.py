"""Probe the teachers of several configs on the same labeled images."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from mmengine.config import Config

from repfusion_mm.analysis.comparison.results import Point
from repfusion_mm.analysis.probe.baselines import measure_baselines
from repfusion_mm.analysis.probe.measurement import Measurement
from repfusion_mm.analysis.probe.prober import MAX_IMAGES, Prober
from repfusion_mm.analysis.probe.results import write_table
from repfusion_mm.analysis.teacher_costs import count_teacher


class Settings(NamedTuple):
    """What the probes of all teachers have in common."""

    #: By default those of :meth:`Prober.select_timesteps`. A teacher of one
    #: timestep is probed at 0.
    timesteps: Optional[List[int]] = None
    max_images: int = MAX_IMAGES


class Comparison(NamedTuple):
    """What was measured of all teachers."""

    points: List[Point]
    baselines: Dict[str, Measurement]  # without a teacher
    metric: str  # name of the score
    summary: str  # of the labeled images


def check_candidates(
    configs: Dict[str, Config], settings: Settings, folder: Path
) -> None:
    """Refuse configs that cannot be compared, before a feature is computed.

    Teachers are built one after the other, so that only one is in memory, and
    again to be probed: that takes seconds, and the probes of the first ones
    minutes to hours, after which a missing file of the last one would end the
    comparison.

    Args:
        configs: Configs of distillations, by their names.
        settings: Settings of the probes.
        folder: The folder of the comparison.

    Raises:
        ValueError: The labeled images or their labels differ, there are too
            few of them, a timestep is not one of a teacher's schedule, or the
            folder has features of another teacher or of other images.
    """
    first: Optional[Tuple[str, Dict[str, object]]] = None
    for name, cfg in configs.items():
        prober, _ = _open(name, cfg, settings)
        prober.check_folder(folder / name / 'features')
        data = prober.fingerprint()
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
        del prober  # before the next teacher is built


def probe_candidates(
    configs: Dict[str, Config], settings: Settings, folder: Path
) -> Comparison:
    """Probe each teacher; compute only the features that a folder lacks.

    Args:
        configs: Configs that :func:`check_candidates` accepts.
        settings: Settings of the probes.
        folder: A subfolder for each config holds its features.
    """
    points: List[Point] = []
    baselines: Dict[str, Measurement] = {}
    for name, cfg in configs.items():
        prober, timesteps = _open(name, cfg, settings)
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)
        measured = prober.probe(timesteps, prober.select_modes(None), own)
        write_table(measured, own / 'probe.csv')
        costs = count_teacher(cfg.model.teacher)
        points += [
            Point(name, layer, t, mode, costs.flop(layer) / 1e9, measurement)
            for (mode, layer, t), measurement in measured.items()
        ]
        layer = next(iter(prober.grids))
        baselines = baselines or measure_baselines(prober, layer)
        metric, summary = prober.task.metric, prober.summary()
        del prober  # before the next teacher is built
    return Comparison(points, baselines, metric, summary)


def _open(
    name: str, cfg: Config, settings: Settings
) -> Tuple[Prober, List[int]]:
    """Build a prober, and select the timesteps of its teacher."""
    timesteps, max_images = settings
    try:
        prober = Prober(cfg, max_images)
        if prober.teacher.num_timesteps == 1:
            timesteps = None
        return prober, prober.select_timesteps(timesteps)
    except ValueError as error:
        raise ValueError(f'{error} (config {name})') from error
