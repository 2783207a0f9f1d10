"""The lines of a config that distill one layer at one timestep."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Optional, Sequence

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
    if cfg.model.get('decoder_layers', 'last') != 'last':
        lines.append("    decoder_layers='last',")
    if len(layers) > 1:
        index = cfg.model.student_indices[list(layers).index(layer)]
        lines.append(f'    student_indices=[{index}],')
        if cfg.model.get('layer_weights'):
            lines.append('    layer_weights=None,')
    end = [')', 'optim_wrapper = dict(policy=None, decoder=None)']
    return '\n'.join(lines + end)


def advise(
    cfg: Config,
    layers: Sequence[str],
    layer: str,
    timestep: int,
    input_mode: Optional[str] = None,
    options: Iterable[str] = (),
) -> str:
    """Return what to write where, to distill one layer at one timestep.

    Args:
        cfg, layers, layer, timestep, input_mode: See :func:`format_lines`.
        options: The names of the settings that ``--cfg-options`` changed.
    """
    path = Path(cfg.filename)
    lines = format_lines(cfg, layers, layer, timestep, input_mode)
    written = ['probe_dataset', 'model.policy', 'model.decoder']
    if len(layers) > 1 or input_mode:
        written.append('model.teacher')
    if len(layers) > 1:
        written += ['model.student_indices', 'model.layer_weights']
    again = sorted(
        name for name in options if not name.startswith(tuple(written))
    )
    train = 'train it' + bool(again) * (
        f', with the same --cfg-options for {", ".join(again)}'
    )
    text = path.read_text(encoding='utf-8')
    if 'timestep=timestep' in text and len(layers) == 1 and not input_mode:
        return f'In {path}, set timestep = {timestep}, and {train}.\n'
    name = path.with_name(f'{path.stem}_t{timestep}.py')
    return (
        f'Write this config to {name}, and {train}:\n\n'
        f'```python\n{lines}\n```\n'
    )
