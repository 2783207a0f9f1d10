"""What the teacher computes in, and how it is compiled."""

from pathlib import Path

import pytest
import torch

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.dtype import resolve_dtype
from tests.helpers.toy import LAYER

IMAGES = torch.linspace(0, 1, 4 * 3 * 16 * 16).reshape(4, 3, 16, 16)
TIMESTEPS = torch.tensor([0, 10, 500, 999])


def test_a_cpu_uses_bfloat16_where_it_multiplies_it():
    cpuinfo = Path('/proc/cpuinfo')
    if not cpuinfo.exists():
        pytest.skip('no /proc/cpuinfo to compare with')
    if not hasattr(torch.cpu, 'get_capabilities'):
        pytest.skip('this torch does not tell, and float32 is taken')
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
def test_a_gpu_uses_what_it_multiplies_fast(monkeypatch, capability, dtype):
    monkeypatch.setattr(
        'torch.cuda.get_device_capability', lambda device: capability
    )
    assert resolve_dtype('auto', torch.device('cuda', 0)) is dtype
    assert resolve_dtype('float32', torch.device('cuda', 0)) is torch.float32


@pytest.mark.parametrize('dtype', ['bfloat16', 'float32'])
def test_the_type_is_the_teachers_own(teacher_folder, dtype):
    """Neither the student's autocast nor its absence changes it."""
    teacher = DiffusersTeacher([LAYER], teacher_folder, dtype=dtype)
    alone = teacher(IMAGES, TIMESTEPS)[LAYER]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = teacher(IMAGES, TIMESTEPS)[LAYER]
        assert torch.is_autocast_cpu_enabled()
    assert torch.equal(alone, inside)
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


def test_the_compiled_pass_is_truncated_and_gives_the_same(
    teacher_folder, fresh_compiler, monkeypatch
):
    said = []
    monkeypatch.setattr(
        'repfusion_mm.models.teachers.feature_extractor.print_log',
        lambda message, **kwargs: said.append(message),
    )
    layers = ['down_blocks.1.resnets.0.conv1', LAYER]
    plain, compiled = (
        DiffusersTeacher(
            layers, teacher_folder, dtype='float32', compile=compile
        )
        for compile in (False, True)
    )
    expected = plain(IMAGES, TIMESTEPS)
    monkeypatch.setattr('torch._dynamo.config.error_on_recompile', True)
    for _ in range(2):
        feats = compiled(IMAGES, TIMESTEPS)
        for layer in layers:
            torch.testing.assert_close(feats[layer], expected[layer])
    assert said == []
    assert compiled.feature_extractor.is_compiled


def test_without_a_compiler_the_pass_runs_as_it_is(
    teacher_folder, no_compiler, monkeypatch
):
    said = []
    monkeypatch.setattr(
        'repfusion_mm.models.teachers.feature_extractor.print_log',
        lambda message, **kwargs: said.append(message),
    )
    plain, compiled = (
        DiffusersTeacher([LAYER], teacher_folder, compile=compile)
        for compile in (False, True)
    )
    expected = plain(IMAGES, TIMESTEPS)[LAYER]
    for _ in range(2):
        assert torch.equal(compiled(IMAGES, TIMESTEPS)[LAYER], expected)
    assert len(said) == 1 and said[0].startswith('torch.compile failed')


def test_bad_input_is_its_own_error_when_compiled(teacher_folder):
    teacher = DiffusersTeacher([LAYER], teacher_folder, compile=True)
    with pytest.raises(RuntimeError, match='channels'):
        teacher(IMAGES[:, :2], TIMESTEPS)
