"""Disable autocast for code that chooses its own dtype."""

from __future__ import annotations

import contextlib
from typing import ContextManager

import torch


def without_autocast(device: torch.device) -> ContextManager:
    """Return a context manager that disables autocast on ``device``."""
    if device.type == 'meta':  # has no autocast
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
