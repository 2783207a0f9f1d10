"""Whether a distilled student is better than an untrained one."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS

from repfusion_mm.analysis.probe.student import (
    UNDECIDED,
    StudentProbe,
    describe_student,
    probe_student,
)
from repfusion_mm.analysis.probe.tasks.classification import ClassTask
from tests.helpers.probe_measurements import given
from tests.helpers.toy import distiller_config

INITIAL = [given(0.1, seed=1), given(0.2, seed=2)]


@pytest.mark.parametrize(
    ('r2', 'words'),
    [
        (0.5, 'is better than an untrained one for a linear model'),
        (0.15, 'is not better than an untrained one'),
        (0.21, 'These labels cannot tell'),
    ],
)
def test_the_best_untrained_student_decides(r2, words):
    probe = StudentProbe(given(r2, seed=3), INITIAL, given(0.9), 300)
    _, *lines = describe_student(probe, 'accuracy').splitlines()
    assert lines[0].startswith('teacher at t = 300: accuracy 0.900')
    assert lines[1].startswith(f'distilled student: accuracy {r2:.3f}')
    assert lines[2].startswith('untrained student: accuracy 0.200')
    assert words in lines[3]
    assert f'(R² {r2 - 0.2:+.3f} ± ' in lines[3]


def test_a_student_that_predicts_nothing_is_not_called_better():
    initial = [given(-0.5, seed=1), given(-0.4, seed=2)]
    probe = StudentProbe(given(-0.01, seed=3), initial, given(0.9), 300)
    line = describe_student(probe, 'accuracy').splitlines()[-1]
    assert line.startswith(UNDECIDED)
    assert line.endswith('of it is no better than a constant.')


@pytest.mark.parametrize('sizes', [(8, 8, 1), 17 * (1,)])
def test_a_batch_of_one_image_is_measured_too(tmp_path, sizes):
    """Batch norms cannot be calibrated on one image and a map of 1 x 1."""
    student = dict(
        type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8
    )
    config = distiller_config(student=student)
    model = MODELS.build(config)
    file = tmp_path / 'student.pth'
    torch.save(dict(state_dict=model.student.state_dict(), meta={}), file)
    (layer,) = model.teacher.live.feature_shapes
    labels = [torch.tensor(i % 2).numpy() for i in range(sum(sizes))]
    prober = SimpleNamespace(
        model=model,
        cfg=SimpleNamespace(model=SimpleNamespace(student=student)),
        batches=[*torch.rand(sum(sizes), 3, 16, 16).split(sizes)],
        grids={layer: (1, 1)},
        task=ClassTask(labels),
        features=lambda t, mode: {layer: torch.rand(sum(sizes), 1, 4).numpy()},
    )
    probe = probe_student(prober, file, ('clean', layer, 0))
    assert len(probe.distilled.skill) == sum(sizes)
