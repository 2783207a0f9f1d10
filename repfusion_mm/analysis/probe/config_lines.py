"""The lines of a config that distill one layer at one timestep."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence

from mmengine.config import Config


def format_lines(
    cfg: Config,
    layers: Sequence[str],
    layer: str,
    timestep: int,
    input_mode: Optional[str] = None,
) -> str:
    """Return a config that inherits from another one in the same folder.

    Args:
        cfg: The config of a distillation from one or several layers.
        layers: The names of its layers, in their order.
        layer: The layer to distill.
        timestep: The timestep.
        input_mode: ``'clean'`` or ``'noised'``, if it differs from that of
            the config.
    """
    teacher = cfg.model.teacher.to_dict()
    lines = [f'_base_ = [{Path(cfg.filename).name!r}]', 'model = dict(']
    if len(layers) > 1 or input_mode:
        teacher['layers'] = [layer]
        if input_mode:
            teacher['input_mode'] = input_mode
        settings = (
            f'        {name}={value!r},' for name, value in teacher.items()
        )
        lines += [
            '    teacher=dict(', '        _delete_=True,', *settings, '    ),'
        ]  # fmt: skip
    lines += [
        '    policy=dict(',
        '        _delete_=True,',
        "        type='repfusion_mm.FixedTimestepPolicy',",
        f'        timestep={timestep},',
        '    ),',
        '    decoder=None,',
    ]
    if len(layers) > 1:
        index = cfg.model.student_indices[list(layers).index(layer)]
        lines.append(f'    student_indices=[{index}],')
    end = [')', 'optim_wrapper = dict(policy=None, decoder=None)']
    return '\n'.join(lines + end)
