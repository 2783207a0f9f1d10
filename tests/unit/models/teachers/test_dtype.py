"""The dtype that the teacher computes in."""

from pathlib import Path

import pytest
import torch

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.dtype import resolve_dtype
from tests.helpers.toy import LAYER

IMAGES = torch.linspace(0, 1, 4 * 3 * 16 * 16).reshape(4, 3, 16, 16)
TIMESTEPS = torch.tensor([0, 10, 500, 999])


def test_cpu_uses_bfloat16_if_it_multiplies_it():
    cpuinfo = Path('/proc/cpuinfo')
    if not cpuinfo.exists():
        pytest.skip('no /proc/cpuinfo to compare with')
    if not hasattr(torch.cpu, 'get_capabilities'):
        pytest.skip('this torch cannot detect it, and float32 is used')
    flags = cpuinfo.read_text().split()
    native = 'avx512_bf16' in flags or 'amx_bf16' in flags
    expected = torch.bfloat16 if native else torch.float32
    assert resolve_dtype('auto', torch.device('cpu')) is expected


@pytest.mark.parametrize(
    ('capability', 'dtype'),
    [
        ((9, 0), torch.bfloat16),
        ((8, 6), torch.bfloat16),
        ((7, 5), torch.float16),
        ((6, 1), torch.float32),
    ],
)
def test_a_gpu_uses_its_fastest_dtype(monkeypatch, capability, dtype):
    monkeypatch.setattr(
        'torch.cuda.get_device_capability', lambda device: capability
    )
    assert resolve_dtype('auto', torch.device('cuda', 0)) is dtype
    assert resolve_dtype('float32', torch.device('cuda', 0)) is torch.float32


@pytest.mark.parametrize('dtype', ['bfloat16', 'float32'])
def test_autocast_does_not_change_the_teachers_dtype(teacher_folder, dtype):
    teacher = DiffusersTeacher([LAYER], teacher_folder, dtype=dtype)
    expected = teacher(IMAGES, TIMESTEPS)[LAYER]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = teacher(IMAGES, TIMESTEPS)[LAYER]
        assert torch.is_autocast_cpu_enabled()
    assert torch.equal(expected, inside)
    assert inside.dtype == torch.float32
    held = {p.dtype for p in teacher.parameters()}
    assert held == {getattr(torch, dtype)}


def test_bfloat16_is_near_float32(teacher_folder):
    exact, fast = (
        DiffusersTeacher([LAYER], teacher_folder, dtype=dtype)
        for dtype in ('float32', 'bfloat16')
    )
    expected = exact(IMAGES, TIMESTEPS)[LAYER]
    error = fast(IMAGES, TIMESTEPS)[LAYER] - expected
    assert 0 < error.norm() / expected.norm() < 0.05
