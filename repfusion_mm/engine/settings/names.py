"""Find names at the top level of a config that nothing reads.

mmengine's ``Runner`` reads the names of its arguments and a few more. All
other names are variables of the config: the file that assigns them must use
them.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import logging
import os.path as osp
from typing import Any, Iterable, Iterator, List, Tuple

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import FlexibleRunner, Runner

from repfusion_mm.engine.settings.config_files import ConfigFile, iter_files

#: Arguments of runners, and the names that they and tools read of a config.
SETTINGS = {
    *list(inspect.signature(Runner.__init__).parameters)[1:],
    *list(inspect.signature(FlexibleRunner.__init__).parameters)[1:],
    'activation_checkpointing',
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'probe_dataset',  # of tools/analysis_tools/probe_timesteps.py
    'runner_type',
    'sync_bn',
} - {'cfg'}
#: Variables that the test scripts of the projects read.
TEST_NAMES = {'tta_cfg', 'tta_model', 'tta_pipeline'}
#: Settings of OpenMMLab 1.x, and those that replace them.
RENAMED = {
    'checkpoint_config': 'default_hooks.checkpoint',
    'cudnn_benchmark': 'env_cfg.cudnn_benchmark',
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'deterministic': 'randomness.deterministic',
    'dist_params': 'env_cfg.dist_cfg',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'fp16': "optim_wrapper.type='AmpOptimWrapper' (--amp)",
    'gpu_ids': '--launcher, or CUDA_VISIBLE_DEVICES',
    'log_config': 'default_hooks.logger and visualizer',
    'lr_config': 'param_scheduler',
    'momentum_config': 'param_scheduler',
    'mp_start_method': 'env_cfg.mp_cfg.mp_start_method',
    'opencv_num_threads': 'env_cfg.mp_cfg.opencv_num_threads',
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper',
    'resume_from': 'load_from and resume=True (--resume CHECKPOINT)',
    'runner': 'train_cfg',
    'seed': 'randomness.seed',
    'total_epochs': 'train_cfg.max_epochs',
    'total_iters': 'train_cfg.max_iters',
    'workflow': 'train_cfg.val_interval',
}
#: What is done about a name that nothing reads, by its kind and the file that
#: assigns it: the one that is run, one that it inherits from, and one that
#: only has values, such as a run dumps. Names of the last kind may be for a
#: hook or a tool of the user.
ACTIONS = {
    'typo': ('error', 'error', 'error'),
    # A variable of a base config that is assigned again. There are settings
    # with this key and another value, or there are none.
    'changed setting': ('error', 'error', ''),
    'changed': ('error', 'warning', ''),
    'renamed': ('error', 'warning', 'error'),
    'setting': ('error', 'warning', 'warning'),
    'other': ('warning', 'warning', ''),
}


def check_names(cfg: Config) -> None:
    """Refuse or log names at the top level that nothing would read.

    For the configs that are installed with a package, whose files a user does
    not edit, they are logged.

    Raises:
        ValueError: Such a name is nearly the name of a setting, or seems to
            be meant as one (:data:`ACTIONS`).
    """
    for path, name, action in find_unused(cfg):
        text = (
            f'expected settings and variables that are used in {path}, got '
            f'{name!r}, which nothing would read; '
            f'{suggest(cfg, name, path)}, or remove it'
        )
        if action == 'error':
            raise ValueError(text)
        _log_once(text)


def find_unused(cfg: Config) -> Iterator[Tuple[str, str, str]]:
    """Yield the names of a config that nothing would read.

    A file reads the names that it loads, and, as ``_base_.NAME``, those of
    the files that it inherits from. Names that begin with ``_`` are private.

    Yields:
        The file that assigns the name, the name, and what is done about it.
    """
    names = {name for name in cfg if not name.startswith('_')}
    empty = {name for name in names if cfg[name] in (None, [], {})}
    unknown = names
    for index, file in enumerate(iter_files(cfg.filename or '')):
        unknown = unknown - file.assigned - file.inherited
        if index and (file.is_installed or file.has_only_values):
            continue
        changed = file.assigned & file.inherited | file.edited
        found = names & (changed | file.assigned - empty) - file.used
        for name in sorted(found):
            action = _action_for(cfg, name, file, int(index > 0))
            if action == 'error' and file.is_installed:
                action = 'warning'
            if action:
                yield file.path, name, action
    for name in sorted(unknown - SETTINGS):
        if find_typo(name, SETTINGS):
            yield cfg.filename or 'the config', name, 'error'


def _action_for(cfg: Config, name: str, file: ConfigFile, place: int) -> str:
    """Return the action for an unused name, or '' if there is none."""
    if name == 'data_preprocessor':
        kind = '' if _same_preprocessor(cfg) else 'renamed'
    elif name in SETTINGS | TEST_NAMES:
        kind = ''
    elif name in file.edited | file.inherited:
        is_setting = find_same_key(cfg, name) and not _is_value(cfg, name)
        kind = 'changed setting' if is_setting else 'changed'
    elif name in RENAMED:
        kind = 'renamed'
    elif find_same_key(cfg, name):
        kind = 'setting'
    else:
        variables = {*cfg} - file.assigned  # of base configs
        is_typo = find_typo(name, SETTINGS | variables)
        kind = 'typo' if is_typo else 'other'
    if kind == 'other' and place and file.assigned & file.used:
        kind = ''  # a base that offers several variables
    if file.has_only_values:
        place = 2
        # Dumped variables have the values of the settings, until one of them
        # is edited. mmseg's schedules have a variable "optimizer".
        if kind == 'setting' and _is_value(cfg, name):
            kind = ''
        if kind == 'renamed' and (
            name in ('data_preprocessor', 'optimizer') or file.is_dumped
        ):
            kind = ''
    return ACTIONS[kind][place] if kind else ''


def _is_value(cfg: Config, name: str) -> bool:
    """Return whether a setting with this key has the value of the variable."""
    keys = find_same_key(cfg, name, limit=1000)
    return cfg[name] in [_value_of(cfg, key) for key in keys]


def suggest(cfg: Config, name: str, path: str = '') -> str:
    """Return which setting to use instead of a name or a key.

    These are all settings that a base config has made of this variable, or
    one with the same last key, the successor of one of OpenMMLab 1.x, or one
    with nearly the same name.

    Args:
        cfg: The config.
        name: The name.
        path: The file that assigns it again, if any.
    """
    if name == 'data_preprocessor':
        return 'the model has its own: set model.data_preprocessor'
    for source in _find_sources(cfg, name, path):
        value = Config.fromfile(source, import_custom_modules=False).get(name)
        keys = find_same_key(cfg, name, limit=1000)
        keys = [key for key in keys if _value_of(cfg, key) == value]
        ways = [_show_keys(keys, ' and ', ' ')] if 0 < len(keys) <= 8 else []
        if ways or name not in RENAMED:
            ways.append(f'{_show_copy(source)} with another {name}')
            return ', or '.join(ways)
    found = find_same_key(cfg, name)
    if name in RENAMED and not found:
        found = [RENAMED[name]]
    if found:
        return _show_keys(found, ' or ', ' or ')
    typo = find_typo(name, (SETTINGS | {*cfg}) - {name})
    if typo in cfg and typo not in SETTINGS:  # a variable of a base config
        return f'did you mean {typo!r}? {suggest(cfg, typo, path)}'
    if typo:
        return f'did you mean {typo!r}? If not, rename it'
    return 'set the settings that it is meant for'


def _find_sources(cfg: Config, name: str, path: str) -> List[str]:
    """Return the files that assign a name before the file ``path`` does."""
    files = iter_files(cfg.filename or '')
    found = [file.path for file in files if name in file.assigned]
    return found[found.index(path) + 1 :] if path in found else found


def _show_copy(source: str) -> str:
    """Return how to use a copy of a file, which may be an installed one."""
    source = osp.normpath(source)
    package, _, inside = source.partition(f'{osp.sep}.mim{osp.sep}')
    if not inside:
        return f'use a copy of {source} in its folder'
    return (
        f'use a copy of {source}, in which bases begin with '
        f'{osp.basename(package)}:: instead of ../,'
    )


def _show_keys(keys: List[str], word: str, separator: str) -> str:
    """Return how to set settings; a child config replaces lists."""
    if any(part.isdigit() for key in keys for part in key.split('.')):
        options = separator.join(f'{key}=...' for key in keys)
        return f'give --cfg-options {options}'
    return f'set {word.join(keys)}'


def find_same_key(cfg: Config, name: str, limit: int = 4) -> List[str]:
    """Return the settings whose keys end with ``name``, with full keys."""
    keys = [
        path
        for key in cfg
        if key in SETTINGS
        for path in _iter_keys(cfg[key], key)
        if path.endswith(f'.{name}')
    ]
    return sorted(keys, key=lambda path: path.count('.'))[:limit]


def find_typo(name: str, names: Iterable[str]) -> str:
    """Return the one of ``names`` that ``name`` may be a typo of, or ''."""
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.85)
    return found[0] if found else ''


def _iter_keys(value: Any, path: str) -> Iterator[str]:
    yield path
    items: Iterable = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, item in items:
        yield from _iter_keys(item, f'{path}.{key}')


def _same_preprocessor(cfg: Config) -> bool:
    """Return whether the model's own preprocessor has the same settings."""
    own = (cfg.get('model') or {}).get('data_preprocessor')
    asked = cfg.data_preprocessor
    if not isinstance(own, dict) or not isinstance(asked, dict):
        return own is None
    return all(own.get(key) == asked[key] for key in asked)


@functools.lru_cache(maxsize=None)
def _log_once(text: str) -> None:
    """Log a warning; the hook checks what the command line has checked."""
    print_log(text, logger='current', level=logging.WARNING)


def _value_of(cfg: Config, path: str) -> Any:
    value: Any = cfg
    for key in path.split('.'):
        value = value[int(key) if isinstance(value, (list, tuple)) else key]
    return value
