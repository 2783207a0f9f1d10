import shutil

import pytest
import torch
from mmengine.registry import MODELS

from repfusion_mm.models.teachers.loading.fingerprint import (
    hash_files,
    hash_samples,
    hash_weights,
)
from tests.helpers.toy import LAYER


def build(folder, **overrides):
    return MODELS.build(dict(
        type='repfusion_mm.DiffusersTeacher', pretrained=str(folder),
        layers=[LAYER], **overrides,
    ))  # fmt: skip


def test_the_folder_does_not_change_the_fingerprint(teacher_folder, tmp_path):
    copy = shutil.copytree(teacher_folder, tmp_path / 'copy')
    assert build(teacher_folder).fingerprint() == build(copy).fingerprint()


def test_parts_can_be_read(teacher_folder):
    parts = build(teacher_folder, dtype='float32').fingerprint()
    assert parts['layers'] == {LAYER: [16, 8, 8]}
    assert parts['dtype'] == 'float32'
    assert parts['image_size'] == 16
    assert (parts['input_mode'], parts['class_signal']) == ('clean', 'none')
    assert len(parts['weights']) == len(parts['denoiser']) == 64


def test_every_weight_changes_the_hash(teacher_folder):
    teacher = build(teacher_folder)
    hashes = {hash_weights(teacher.denoiser)}
    parameters = list(teacher.denoiser.parameters())
    for parameter in parameters:
        parameter.flatten()[-1] += 0.1
        hashes.add(hash_weights(teacher.denoiser))
    assert len(hashes) == 1 + len(parameters)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_the_dtype_changes_the_fingerprint(teacher_folder, dtype):
    parts, others = (
        build(teacher_folder, dtype=name).fingerprint()
        for name in ('float32', dtype)
    )
    differ = {name for name in parts if parts[name] != others[name]}
    assert differ == {'weights', 'dtype'}
    assert others['dtype'] == dtype


def test_moves_and_passes_keep_the_fingerprint(teacher_folder):
    teacher = build(teacher_folder, dtype='bfloat16')
    before = teacher.fingerprint()
    teacher.to('cpu')
    assert teacher.fingerprint() == before
    teacher(torch.zeros(1, 3, 16, 16), torch.zeros(1, dtype=torch.long))
    assert teacher.fingerprint() == before


@pytest.mark.parametrize('position', [0, 100_000, 8_399_999])
def test_hash_of_files_covers_small_ones_and_both_ends_of_large_ones(
    tmp_path, position
):
    file = tmp_path / 'weights'
    for size in (200_000, 8_400_000):
        content = bytearray(size)
        file.write_bytes(content)
        before = hash_files([file])
        content[min(position, size - 1)] = 1
        file.write_bytes(content)
        is_read = size == 200_000 or position != 100_000
        assert (hash_files([file]) != before) == is_read
        renamed = file.rename(tmp_path / 'renamed')
        assert hash_files([renamed]) != before


def test_sampled_hash_covers_small_tensors_and_both_ends_of_large_ones():
    small, large = torch.nn.Linear(3, 7), torch.nn.Conv2d(100, 100, 9)
    module = torch.nn.Sequential(small, large)
    before = hash_samples(module)
    module.to(memory_format=torch.channels_last)
    assert hash_samples(module) == before
    for values, position, is_read in (
        (small.weight, 10, True),
        (large.weight, 0, True),
        (large.weight, 1, False),
        (large.weight, -1, True),
    ):
        value = values.data.contiguous().view(-1)[position].item()
        index = torch.tensor([position % values.numel()])
        values.data.put_(index, torch.tensor([value + 1]))
        assert (hash_samples(module) != before) == is_read
        values.data.put_(index, torch.tensor([value]))
    assert hash_samples(module) == before
