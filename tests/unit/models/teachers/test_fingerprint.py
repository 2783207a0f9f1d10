import shutil

import pytest
import torch
from mmengine.registry import MODELS

from repfusion_mm.models.teachers.fingerprint import (
    fingerprint,
    hash_weights,
)
from tests.helpers.toy import LAYER


def build(folder, **overrides):
    return MODELS.build(dict(
        type='repfusion_mm.DiffusersTeacher', pretrained=str(folder),
        layers=[LAYER], **overrides,
    ))  # fmt: skip


def test_a_teacher_is_the_same_wherever_it_lies(teacher_folder, tmp_path):
    twin = shutil.copytree(teacher_folder, tmp_path / 'twin')
    assert fingerprint(build(teacher_folder)) == fingerprint(build(twin))


def test_parts_can_be_read(teacher_folder):
    parts = fingerprint(build(teacher_folder, dtype='float32'))
    assert parts['layers'] == {LAYER: [16, 8, 8]}
    assert parts['dtype'] == 'float32'
    assert parts['image_size'] == 16
    assert (parts['input_mode'], parts['class_signal']) == ('clean', 'none')
    assert len(parts['weights']) == len(parts['denoiser']) == 64


def test_every_weight_counts(teacher_folder):
    teacher = build(teacher_folder)
    hashes = {hash_weights(teacher.denoiser, torch.float32)}
    parameters = list(teacher.denoiser.parameters())
    for parameter in parameters:
        parameter.flatten()[-1] += 0.1
        hashes.add(hash_weights(teacher.denoiser, torch.float32))
    assert len(hashes) == 1 + len(parameters)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_casting_the_weights_changes_no_fingerprint(teacher_folder, dtype):
    denoiser = build(teacher_folder).denoiser
    before = hash_weights(denoiser, dtype)
    assert hash_weights(denoiser, torch.float32) != before
    assert hash_weights(denoiser.to(dtype), dtype) == before


def test_the_first_pass_changes_no_fingerprint(teacher_folder):
    """It casts the weights."""
    teacher = build(teacher_folder, dtype='bfloat16')
    before = fingerprint(teacher)
    assert before['dtype'] == 'bfloat16'
    teacher(torch.zeros(1, 3, 16, 16), torch.zeros(1, dtype=torch.long))
    assert teacher.denoiser.dtype == torch.bfloat16
    assert fingerprint(teacher) == before
