"""Compare a runner, once everything is built, with what its config asks for.

mmengine builds each of these settings without an error, and does not use it.
"""

from __future__ import annotations

import difflib
import inspect
from typing import Any, Dict, Iterator, List, Tuple

from mmengine.hooks import (
    CheckpointHook,
    EarlyStoppingHook,
    EMAHook,
    Hook,
    ParamSchedulerHook,
)
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import (
    CosineAnnealingParamScheduler,
    ExponentialParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    OneCycleParamScheduler,
    OptimWrapperDict,
    PolyParamScheduler,
    StepParamScheduler,
)
from mmengine.runner import IterBasedTrainLoop

from repfusion_mm.engine.optimizers.checks import check_paramwise
from repfusion_mm.engine.utils import resolve_hooks, unwrap_model
from repfusion_mm.models.diffusion.base import GenerativeModel
from repfusion_mm.models.distillers.repfusion import RepFusion

#: Schedules whose length decides how fast they change values.
PACED = (
    CosineAnnealingParamScheduler, LinearParamScheduler,
    OneCycleParamScheduler, PolyParamScheduler,
)  # fmt: skip
#: Schedules that are not constant.
CHANGING = (
    *PACED, ExponentialParamScheduler, MultiStepParamScheduler,
    StepParamScheduler,
)  # fmt: skip


def check_run(runner: Any) -> None:
    """Refuse settings that the run would not use, before its first iteration.

    Raises:
        ValueError: There are schedules, checkpoints or averages by epoch in
            a run by iterations; a schedule of a part that has no optimizer,
            or that no hook steps; or a setting that needs a validation in a
            run without one.
        TypeError: An interval is not a number.
    """
    check_intervals(runner)
    check_schedules(runner)
    check_epochs(runner)
    check_averages(runner)
    check_validation(runner)
    check_wrapper(runner)
    check_length(runner)
    asked = runner.cfg.get('optim_wrapper')
    is_joint = isinstance(runner.optim_wrapper, OptimWrapperDict)
    if isinstance(asked, dict) and asked.get('paramwise_cfg') and not is_joint:
        check_paramwise(asked, unwrap_model(runner))


def check_modules(runner: Any) -> None:
    """Refuse names of modules that the model does not have."""
    known = [name for name, _ in unwrap_model(runner).named_modules()]
    for key in ('activation_checkpointing', 'efficient_conv_bn_eval'):
        names = runner.cfg.get(key) or []
        for name in [names] if isinstance(names, str) else names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
                raise ValueError(
                    f'expected modules of the model in {key}, got {name!r}; '
                    f'did you mean {" or ".join(near or known[1:4])}?'
                )


def check_intervals(runner: Any) -> None:
    """Refuse intervals of hooks that are not integers.

    They are first used after an epoch.
    """
    for path, hook in iter_hooks(runner):
        interval = getattr(hook, 'interval', None)
        if interval is not None and type(interval) is not int:
            raise TypeError(
                f'expected {path}.interval to be an integer, got '
                f'{interval!r}; correct it'
            )


def check_schedules(runner: Any) -> None:
    """Refuse schedules that change nothing."""
    asked = runner.cfg.get('param_scheduler')
    is_joint = isinstance(runner.optim_wrapper, OptimWrapperDict)
    if isinstance(asked, dict) and 'type' not in asked and is_joint:
        parts = sorted(runner.optim_wrapper.keys())
        unread = [k for k in asked if k not in parts and asked[k]]
        model = unwrap_model(runner)
        inherited = {*getattr(model, 'optim_parts', dict)()} & {*unread}
        if inherited:
            runner.logger.warning(
                f'param_scheduler of {sorted(inherited)} is not used: these '
                'parts have no parameters to train'
            )
        unread = sorted({*unread} - inherited)
        if unread:
            raise ValueError(
                f'expected param_scheduler with the parts {parts}, got '
                f'{unread}, which nothing would read; set '
                f'param_scheduler.{parts[-1]}.{unread[0]}'
            )
    stepped = any(isinstance(h, ParamSchedulerHook) for h in runner.hooks)
    if not stepped and [*iter_schedules(runner)]:
        raise ValueError(
            'expected a ParamSchedulerHook for param_scheduler, got none, so '
            'that no schedule would change; set '
            "default_hooks.param_scheduler=dict(type='ParamSchedulerHook'), "
            'or param_scheduler=None'
        )
    check_cycles(runner)
    check_ends(runner)


def check_cycles(runner: Any) -> None:
    """Refuse a ``OneCycleLR`` that ends in an error, or replaces rates.

    Raises:
        ValueError: It is shorter than its steps in the run, or next to
            ``auto_scale_lr``.
    """
    for path, schedule, _ in iter_schedules(runner):
        if not isinstance(schedule, OneCycleParamScheduler):
            continue
        length = runner.max_epochs if schedule.by_epoch else runner.max_iters
        num_steps = min(length, schedule.end - 1) - schedule.begin
        if num_steps > schedule.total_steps:
            raise ValueError(
                f'expected {path}.total_steps={num_steps} or more for this '
                f'run, got {schedule.total_steps}, after which OneCycleLR '
                'raises an error; raise it, or set its end'
            )
        if (runner.cfg.get('auto_scale_lr') or {}).get('enable'):
            raise ValueError(
                f'expected no OneCycleLR ({path}) with auto_scale_lr, got '
                'both: it sets learning rates from eta_max only; scale '
                f'{path}.eta_max yourself'
            )
        runner.logger.warning(
            f'{path}: OneCycleLR sets all learning rates from '
            f'eta_max={schedule.eta_max}; lr and lr_mult of the optimizer are '
            'not used'
        )


def check_ends(runner: Any) -> None:
    """Log schedules that end clearly before or after the run.

    They are usually left from before a change of the run's length. Only the
    last schedule of a parameter can end too early: others are warm-ups.
    """
    texts = []
    last: Dict[Tuple[int, str], Tuple[float, Any, str]] = {}
    for path, schedule, _ in iter_schedules(runner):
        length, unit = runner.max_iters, 'iterations'
        if schedule.by_epoch:
            length, unit = runner.max_epochs, 'epochs'
        path, run = f'{path}: {type(schedule).__name__}', f'{length} {unit}'
        steps = [schedule.begin, *getattr(schedule, 'milestones', ())]
        late = sorted(step for step in steps if step >= length)
        end = find_end(schedule)
        if late:
            texts.append(
                f'{path} changes values at {late}, which has no effect in a '
                f'run of {run}'
            )
        elif isinstance(schedule, PACED) and end > 1.1 * length:
            texts.append(
                f'{path} takes until {end} in a run of {run}, so that values '
                'do not get to its end; fit it to the length of the run'
            )
        end = min(end, schedule.end)
        text = (
            f'{path} ends at {end} in a run of {run}; fit it to the length of '
            'the run'
        )
        key = (id(schedule.optimizer), schedule.param_name)
        found = (end / length, schedule, text)
        last[key] = max(last.get(key, found), found, key=lambda i: i[0])
    for share, schedule, text in last.values():
        is_warmup = getattr(schedule, 'end_factor', 0) == 1
        if share < 0.9 and isinstance(schedule, CHANGING) and not is_warmup:
            texts.append(text)
    for text in dict.fromkeys(texts):
        runner.logger.warning(text)


def find_end(schedule: Any) -> int:
    """Return the step at which a schedule gets to its last value."""
    length = getattr(schedule, 'T_max', getattr(schedule, 'total_steps', 0))
    return schedule.begin + length if length else schedule.end


def check_epochs(runner: Any) -> None:
    """Refuse settings in epochs in a run by iterations.

    mmengine counts such a run as one epoch.
    """
    if not isinstance(runner.train_loop, IterBasedTrainLoop):
        return
    wrong = []
    for path, schedule, asked in iter_schedules(runner):
        if schedule.by_epoch and not getattr(schedule, 'need_val_args', False):
            wrong.append(f'{path}.by_epoch=False')
        if asked.get('convert_to_iter_based') and 'end' not in asked:
            wrong.append(
                f'{path}.by_epoch=False (without convert_to_iter_based), or '
                f'{path}.end in epochs'
            )
    for path, hook in iter_hooks(runner):
        is_asked = '.' in path or type(hook) is not CheckpointHook
        interval = getattr(hook, 'interval', 1)
        if is_asked and getattr(hook, 'by_epoch', False) and interval > 0:
            wrong.append(
                f'{path}.by_epoch=False with an interval in iterations'
            )
        if isinstance(hook, EMAHook) and hook.begin_epoch > 0:
            wrong.append(f'{path}.begin_iter instead of begin_epoch')
    if wrong:
        raise ValueError(
            'expected schedules and hooks that count iterations, as '
            f'train_cfg does (max_iters={runner.max_iters}), got some that '
            f'count epochs: set {", ".join(dict.fromkeys(wrong))}; or train '
            'by epochs: train_cfg=dict(by_epoch=True, max_epochs=...)'
        )


def check_averages(runner: Any) -> None:
    """Refuse averages of weights that stay those of the start.

    Validations, checkpoints and exported weights use the average.
    """
    for path, hook in iter_hooks(runner):
        if not isinstance(hook, EMAHook):
            continue
        epoch = runner.max_iters // max(runner.max_epochs, 1)
        begin = hook.begin_iter or hook.begin_epoch * epoch
        # The iteration at ``begin`` copies the weights, and the next
        # ``left`` ones average them. With none left, the copy is of the last
        # iteration, as it should be in a run of one.
        left = runner.max_iters - begin - 1
        model = hook.ema_model
        if left < 0 or 0 < left < model.interval:
            raise ValueError(
                f'expected {path} to average weights within the run of '
                f'{runner.max_iters} iterations, got a begin at {begin} and '
                f'an interval of {model.interval}, so that the average stays '
                'the first weights; lower them'
            )
        if type(model) is ExponentialMovingAverage:
            first = (1 - model.momentum) ** (left // model.interval)
            if first > 0.5 and left:
                runner.logger.warning(
                    f'{path}: with momentum={model.momentum}, {first:.0%} of '
                    'the average at the end of the run are the first weights; '
                    'validations and exported weights use it: raise momentum'
                )


def check_validation(runner: Any) -> None:
    """Refuse settings that need a validation in a run without one.

    Models that only train, such as a distiller, cannot be validated.
    """
    model = unwrap_model(runner)
    if runner.val_loop is not None and type(model).forward in (
        RepFusion.forward,
        GenerativeModel.forward,
    ):
        raise ValueError(
            f'expected no validation of {type(model).__name__}, which does '
            'not predict, got one; set val_dataloader, val_cfg and '
            'val_evaluator to None'
        )
    if runner.val_loop is not None or 'val_dataloader' in runner.cfg:
        return  # configured, and perhaps switched off, as by --no-validate
    unused: List[str] = []
    for path, hook in iter_hooks(runner):
        if isinstance(hook, CheckpointHook) and hook.save_best:
            unused.append(f'{path}.save_best')
        if isinstance(hook, EarlyStoppingHook):
            unused.append(path)
    unused += [
        path
        for path, schedule, _ in iter_schedules(runner)
        if getattr(schedule, 'need_val_args', False)
    ]
    default = inspect.signature(type(runner.train_loop)).parameters
    unread = [
        f'train_cfg.{name}'
        for name, value in (runner.cfg.get('train_cfg') or {}).items()
        if name in ('val_interval', 'val_begin', 'dynamic_intervals')
        and name in default
        and value != default[name].default
    ]
    if hasattr(model, 'optim_parts'):  # a distillation
        unused += unread
    elif unread:  # usual in schedules that are shared with other runs
        runner.logger.warning(
            f'nothing reads {", ".join(unread)}: the run has no validation'
        )
    if unused:
        raise ValueError(
            'expected val_dataloader, val_cfg and val_evaluator for '
            f'{", ".join(unused)}, got a run without validation, which would '
            'not use them; leave them out (a distillation has no validation)'
        )


def check_wrapper(runner: Any) -> None:
    """Refuse ``find_unused_parameters`` next to ``model_wrapper_cfg``."""
    wrapper = runner.cfg.get('model_wrapper_cfg') or {}
    asked = runner.cfg.get('find_unused_parameters')
    if (
        asked
        and wrapper
        and wrapper.get('find_unused_parameters', False) != asked
    ):
        raise ValueError(
            f'expected find_unused_parameters={asked} in model_wrapper_cfg, '
            'next to which nothing would read the one at the top level, got '
            f'{wrapper}; set model_wrapper_cfg.find_unused_parameters'
        )


def check_length(runner: Any) -> None:
    """Refuse ``num_batch_per_epoch`` that the sampler does not use."""
    loader = runner.cfg.get('train_dataloader')
    asked = isinstance(loader, dict) and loader.get('num_batch_per_epoch')
    if asked and len(runner.train_loop.dataloader) > asked:
        raise ValueError(
            f'expected epochs of train_dataloader.num_batch_per_epoch={asked} '
            f'batches, got {len(runner.train_loop.dataloader)}, because the '
            'sampler has its own length; set '
            'train_dataloader.sampler.num_samples instead'
        )


def iter_schedules(runner: Any) -> Iterator[Tuple[str, Any, dict]]:
    """Yield the schedules of a run, with their keys and their configs."""
    built, asked = runner.param_schedulers, runner.cfg.get('param_scheduler')
    has_parts = isinstance(asked, dict) and 'type' not in asked
    parts = built if isinstance(built, dict) else {'': built or []}
    for part, schedules in parts.items():
        own = asked[part] if has_parts else asked
        place = f'param_scheduler.{part}' if has_parts else 'param_scheduler'
        for index, schedule in enumerate(schedules):
            if isinstance(own, (list, tuple)):
                yield f'{place}.{index}', schedule, own[index]
            else:
                yield place, schedule, own or {}


def iter_hooks(runner: Any) -> Iterator[Tuple[str, Hook]]:
    """Yield the hooks of a run, with their keys in the config."""
    configured = resolve_hooks(runner.cfg)
    for hook in runner.hooks:
        places = {
            place: config
            for place, (config, cls) in configured.items()
            if issubclass(cls, type(hook))
        }
        own = [  # of several hooks of its class, those of its settings
            place
            for place, config in places.items()
            if not isinstance(config, dict)
            or all(
                getattr(hook, key, value) == value
                for key, value in config.items()
                if key != 'type'
            )
        ]
        yield (own or [*places] or [type(hook).__name__])[0], hook
