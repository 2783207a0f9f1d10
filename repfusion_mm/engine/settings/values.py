"""Compare values at the top level of a config with what mmengine takes."""

from __future__ import annotations

import inspect
import logging
import typing
from multiprocessing import get_all_start_methods
from typing import Any, Dict, Iterable, Literal, Set, Union

import torch
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS, RUNNERS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import init_process_group

from repfusion_mm.engine.settings.names import find_typo
from repfusion_mm.utils.types import init_arguments, resolve_type

#: Settings that a runner reads of its config, not as an argument.
OTHERS = {
    'activation_checkpointing': Union[str, list],
    'compile': Union[bool, dict],
    'efficient_conv_bn_eval': Union[str, list],
    'find_unused_parameters': bool,
    'model_wrapper_cfg': dict,
    'probe_dataset': dict,
    'runner_type': Union[str, type],
    'sync_bn': Literal['torch', 'mmcv'],
}
FORMS = {
    bool: 'True or False', dict: 'dict(...)', int: 'an integer',
    list: '[...]', str: "'...'",
}  # fmt: skip
#: Names that a runner reads of ``env_cfg``.
ENVIRONMENT = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')
#: Default hooks of mmengine, for the advice on a misspelled one.
DEFAULT_HOOKS = (
    'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler',
    'checkpoint',
)  # fmt: skip


def check_types(cfg: Config) -> None:
    """Refuse settings that are not of the type that their runner declares.

    Raises:
        ValueError: There is one. Some of these mmengine silently ignores,
            such as the path in ``resume='epoch_3.pth'``.
    """
    kind: Any = resolve_type(dict(type=cfg.get('runner_type')), RUNNERS)
    kind = kind if isinstance(kind, type) else Runner
    try:
        declared = typing.get_type_hints(kind.__init__)
    # Imported for type checkers only, or not evaluated by this Python.
    except (NameError, AttributeError, TypeError):
        declared = {}
    hints = {**OTHERS, **declared}
    # Any name is in effect, and a level may be a number.
    _check_hints(cfg, hints, {'experiment_name', 'log_level'})


def check_values(cfg: Config) -> None:
    """Refuse values that mmengine ignores or reports without their name.

    Raises:
        ValueError: There is one.
    """
    check_types(cfg)
    _check_env(cfg.get('env_cfg') or {})
    _check_scaling(cfg.get('auto_scale_lr') or {})
    _check_randomness(cfg.get('randomness', dict(seed=None)))
    _check_model_wrapper(cfg)
    _check_logging(cfg.get('log_processor'))
    _check_loaders(cfg)
    _check_compile(cfg.get('compile'), 'runner_type' in cfg)
    for name in ('model', 'visualizer', 'model_wrapper_cfg'):
        value = cfg.get(name)
        if value and isinstance(value, dict):
            need_keys(name, value, ['type'])
    _check_optimizers(cfg.get('optim_wrapper'))
    _check_train_cfg(cfg.get('train_cfg'))
    _check_loader(cfg.get('train_dataloader') or {})
    level = cfg.get('log_level', 'INFO')
    if type(level) is not int and level not in [*logging._nameToLevel]:
        _refuse('log_level to be a level of logging ("INFO")', level)
    _check_default_hooks(cfg.get('default_hooks') or {})


def check_keys(place: str, config: dict, known: Iterable[str]) -> None:
    """Refuse keys other than ``known``."""
    for key in config:
        if key not in known and key != '_scope_':
            nearest = find_typo(key, known)
            raise ValueError(
                f'expected {place} with {", ".join(sorted(known))}, '
                f'got {f"{place}.{key}"!r}, which nothing would read; '
                + (
                    f'did you mean {nearest!r}?'
                    if nearest
                    else 'leave it out (_delete_=True drops '
                    'the settings of a base config)'
                )
            )


def need_keys(place: str, config: dict, needed: Iterable[str]) -> None:
    """Refuse a config without one of the keys."""
    for key in needed:
        if key not in config:
            raise ValueError(
                f'expected {place}.{key}, got {place}={dict(config)}; add it'
            )


def _check_env(env: dict) -> None:
    for key in ('mp_cfg', 'dist_cfg'):
        if not isinstance(env.get(key, {}), dict):
            _refuse(f'env_cfg.{key}=dict(...)', env[key])
    check_keys('env_cfg', env, ENVIRONMENT)
    hints = dict(cudnn_benchmark=bool, resource_limit=int)
    _check_hints(env, hints, prefix='env_cfg.')
    processes, dist = env.get('mp_cfg', {}), env.get('dist_cfg', {})
    known = _arguments(set_multi_processing) - {'distributed'}
    check_keys('env_cfg.mp_cfg', processes, known)
    hints = typing.get_type_hints(set_multi_processing)
    _check_hints(processes, hints, prefix='env_cfg.mp_cfg.')
    methods = get_all_start_methods()
    method = processes.get('mp_start_method', 'fork')
    if method not in methods:
        text = ', '.join(methods)
        _refuse(f'env_cfg.mp_cfg.mp_start_method to be of {text}', method)
    if dist.get('init_backend', 'torch') == 'torch':  # else another package's
        known = _arguments(init_dist) | _arguments(init_process_group)
        known = (known | {'port'}) - {'launcher'}  # port: with slurm
        check_keys('env_cfg.dist_cfg', dist, known)


def _check_scaling(scaling: dict) -> None:
    check_keys('auto_scale_lr', scaling, {'base_batch_size', 'enable'})
    if scaling.get('enable'):
        need_keys('auto_scale_lr', scaling, ['base_batch_size'])


def _check_randomness(randomness: dict) -> None:
    check_keys('randomness', randomness, _arguments(Runner.set_randomness))
    need_keys('randomness', randomness, ['seed'])
    hints = typing.get_type_hints(Runner.set_randomness)
    _check_hints(randomness, hints, prefix='randomness.')
    seed = randomness['seed']
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**32):
        _refuse('randomness.seed to be an integer from 0 to 2**32 - 1', seed)


def _check_model_wrapper(cfg: Config) -> None:
    wrapper = cfg.get('model_wrapper_cfg') or {}
    kind = resolve_type(wrapper, MODEL_WRAPPERS, cfg.get('default_scope'))
    if kind is MMDistributedDataParallel:
        known = init_arguments(kind) - {'module'} | {'type'}
        check_keys('model_wrapper_cfg', wrapper, known)


def _check_optimizers(optimizers: Any) -> None:
    if isinstance(optimizers, dict) and not (
        {'optimizer', 'constructor'} & optimizers.keys()
        or any(isinstance(i, OptimWrapper) for i in optimizers.values())
    ):
        need_keys('optim_wrapper', optimizers, ['optimizer'])


def _check_loader(loader: dict) -> None:
    size, workers = loader.get('batch_size', 1), loader.get('num_workers', 0)
    if type(size) is not int or size < 1:
        _refuse('train_dataloader.batch_size to be 1 or more', size)
    if type(workers) is not int or workers < 0:
        _refuse('train_dataloader.num_workers to be 0 or more', workers)


def _check_default_hooks(hooks: dict) -> None:
    for key, hook in hooks.items():
        if isinstance(hook, dict) and 'type' not in hook:
            nearest = find_typo(key, {*DEFAULT_HOOKS} - {key})
            raise ValueError(
                f'expected a type in {f"default_hooks.{key}"!r}, got {hook}; '
                + (f'did you mean {nearest!r}?' if nearest else 'give it one')
            )


def _check_hints(
    config: dict, hints: dict, without: Iterable[str] = (), prefix: str = ''
) -> None:
    for name in config.keys() & hints.keys() - {*without}:
        value, hint = config[name], hints[name]
        is_default = value is None and hint is not Dict
        if not is_default and not _fits(value, hint):
            advice = 'correct it'
            if name == 'resume':
                advice = 'name the checkpoint in load_from'
            raise ValueError(
                f'expected {prefix}{name}={_show(hint)}, got {value!r}; '
                f'{advice}'
            )


def _check_logging(processor: Any) -> None:
    """Check the window of mmengine's own log processor."""
    if isinstance(processor, dict):
        window = processor.get('window_size', 1)
        if type(window) is not int or window < 1:
            _refuse('log_processor.window_size to be 1 or more', window)


def _check_loaders(cfg: Config) -> None:
    """Check arguments that a sampler takes, and not a data loader."""
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if not isinstance(loader, dict):
            continue
        inner = {}
        if loader.get('batch_sampler'):
            inner['drop_last'] = 'batch_sampler'
        if loader.get('sampler') or inner:
            inner['shuffle'] = 'sampler'
        for key, place in inner.items():
            if loader.get(key):
                raise ValueError(
                    f'expected {key} in {name}.{place}, got '
                    f'{name}.{key}={loader[key]!r}; set '
                    f'{name}.{place}.{key} if its type takes it, and leave '
                    f'{name}.{key} out'
                )


def _check_compile(arguments: Any, is_flexible: bool) -> None:
    """Check arguments of ``torch.compile``, which compiles nothing yet."""
    if isinstance(arguments, dict):
        if is_flexible:  # strategies of FlexibleRunner also read "target"
            arguments = {k: arguments[k] for k in arguments if k != 'target'}
        try:
            torch.compile(len, **arguments)
        except Exception as error:  # whatever torch raises for a value
            raise ValueError(
                'expected compile to be arguments of torch.compile, got '
                f'{dict(arguments)}: {error}; correct them'
            ) from error


def _check_train_cfg(loop: Any) -> None:
    """Check the settings of mmengine's own loops."""
    if not isinstance(loop, dict):
        return
    if 'type' not in loop:
        need_keys('train_cfg', loop, ['by_epoch'])
    loops: Any = {'EpochBasedTrainLoop': EpochBasedTrainLoop}
    loops['IterBasedTrainLoop'] = IterBasedTrainLoop
    cls = loops.get(str(loop.get('type')), loop.get('type'))
    if 'by_epoch' in loop:
        cls = EpochBasedTrainLoop if loop['by_epoch'] else IterBasedTrainLoop
    if cls not in loops.values():
        return
    length = 'max_epochs' if cls is EpochBasedTrainLoop else 'max_iters'
    known = _arguments(cls) - {'runner', 'dataloader'}
    check_keys('train_cfg', loop, known | {'by_epoch', 'type'})
    need_keys('train_cfg', loop, [length])
    for name, value in loop.items():
        if name in (length, 'val_interval') and not (
            isinstance(value, (int, float)) and value >= 1
        ):
            _refuse(f'train_cfg.{name} to be 1 or more', value)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type, as far as it can be checked."""
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Union:
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is bool:
        return value in (True, False)
    if origin is list:
        return isinstance(value, (list, tuple)) and all(
            _fits(item, kind) for item in value for kind in arguments
        )
    return not isinstance(origin, type) or isinstance(value, origin)


def _show(hint: Any) -> str:
    """Return how values of a type are written in a config."""
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Union:
        return ' or '.join(filter(None, map(_show, arguments)))
    if origin is list and arguments:
        return f'[{_show(arguments[0])}, ...]'
    if origin is Literal:
        return ' or '.join(map(repr, arguments))
    return FORMS.get(origin, '')


def _arguments(function: Any) -> Set[str]:
    names = inspect.signature(function).parameters
    return {i for i in names if i[0] != '_'} - {'self', 'kwargs'}


def _refuse(expected: str, value: object) -> None:
    raise ValueError(f'expected {expected}, got {value!r}; correct it')
