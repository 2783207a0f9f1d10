"""Probe a student, and compare it with one that is not distilled."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, NamedTuple

import numpy as np
import torch
import torch.nn as nn

from repfusion_mm.analysis.probe.baselines import NUM_UNTRAINED
from repfusion_mm.analysis.probe.measurement import (
    NUM_ERRORS,
    Key,
    Measurement,
    difference,
    smallest,
)
from repfusion_mm.analysis.probe.prober import Prober
from repfusion_mm.analysis.probe.verdict import format_r2, format_score
from repfusion_mm.engine.checkpoint.io import read_checkpoint
from repfusion_mm.engine.utils import select_prefix
from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.models.distillers.builders import as_tuple
from repfusion_mm.models.utils.image_range import from_unit_range
from repfusion_mm.registry import MODELS

#: Beginnings of the verdicts, also for those that read them.
BETTER = 'The distilled backbone is better than an untrained one'
WORSE = 'The distilled backbone is not better than an untrained one'
UNDECIDED = (
    'These labels cannot tell whether the distilled backbone is better than '
    'an untrained one'
)
BEGINNINGS = (BETTER, WORSE, UNDECIDED)


class StudentProbe(NamedTuple):
    """A distilled student, its teacher, and students that are not distilled.

    Attributes:
        distilled: Measurement of the student.
        initial: Measurements of students as they begin, with two seeds.
        teacher: Measurement of the teacher at the timestep.
        timestep: The timestep.
    """

    distilled: Measurement
    initial: List[Measurement]
    teacher: Measurement
    timestep: int

    @property
    def margin(self) -> tuple:
        """R² in excess of the initial student that decides, and its standard
        error; see :func:`~.measurement.smallest`."""
        return smallest(difference(self.distilled, i) for i in self.initial)


def probe_student(prober: Prober, checkpoint: Path, best: Key) -> StudentProbe:
    """Measure a student of the prober's config on the labeled images.

    Args:
        prober: The prober of the distillation.
        checkpoint: The exported student.
        best: The teacher's input mode, layer and timestep. The maps of the
            student are resized to the grid of the layer.
    """
    mode, layer, t = best
    feats = prober.features(t, mode)[layer][:, None]
    (teacher,) = prober.task.measure(feats, prober.grids[layer])
    found = []
    for seed in range(NUM_UNTRAINED):
        torch.manual_seed(seed)
        student = MODELS.build(prober.cfg.model.student)
        if hasattr(student, 'init_weights'):
            student.init_weights()
        found.append(_measure(prober, student, layer, calibrate=True))
    student = prober.model.student
    weights, meta = read_checkpoint(str(checkpoint), 'distill it first')
    student.load_state_dict(select_prefix(weights, meta.get('prefix', '')))
    return StudentProbe(
        _measure(prober, student, layer),
        found,
        teacher,
        t,
    )


def describe_student(probe: StudentProbe, metric: str) -> str:
    """Say whether the distillation made a better backbone."""
    initial = max(probe.initial, key=lambda i: i.r2)
    mean, error = probe.margin
    text = (
        'Each with a linear model of its own, on labeled images that the '
        'student was distilled on:\n'
    )
    text += ''.join(
        f'{name}: {metric} {format_score(m)}, R² {format_r2(m)}\n'
        for name, m in (
            (f'teacher at t = {probe.timestep}', probe.teacher),
            ('distilled student', probe.distilled),
            ('untrained student', initial),
        )
    )
    margin = f'(R² {mean:+.3f} ± {error:.3f})'
    if mean > NUM_ERRORS * error and probe.distilled.r2 > 0:
        return (
            f'{text}{BETTER} for a linear model {margin}. Finetune both to '
            'see what that is worth.'
        )
    if mean <= 0:
        return (
            f'{text}{WORSE} {margin}: do not use it. Train it longer, or see '
            'the report (tools/analysis_tools/report.py).'
        )
    if probe.distilled.r2 <= 0:
        margin += ': a linear model of it is no better than a constant'
    return f'{text}{UNDECIDED} {margin}.'


@torch.no_grad()
def _measure(
    prober: Prober, student, layer: str, calibrate: bool = False
) -> Measurement:
    """Measure the last map of a student.

    Args:
        prober: The prober.
        student: The student.
        layer: The teacher's layer.
        calibrate: Compute the statistics of batch norms on the images.
    """
    model: Any = prober.model
    grid = prober.grids[layer]
    index = model.student_indices[[*prober.grids].index(layer)]
    student = student.to(prober.batches[0].device)
    if calibrate:
        for module in student.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                module.momentum = None  # the mean of all batches
        # In training mode, they refuse a single image if its map is 1 x 1.
        several = [batch for batch in prober.batches if len(batch) > 1]
        if not several and len({b.shape for b in prober.batches}) == 1:
            images = torch.cat(prober.batches)
            several = [*images.tensor_split(max(1, len(images) // 2))]
        several = several or prober.batches
        student.train()
        _run(model, student, several)
    student.eval()
    rows, begin = [], 0
    for feats in _run(model, student, prober.batches):
        maps = resize_to(feats[index].float(), grid)
        rows.append(prober.task.rows(maps, begin).cpu().numpy())
        begin += len(maps)
    features = prober.task.finish(np.concatenate(rows))[:, None]
    (measurement,) = prober.task.measure(features, grid)
    return measurement


def _run(model, student, batches: List[torch.Tensor]) -> List[tuple]:
    """Return the maps of all batches of N x 3 x H x W images in [0, 1]."""
    return [
        as_tuple(
            student(
                from_unit_range(
                    images, model.data_preprocessor, model.channel_order
                )
            )
        )
        for images in batches
    ]
