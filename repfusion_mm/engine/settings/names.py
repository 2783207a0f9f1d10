"""Find names at the top level of a config that nothing reads.

mmengine's ``Runner`` reads the names of its arguments and a few more. All
other names are variables of the config: the file that assigns them must use
them.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import logging
import re
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Set, Tuple

import mmengine
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import FlexibleRunner, Runner

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


#: What is done about a name that nothing reads, by the kind of the name and
#: of the file that assigns it: the one that is run, one that it inherits
#: from, and one of values only, such as a run dumps. Names of other kinds may
#: be for a hook or a tool of the user.
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
RUN, INHERITED, VALUES = range(3)


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
            f'{suggest(cfg, name)}, or remove it'
        )
        if action == 'error' and not _is_installed(path):
            raise ValueError(text)
        _log_once(text)


def find_unused(cfg: Config) -> Iterator[Tuple[str, str, str]]:
    """Yield the names of a config that nothing would read.

    A file reads the names that it loads, and, as ``_base_.NAME``, those of
    the files that it inherits from. Names that begin with ``_`` are private.

    Yields:
        The file that assigns the name, the name, and what is done about it.
    """
    filename = cfg.filename or ''
    known = set()
    for path, names, used, below in _files_of(filename, set()):
        known |= names | below
        place = RUN if path == filename else INHERITED
        if place == RUN and not _has_code(path):
            place = VALUES
        elif place == INHERITED and (
            _is_installed(path) or not _has_code(path)
        ):
            continue
        for name in sorted(names & {*cfg} - used):
            if cfg[name] in (None, [], {}) or name.startswith('_'):
                continue
            kind = _kind_of(cfg, name, below)
            if place == VALUES and not _is_edited(cfg, name, kind, path):
                continue
            action = ACTIONS[kind][place] if kind else ''
            if action:
                yield path, name, action
    for name in sorted({*cfg} - known):
        if _kind_of(cfg, name, set()) == 'typo':
            yield filename or 'the config', name, 'error'


def _kind_of(cfg: Config, name: str, below: Set[str]) -> str:
    """Return the row of ``ACTIONS`` for an unused name; '' is a setting.

    Args:
        cfg: The config.
        name: The name.
        below: The names that the files assign that its file inherits from.
    """
    if name == 'data_preprocessor':
        return '' if _same_preprocessor(cfg) else 'renamed'
    if name in SETTINGS | TEST_NAMES:
        return ''
    settings = find_same_key(cfg, name)
    if name in below:
        is_unread = settings and not _is_value(cfg, name)
        return 'changed setting' if is_unread else 'changed'
    if name in RENAMED:
        return 'renamed'
    if settings:
        return 'setting'
    return 'typo' if find_typo(name, SETTINGS) else 'other'


def _is_edited(cfg: Config, name: str, kind: str, path: str) -> bool:
    """Return whether a name in a file of values is not as a run dumped it."""
    if kind == 'renamed':
        # mmseg's schedules have a variable "optimizer".
        unread = name not in ('data_preprocessor', 'optimizer')
        return unread and not _is_dumped(path)
    return not _is_value(cfg, name)


def _is_value(cfg: Config, name: str) -> bool:
    """Return whether a setting with this key has the value of the variable."""
    keys = find_same_key(cfg, name, limit=1000)
    return cfg[name] in [_value_of(cfg, key) for key in keys]


def suggest(cfg: Config, name: str) -> str:
    """Return which setting to use instead of a name or a key.

    It is one with the same last key, the successor of one of OpenMMLab 1.x,
    or one with nearly the same name.
    """
    if name == 'data_preprocessor':
        return 'the model has its own: set model.data_preprocessor'
    found = find_same_key(cfg, name)
    if name in RENAMED and not found:
        found = [RENAMED[name]]
    if found:
        return f'set {" or ".join(found)}'
    typo = find_typo(name, SETTINGS)
    if typo:
        return f'did you mean {typo!r}? If not, rename it'
    return 'set the settings that it is meant for'


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


def _files_of(
    path: str, used: Set[str]
) -> Iterator[Tuple[str, Set[str], Set[str], Set[str]]]:
    """Yield a config file, and the files that it inherits from.

    Args:
        path: The file.
        used: The names that the files use that inherit from it.

    Yields:
        The file, the names that it assigns, those that it and files that
        inherit from it use, and those that files assign that it inherits
        from.
    """
    if not Path(path).is_file():
        return
    names, own, _ = _names_of(path, Path(path).read_text(encoding='utf-8'))
    used = used | own
    below: Set[str] = set()
    files = []
    for base in Config._get_base_files(path):
        file, _ = Config._get_cfg_path(base, path)
        files += list(_files_of(file, used))
    for _, others, _, _ in files:
        below |= others
    yield path, names, used, below
    yield from files


@functools.lru_cache(maxsize=None)
def _names_of(path: str, text: str) -> Tuple[Set[str], Set[str], bool]:
    """Return the names that a file assigns and uses, and if it has code.

    A file without code, such as one that a run dumped, only has values.
    """
    used = {*re.findall(r'_base_\.(\w+)', text)}
    if not path.endswith('.py'):
        assigned = set(mmengine.load(path))
        return assigned, used, '_base_' in assigned
    tree = ast.parse(text)
    assigned = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            assigned.update(_targets(node))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            used.add(node.id)
    has_code = '_base_' in assigned or bool(used - {'dict', 'list', 'tuple'})
    return assigned, used, has_code


def _has_code(path: str) -> bool:
    return _names_of(path, Path(path).read_text(encoding='utf-8'))[2]


def _targets(node: Any) -> Set[str]:
    targets = getattr(node, 'targets', None) or [node.target]
    return {
        name.id
        for target in targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }


def _is_installed(path: str) -> bool:
    return '.mim' in Path(path).parts


@functools.lru_cache(maxsize=None)
def _log_once(text: str) -> None:
    """Log a warning; the hook checks what the command line has checked."""
    print_log(text, logger='current', level=logging.WARNING)


def _value_of(cfg: Config, path: str) -> Any:
    value: Any = cfg
    for key in path.split('.'):
        value = value[int(key) if isinstance(value, (list, tuple)) else key]
    return value


def _is_dumped(path: str) -> bool:
    """Return whether a run wrote the file, as it is now."""
    text = Path(path).read_text(encoding='utf-8')
    return text.strip() == Config.fromfile(path).pretty_text.strip()
