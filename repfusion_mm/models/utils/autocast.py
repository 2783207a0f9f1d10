"""Leave autocast where the type of numbers is one's own choice."""

from __future__ import annotations

import contextlib
from typing import ContextManager

import torch


def without_autocast(device: torch.device) -> ContextManager:
    """Return a context in which nothing on ``device`` is autocast."""
    if device.type == 'meta':  # which has no autocast to leave
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
