"""Find and check the layers of a denoiser, and release unused ones."""

from __future__ import annotations

import contextlib
import difflib
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import torch
import torch.nn as nn

from repfusion_mm.models.teachers.features.token_maps import MapReader
from repfusion_mm.models.teachers.guided_diffusion.names import module_names

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def resolve_layers(denoiser: Any, layers: Sequence[str]) -> Tuple[str, ...]:
    """Translate guided-diffusion's paths into diffusers', and check them.

    Raises:
        ValueError: ``layers`` is not a list of distinct paths, or a path is
            unknown; similar paths are listed.
    """
    aliases = module_names(denoiser.config)
    known = [name for name, _ in named_modules(denoiser)][1:]
    is_list = isinstance(layers, (list, tuple)) and all(
        isinstance(name, str) for name in layers
    )
    paths = [aliases.get(name, name) for name in layers] if is_list else []
    if not paths or len(set(paths)) < len(paths):
        raise ValueError(
            'expected model.teacher.layers to be a list of distinct module '
            f'paths, got {layers!r}; choose some of those that '
            'tools/analysis_tools/list_layers.py lists'
        )
    for path in paths:
        if path not in known:
            near = difflib.get_close_matches(
                path, [*known, *aliases], n=3, cutoff=0.4
            )
            raise ValueError(
                'expected model.teacher.layers to be modules of the '
                f'denoiser, got {path!r}; did you mean '
                f'{", ".join(map(repr, near or known[:3]))}? '
                'tools/analysis_tools/list_layers.py lists all'
            )
    return tuple(paths)


def check_denoiser(
    config: Mapping[str, Any],
    num_timesteps: int,
    owner: str = 'model.teacher',
) -> None:
    """Check that a denoiser expects t in [0, T - 1] and images in [-1, 1].

    Args:
        config: The config of the denoiser.
        num_timesteps: T of its scheduler.
        owner: The setting that contains ``scheduler``, for error messages.

    Raises:
        ValueError: It expects images in [0, 1] (``center_input_sample``),
            noise levels instead of t (Fourier embeddings), or another number
            of timesteps.
    """
    if config.get('center_input_sample'):
        raise ValueError(
            'expected a denoiser that is given images in [-1, 1], got '
            'center_input_sample=True, with which it maps [0, 1] to [-1, 1] '
            'itself; choose a denoiser with center_input_sample=False'
        )
    if config.get('time_embedding_type') == 'fourier':
        raise ValueError(
            'expected a denoiser that is given t in [0, T - 1], got '
            "time_embedding_type='fourier', which is given sigma (a score "
            'model, VE); choose a denoiser of the DDPM family'
        )
    length = config.get('num_train_timesteps') or num_timesteps
    if length != num_timesteps:
        raise ValueError(
            f'expected one number of timesteps, got {length} in the denoiser '
            f'and {num_timesteps} in its scheduler; set {owner}.scheduler='
            f"dict(type='DDPMScheduler', num_train_timesteps={length}, ...) "
            'to the schedule of its training'
        )


def named_modules(module: nn.Module) -> Iterator[Tuple[str, nn.Module]]:
    """Iterate over sub-modules; a shared one appears under all its paths.

    In diffusers before 0.33, all blocks share one activation.
    """
    return module.named_modules(remove_duplicate=False)


class LayerRun(NamedTuple):
    """What a layer does in a pass of its model."""

    num_runs: int
    #: How to read a map from its output; None if it has none.
    reader: Optional[MapReader]
    #: Its output, on the meta device.
    output: Any
    #: How many layers have been called when it starts, and when it ends.
    num_called_at_start: int = 0
    num_called_at_end: int = 0


@torch.no_grad()
def survey_layers(
    module: Any,
    run: Callable[[], object],
    find_map: Callable[[Any], Optional[MapReader]],
) -> Dict[str, LayerRun]:
    """Run a model once, and return what each of its layers does.

    A layer that is shared runs under all its paths.

    Args:
        module: A model on the meta device.
        run: Runs it to its end.
        find_map: Returns how to read a map from an output, or None.

    Returns:
        The layers in the order in which they end.
    """
    layers: Dict[str, LayerRun] = {}
    called: Dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        for name, child in named_modules(module):

            def enter(_module, _inputs, name=name):
                called.setdefault(name, len(called))

            def record(_module, _inputs, output, name=name):
                before = layers.get(name)
                num_runs = before.num_runs + 1 if before else 1
                layers[name] = LayerRun(
                    num_runs,
                    find_map(output),
                    output,
                    called[name],
                    len(called),
                )

            stack.enter_context(child.register_forward_pre_hook(enter))
            stack.enter_context(child.register_forward_hook(record))
        run()
    return layers


def find_used(
    layers: Sequence[str], survey: Mapping[str, LayerRun]
) -> Set[str]:
    """Return all layers that are called until the last of ``layers`` ends."""
    num_called = max(survey[name].num_called_at_end for name in layers)
    return {
        name
        for name, run in survey.items()
        if run.num_called_at_start < num_called
    }


def check_layers(
    layers: Sequence[str], survey: Mapping[str, LayerRun]
) -> Dict[str, MapReader]:
    """Return how to read each layer's map.

    Args:
        layers: Paths of sub-modules.
        survey: From :func:`survey_layers`.

    Raises:
        ValueError: A layer does not run exactly once, or outputs no map of
            the image.
    """
    readers: Dict[str, MapReader] = {}
    maps = [k for k, v in survey.items() if v.reader and v.num_runs == 1 and k]
    for name in layers:
        near = difflib.get_close_matches(name, maps, n=4, cutoff=0.0)
        run = survey.get(name, LayerRun(0, None, None))
        if run.num_runs != 1:
            raise ValueError(
                f'expected the layer {name!r} to run once in a forward '
                f'pass, got {run.num_runs} runs; name the block that '
                f'contains it, or one of {near}'
            )
        if run.reader is None:
            raise ValueError(
                f'expected the layer {name!r} to output a map of the image, '
                f'got {describe(run.output)}; layers that do are {near}, and '
                'tools/analysis_tools/list_layers.py lists all'
            )
        readers[name] = run.reader
    return readers


def describe(output: Any) -> object:
    """Return the shape of an output, or of each element of a tuple."""
    if isinstance(output, (tuple, list)):
        return tuple(describe(element) for element in output)
    return getattr(output, 'shape', type(output).__name__)


def release_unused(module: nn.Module, used: Set[str], prefix: str = '') -> int:
    """Replace sub-modules outside the paths ``used`` by ``nn.Identity``.

    Of containers, only the children are replaced, so that they keep their
    length: the forward may index them or iterate over them. Returns the number
    of parameters that were released.
    """
    released = 0
    for name, child in module.named_children():
        path = f'{prefix}{name}'
        is_used = any(f'{u}.'.startswith(f'{path}.') for u in used)
        if is_used or isinstance(child, CONTAINERS):
            released += release_unused(child, used, f'{path}.')
        else:
            released += sum(p.numel() for p in child.parameters())
            setattr(module, name, nn.Identity())
    return released
