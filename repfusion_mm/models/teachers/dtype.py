"""The dtype that a frozen teacher computes in."""

from __future__ import annotations

import torch

DTYPES = ('auto', 'float32', 'bfloat16', 'float16')


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype called ``name``, or choose one for the device.

    ``'auto'`` is bfloat16, which has the range of float32, on devices that
    multiply it in hardware: GPUs of compute capability 8.0 and newer, CPUs
    with AVX512-BF16 or AMX. It is float16 on GPUs of compute capability 7.x,
    and float32 elsewhere.
    """
    if name != 'auto':
        return getattr(torch, name)
    if device.type == 'cuda':
        major, _ = torch.cuda.get_device_capability(device)
        if major >= 8:
            return torch.bfloat16
        return torch.float16 if major == 7 else torch.float32
    if device.type == 'cpu' and _cpu_multiplies_bfloat16():
        return torch.bfloat16
    return torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    # Older versions of torch have no such function: assume that it does not.
    found: dict = getattr(torch.cpu, 'get_capabilities', dict)()
    return bool(found.get('avx512_bf16') or found.get('amx_bf16'))
