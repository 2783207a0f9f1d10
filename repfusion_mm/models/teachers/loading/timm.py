"""Build a timm model, load its weights strictly, and find its layers."""

from __future__ import annotations

import logging
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn as nn
from mmengine.dist import broadcast
from mmengine.logging import print_log

from repfusion_mm.utils.arguments import check_list
from repfusion_mm.utils.messages import find_reason

#: Arguments of ``timm.create_model`` that other settings, or no one, sets.
RESERVED = (
    'checkpoint_path', 'features_only', 'img_size', 'in_chans',
    'model_name', 'num_classes', 'pretrained', 'pretrained_cfg',
    'pretrained_cfg_overlay',
)  # fmt: skip
SUFFIXES = ('.safetensors', '.pth', '.bin', '.pt')


def import_timm() -> Any:
    """Return the module ``timm``.

    Raises:
        ImportError: timm is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            'expected timm to be installed for TimmTeacher, got: '
            f'{error}; run "pip install timm"'
        ) from error
    return timm


def load_timm_model(
    name: str,
    pretrained: Union[bool, str],
    size: Optional[Tuple[int, int]],
    model_args: Optional[dict],
) -> nn.Module:
    """Build a timm model for images of ``size``; see ``TimmTeacher``.

    The position embedding of a model that is made for one size is resampled
    to ``size`` by timm when the weights are loaded.
    """
    timm = import_timm()
    config = find_config(timm, name)
    arguments = dict(model_args or {})
    wrong = sorted(arguments.keys() & set(RESERVED))
    if wrong:
        raise ValueError(
            'expected model.teacher.model_args without the settings of the '
            f'teacher itself, got {wrong}; remove them (the size of images '
            'is model.teacher.input_size)'
        )
    if size is not None and config.fixed_input_size:
        arguments['img_size'] = size
    with torch.device('meta'):
        blank: Any = _build(timm, name, arguments)
    if getattr(blank, 'dynamic_img_size', False):
        # Otherwise each pass computes the rotary embedding of its size on the
        # CPU, and copying it to a GPU synchronizes.
        arguments.setdefault('dynamic_img_size', False)
    if isinstance(pretrained, bool):
        model = _create(timm, name, config, pretrained, arguments)
    else:
        model = _load_file(timm, name, config, pretrained, arguments)
    if not hasattr(model, 'prune_intermediate_layers'):
        raise ValueError(
            'expected a model with forward_intermediates, got '
            f'{type(model).__name__} of timm {timm.__version__}; update timm, '
            'or choose another model.teacher.model'
        )
    not_finite = [
        key
        for key, value in model.state_dict().items()
        if not value.is_meta and not value.isfinite().all()
    ]
    if not_finite:
        raise ValueError(
            f'expected finite weights of {name!r}, got NaN or Inf in '
            f'{not_finite[:3]}; download the file again'
        )
    return model


def find_config(timm: Any, name: str) -> Any:
    """Return timm's pretrained config of a model's name.

    Raises:
        ValueError: timm has no such model, or no weights of that tag.
    """
    architecture, _, tag = str(name).partition('.')
    if timm.is_model(architecture):
        tagged = timm.list_pretrained(f'{architecture}.*')
        if not tag or name in tagged:
            return timm.models.get_pretrained_cfg(name)
        candidates = tagged
    else:
        candidates = timm.list_models() + timm.list_pretrained()
    near = find_near(str(name), candidates)
    raise ValueError(
        f'expected model.teacher.model to be a model of timm '
        f'{timm.__version__}, got {name!r}; did you mean '
        f'{" or ".join(map(repr, near or candidates[:3]))}? '
        'timm.list_models(pretrained=True) lists all'
    )


def find_near(name: str, candidates: List[str]) -> List[str]:
    """Return up to three names that share rare words, such as dinov2."""
    sharing = {}
    for word in re.split(r'[\W_]+', name.rpartition('/')[2].lower()):
        found = {other for other in candidates if word in other}
        if len(word) > 2 and found:
            sharing[word] = found
    if not sharing:
        return get_close_matches(name, candidates, cutoff=0.5)
    near, *others = sorted(sharing.values(), key=len)  # the rarest word
    for other in others:
        near = near & other or near
    return get_close_matches(name, sorted(near), cutoff=0.0)


def resolve_layers(
    backbone: Any, model: str, layers: Sequence[Union[int, str]]
) -> Dict[str, int]:
    """Return the index of each layer by its name, in the order of ``layers``.

    Raises:
        ValueError: There is no layer, one twice, or an unknown one.
    """
    check_list('model.teacher.layers', layers)
    if not isinstance(layers, (list, tuple)):  # timm: the last n
        raise ValueError(
            f'expected model.teacher.layers to be a list, got {layers!r}; '
            f'set [{layers!r}] for one layer'
        )
    names = [info['module'] for info in backbone.feature_info]
    found: Dict[str, int] = {}
    for layer in layers:
        index = names.index(layer) if layer in names else layer
        if (
            isinstance(index, bool)
            or not isinstance(index, int)
            or not -len(names) <= index < len(names)
        ):
            near = get_close_matches(str(layer), names) or names[-1:]
            raise ValueError(
                f'expected each of model.teacher.layers to be one of the '
                f'{len(names)} layers of {model}, -{len(names)} to '
                f'{len(names) - 1} or {names[0]!r} to {names[-1]!r}, got '
                f'{layer!r}; did you mean {near[0]!r}?'
            )
        found[names[index]] = index % len(names)
    if not found or len(found) != len(layers):
        raise ValueError(
            'expected model.teacher.layers to be different layers, one or '
            f'more, got {list(layers)}; correct them'
        )
    return found


def _create(
    timm: Any, name: str, config: Any, pretrained: bool, arguments: dict
) -> nn.Module:
    """Build a model with timm's own weights, or with random ones."""
    if not pretrained:
        print_log(
            f'teacher: RANDOM weights of {name}, no weights are loaded',
            logger='current',
            level=logging.WARNING,
        )
        model = _build(timm, name, arguments)
        for value in model.state_dict().values():
            broadcast(value)  # the seeds of the ranks may differ
        return model
    if not config.has_weights:
        raise ValueError(
            f'expected a model that timm has weights of, got {name!r}; set '
            'model.teacher.pretrained to a file, or to False for random '
            'weights'
        )
    try:
        model = _build(timm, name, arguments, pretrained=True)
    except RuntimeError as error:  # of load_state_dict
        raise _weights_error(
            name, config.hf_hub_id or config.url, error
        ) from error
    except OSError as error:
        raise _unreachable(name, config, error) from error
    print_log(f'teacher: {name} of timm', logger='current')
    return model


def _load_file(
    timm: Any, name: str, config: Any, path: str, arguments: dict
) -> nn.Module:
    """Build a model with the weights in a file.

    Other layouts than its own, such as those of the authors of DINOv2 and
    DINOv3, are converted by timm.
    """
    file = Path(path).expanduser()
    if not file.is_file() or file.suffix not in SUFFIXES:
        got = 'another file' if file.is_file() else 'no such file'
        raise FileNotFoundError(
            'expected model.teacher.pretrained to be True, False or a file '
            f'that ends in one of {SUFFIXES}, got {str(file)!r}, {got} in '
            f'{str(Path.cwd())!r}; correct the path'
        )
    try:
        state: Dict[str, Any] = timm.models.load_state_dict(str(file))
    except Exception as error:  # safetensors, pickle and torch raise many
        raise ValueError(
            f'expected weights of {name} in {str(file)!r} that can be read '
            f'safely, got: {find_reason(error)}; download the file again'
        ) from error
    # A classifier in the file may have any number of classes. With another
    # number than the file's, timm would not compare the other names either.
    heads = config.classifier or ()
    heads = (heads,) if isinstance(heads, str) else heads
    widths = [
        len(state[f'{h}.weight']) for h in heads if f'{h}.weight' in state
    ]
    classes = widths[0] if widths else 0
    source = dict(
        state_dict=state, num_classes=classes, label_offset=0, source=None
    )
    try:
        model: Any = _build(
            timm,
            name,
            dict(arguments, num_classes=classes),
            pretrained=True,
            pretrained_cfg_overlay=source,
        )
    except (RuntimeError, KeyError) as error:
        raise _weights_error(name, str(file), error) from error
    del model.pretrained_cfg['state_dict']  # or it stays in memory
    print_log(f'teacher: {name}, weights of {file}', logger='current')
    return model


def _build(timm: Any, name: str, arguments: dict, **settings) -> nn.Module:
    try:
        return timm.create_model(name, **settings, **arguments)
    except (AssertionError, TypeError) as error:
        raise ValueError(
            f'expected model.teacher.input_size and model.teacher.model_args '
            f'to be arguments of {name}, got {arguments} ({error}); correct '
            'them'
        ) from error


def _weights_error(name: str, source: str, error: Exception) -> ValueError:
    reason = ' '.join(str(error).split())[:500]
    return ValueError(
        f'expected the weights of {name} in {source!r}, got those of another '
        f'model ({reason}); correct model.teacher.model, '
        'model.teacher.model_args or model.teacher.pretrained'
    )


def _unreachable(name: str, config: Any, error: Exception) -> Exception:
    reason = ' '.join(str(error).split())[:200]
    where = config.hf_hub_id or config.url
    return ConnectionError(
        f'expected the weights of {name!r} in the cache or on the hub, got '
        f'neither ({reason}); run "hf download {where} model.safetensors '
        '--local-dir TEACHER" on a machine with a network (weights with a '
        'license, such as those of DINOv3, need "hf auth login" first), copy '
        'the folder TEACHER to this machine, and add --cfg-options '
        'model.teacher.pretrained=TEACHER/model.safetensors'
    )
