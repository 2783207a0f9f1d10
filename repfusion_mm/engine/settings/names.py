"""Find names at the top level of a config that nothing reads.

mmengine's ``Runner`` reads the names of its arguments and a few more. All
other names are variables of the config: the file that assigns them must use
them.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import logging
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


def check_names(cfg: Config) -> None:
    """Refuse names at the top level that nothing would read.

    For the configs that are installed with a package, whose files a user does
    not edit, they are logged.

    Raises:
        ValueError: A name is nearly the name of a setting, or is assigned in
            the file of the config and not used there.
    """
    for name in cfg:
        nearest = find_nearest(name, SETTINGS)
        if name not in SETTINGS and nearest:
            raise ValueError(
                f"expected settings of mmengine's Runner in {cfg.filename}, "
                f'got {name!r}, which nothing would read; did you mean '
                f'{nearest!r}? If not, rename it'
            )
    for path, name in find_unused(cfg):
        text = (
            f'expected settings and variables that are used in {path}, got '
            f'{name!r}, which nothing would read; '
            f'{suggest(cfg, name)}, or remove it'
        )
        if '.mim' not in Path(path).parts:
            raise ValueError(text)
        print_log(text, logger='current', level=logging.WARNING)


def find_unused(cfg: Config) -> Iterator[Tuple[str, str]]:
    """Yield the files and names of a config that nothing would read.

    In the files that the config inherits from, these are settings of
    OpenMMLab 1.x only, because other configs may use their variables.
    """
    name = cfg.filename
    files = _files_of(name) if name and Path(name).is_file() else ()
    for index, path in enumerate(files):
        assigned, used, has_code = _names_of(path)
        for name in assigned & {*cfg} - used:
            value = cfg[name]
            if value is None or value == [] or value == {}:
                continue
            if name == 'data_preprocessor':
                if index == 0 and has_code and not _same_preprocessor(cfg):
                    yield path, name
            elif name not in SETTINGS | TEST_NAMES:
                # mmseg's schedules have a variable "optimizer", and so do
                # the configs that runs dump.
                is_old = name in RENAMED and (has_code or name != 'optimizer')
                is_own = index == 0 and has_code
                if is_own or (is_old and not _is_dumped(path)):
                    yield path, name


def suggest(cfg: Config, name: str) -> str:
    """Return which setting to use instead of a name or a key.

    It is one with the same last key, or the successor of one of OpenMMLab 1.x.
    """
    if name == 'data_preprocessor':
        return 'the model has its own: set model.data_preprocessor'
    found = find_near(cfg, name)
    if name in RENAMED and not found:
        found = [RENAMED[name]]
    if found:
        return f'set {" or ".join(found)}'
    return 'set the settings that it is meant for'


def find_near(cfg: Config, name: str, limit: int = 4) -> List[str]:
    """Return the settings whose keys end with ``name``, with full keys."""
    keys = [
        path
        for key in cfg
        if key in SETTINGS
        for path in _iter_keys(cfg[key], key)
        if path.endswith(f'.{name}')
    ]
    return sorted(keys, key=lambda path: path.count('.'))[:limit]


def find_nearest(name: str, names: Iterable[str]) -> str:
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
    own = cfg.get('model', {}).get('data_preprocessor')
    asked = cfg.data_preprocessor
    if not isinstance(own, dict) or not isinstance(asked, dict):
        return own is None
    return all(own.get(key) == asked[key] for key in asked)


def _files_of(path: str) -> Iterator[str]:
    """Yield a config file, and the local files that it inherits from."""
    yield path
    if path.endswith('.py') and '.mim' not in Path(path).parts:
        for base in _bases_of(
            ast.parse(Path(path).read_text(encoding='utf-8'))
        ):
            file = Path(path).parent / base
            if '::' not in base and file.is_file():
                yield from _files_of(str(file))


def _bases_of(tree: ast.Module) -> List[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and '_base_' in _targets(node):
            value = ast.literal_eval(node.value)
            return [value] if isinstance(value, str) else list(value)
    return []


def _names_of(path: str) -> Tuple[Set[str], Set[str], bool]:
    """Return the names that a file assigns and uses, and if it has code.

    A file without code, such as one that a run dumped, only has values.
    """
    if not path.endswith('.py'):
        names = set(mmengine.load(path))
        return names, set(), '_base_' in names
    tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    assigned, used = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            assigned.update(_targets(node))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            used.add(node.id)
    has_code = '_base_' in assigned or bool(used - {'dict', 'list', 'tuple'})
    return assigned, used, has_code


def _targets(node: Any) -> Set[str]:
    targets = getattr(node, 'targets', None) or [node.target]
    return {
        name.id
        for target in targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }


def _is_dumped(path: str) -> bool:
    """Return whether a run wrote the file, as it is now."""
    text = Path(path).read_text(encoding='utf-8')
    return text.strip() == Config.fromfile(path).pretty_text.strip()
