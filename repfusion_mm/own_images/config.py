"""Write the config of a distillation on a folder of images."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence

from mmengine.config import Config

from repfusion_mm.engine.settings.names import SETTINGS
from repfusion_mm.own_images.choices import CONFIGS
from repfusion_mm.utils.settings import flatten_settings

#: What the config is filled in from.
TEMPLATE = CONFIGS / 'distill' / 'repfusion_custom.py'
#: Settings of the config that belong together, and what they are.
SECTIONS = {
    'The student is trained to predict the features of the teacher.': (
        'model',
    ),
    'All images, labeled or not.': ('train_dataloader',),
    'Labeled images, for tools/analysis_tools/probe_timesteps.py.': (
        'probe_dataset',
    ),
    'Length, optimizers and learning rates.': (
        'train_cfg',
        'optim_wrapper',
        'param_scheduler',
    ),
    'Checks, checkpoints, logs and export; see docs/reliability.md.': (
        'default_hooks',
        'custom_hooks',
        'log_processor',
    ),
}


def fill_in(variables: Dict[str, Any], teacher: str) -> Config:
    """Return ``configs/distill/repfusion_custom.py`` with other values.

    Args:
        variables: The variables at its top that differ.
        teacher: Name of a file of ``configs/_base_/teachers``.
    """
    text = TEMPLATE.read_text(encoding='utf-8')
    text = text.replace('teachers/ddpm_custom.py', f'teachers/{teacher}.py')
    text = text.replace("'../_base_", f"'{CONFIGS.as_posix()}/_base_")
    for name, value in variables.items():
        line = f'{name} = {escape(repr(value))}'.replace('\\', r'\\')
        text, count = re.subn(rf'^{name} = [^\n]*$', line, text, flags=re.M)
        if count != 1:
            raise ValueError(f'expected one line "{name} = ..." in {TEMPLATE}')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, TEMPLATE.name)
        path.write_text(text, encoding='utf-8')
        return Config.fromfile(path)


def write_config(path: Path, cfg: Config, notes: Sequence[str]) -> None:
    """Write a complete config without a base, in sections.

    Args:
        path: The file.
        cfg: The config.
        notes: Lines of the comment at its top.
    """
    sections = dict(SECTIONS)
    named = {name for names in sections.values() for name in names}
    sections['Environment.'] = tuple(
        name for name in cfg if name in SETTINGS and name not in named
    )
    parts = [''.join(f'# {line}\n' for line in notes)]
    for title, names in sections.items():
        values = {name: cfg[name] for name in names if name in cfg}
        if values:
            text = escape(Config(values).pretty_text)
            parts.append(f'# {title}\n{text}')
    unfinished = path.with_suffix('.tmp')
    unfinished.write_text('\n'.join(parts), encoding='utf-8')
    unfinished.replace(path)


def escape(text: str) -> str:
    """Return Python code in which mmengine replaces no ``{{ variable }}``."""
    return text.replace('{{', r'{\x7b')


def check_same(
    path: Path, make_config: Callable[[Optional[int]], Config]
) -> None:
    """Refuse a work directory in which something else was distilled.

    Args:
        path: The config that an earlier call wrote.
        make_config: Return the config of this call at a timestep.

    Raises:
        ValueError: It has other settings, except for the timestep.
    """
    before = Config.fromfile(path)
    timestep = before.model.policy.get('timestep')
    old, new = (
        flatten_settings(
            {k: v for k, v in c.to_dict().items() if k in SETTINGS}
        )
        for c in (before, make_config(timestep))
    )
    differ = [
        f'{name}={new.get(name)} (there {old.get(name)})'
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    if differ:
        more = f' and {len(differ) - 5} others' if len(differ) > 5 else ''
        raise ValueError(
            f'expected the settings of the earlier call in {path}, got '
            f'{", ".join(differ[:5])}{more}; restore them, remove the folder, '
            'or give another --work-dir'
        )
