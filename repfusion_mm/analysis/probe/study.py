"""Probe a teacher, and judge whether it is worth distilling."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple

from repfusion_mm.analysis.probe.baselines import (
    compare_untrained,
    measure_baselines,
)
from repfusion_mm.analysis.probe.figure import draw_probe
from repfusion_mm.analysis.probe.measurement import Key, Measurement
from repfusion_mm.analysis.probe.prober import Prober
from repfusion_mm.analysis.probe.recommendation import (
    Recommendation,
    recommend,
)
from repfusion_mm.analysis.probe.results import find_best, write_table
from repfusion_mm.analysis.probe.verdict import describe


class Found(NamedTuple):
    """What the probe of a teacher shows.

    Attributes:
        best: Input mode, layer and timestep of the highest R².
        measurement: That measurement.
        recommendation: Whether to distill from the teacher.
        text: All of it in words.
    """

    best: Key
    measurement: Measurement
    recommendation: Recommendation
    text: str


def study_teacher(
    prober: Prober, timesteps: List[int], modes: List[str], out: Path
) -> Found:
    """Probe a teacher; write ``probe.csv`` and ``probe.png`` into a folder.

    The teacher of the prober is untrained afterwards.
    """
    measurements = prober.probe(timesteps, modes, out)
    best = find_best(measurements)
    baselines = measure_baselines(prober, best[1])
    metric = prober.task.metric
    write_table(measurements, out / 'probe.csv')
    draw_probe(measurements, baselines, metric, out / 'probe.png')
    untrained = compare_untrained(prober, best, timesteps)
    recommendation = recommend(measurements, baselines, untrained)
    text = describe(measurements, baselines, metric)
    return Found(
        best,
        measurements[best],
        recommendation,
        f'{text}\n{recommendation.text}',
    )
