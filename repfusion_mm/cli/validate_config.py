"""Refuse settings that mmengine would silently ignore."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, List, Tuple

from mmengine.config import Config

from repfusion_mm.engine.settings import find_typo, suggest
from repfusion_mm.engine.settings.names import RENAMED, SETTINGS, find_same_key


def check_options(cfg: Config, options: Iterable[str]) -> None:
    """Refuse keys of ``--cfg-options`` that nothing would read.

    A variable of the config is also refused, because the settings that use it
    are already evaluated.

    Raises:
        ValueError: A key is not a setting.
    """
    for key in options:
        name = key.split('.')[0]
        nearest = find_typo(name, SETTINGS)
        if name == 'launcher':
            reason = 'which the option --launcher sets'
        elif name == 'data_preprocessor' and _has_preprocessor(cfg):
            reason = (
                'which nothing would read, because the model has its own; set '
                f'model.{key}'
            )
        elif name in SETTINGS:
            continue
        elif name in cfg:
            reason = (
                f'a variable of {cfg.filename} that is already evaluated; '
                f'{suggest(cfg, name)}'
            )
        elif nearest:
            reason = f'which nothing would read; did you mean {nearest}?'
        elif name in RENAMED or find_same_key(cfg, name):
            reason = f'which nothing would read; {suggest(cfg, name)}'
        else:
            names = ', '.join(sorted(SETTINGS))
            reason = f'which nothing would read; set one of {names}'
        raise ValueError(
            f'expected a setting in --cfg-options, got {key!r}, {reason}'
        )


def check_parts(cfg: Config, model: Any, options: dict) -> None:
    """Refuse optimizer settings that do not match the trained parts.

    These are options for a part without trainable parameters, and a
    ``param_scheduler`` that leaves out a part with trainable parameters.

    Args:
        cfg: The config of the run.
        model: The model of the run.
        options: The keys and values of ``--cfg-options``.

    Raises:
        ValueError: An option has no effect, or a trained part no schedule.
    """
    parts = model.optim_parts() if hasattr(model, 'optim_parts') else {}
    trained = [
        name
        for name, part in parts.items()
        if any(p.requires_grad for p in part.parameters())
    ]
    for key, value in options.items():
        setting, _, rest = key.partition('.')
        part = rest.split('.')[0]
        if (
            setting in ('optim_wrapper', 'param_scheduler')
            and part in {*parts} - {*trained}
            and value
        ):
            raise ValueError(
                f'expected settings of parts with trainable parameters, got '
                f'{key!r}, which nothing would read: the {part} has none; '
                f'leave it out, or change model.{part}'
            )
    schedules = cfg.get('param_scheduler')
    if isinstance(schedules, dict) and 'type' not in schedules:
        missing = [part for part in trained if part not in schedules]
        if missing:
            raise ValueError(
                f'expected param_scheduler with the parts {trained}, got '
                f'{[*schedules]}; add param_scheduler.{missing[0]}=[] for no '
                'schedule, or set param_scheduler=None for none at all'
            )


def check_schedules(cfg: Config) -> None:
    """Refuse a ``param_scheduler`` that is not one of the known forms.

    These are the config of a schedule, a list of them, or a dict with a config
    or a list for each part of the model. A dict must not mix parts with the
    settings of a schedule for all parts.

    Raises:
        ValueError: It has another form, or mixes both.
    """
    schedules = cfg.get('param_scheduler')
    wrapper = cfg.get('optim_wrapper') or {}
    if isinstance(schedules, dict) and 'type' not in schedules:
        for part in schedules:
            if schedules[part] is None:  # which mmengine refuses
                schedules[part] = []
    if isinstance(schedules, dict) and isinstance(wrapper, dict):
        parts = [
            part
            for part, config in wrapper.items()
            if config is None  # of a part that is not trained
            or (isinstance(config, dict) and 'optimizer' in config)
        ]
        own = [part for part in parts if part in schedules]
        other = sorted(k for k, v in schedules.items() if v and k not in own)
        if own and other:
            raise ValueError(
                f'expected param_scheduler with the parts {parts} only, got '
                f'{other}, which no part would read; set '
                f'param_scheduler.{own[0]}.{other[0]}, or, for all parts, '
                'param_scheduler=dict(_delete_=True, type=...)'
            )
    for path, schedule in _iter_schedules(schedules):
        if not isinstance(schedule, dict) or 'type' not in schedule:
            raise ValueError(
                f'expected {path}=dict(type=...), a list of such configs, or '
                'a dict with one of these for each part of the model, got '
                f'{schedule!r}; correct it'
            )


def _iter_schedules(
    value: Any, path: str = 'param_scheduler', is_part: bool = False
) -> Iterator[Tuple[str, Any]]:
    items: List[tuple] = []
    if isinstance(value, (list, tuple)):
        items = [*enumerate(value)]
    elif isinstance(value, dict) and 'type' not in value and not is_part:
        items = [*value.items()]
    elif value is not None:
        yield path, value
    for key, item in items:
        yield from _iter_schedules(item, f'{path}.{key}', True)


def _has_preprocessor(cfg: Config) -> bool:
    return bool(cfg.get('model', {}).get('data_preprocessor'))
