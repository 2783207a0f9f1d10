"""Find and check the layers of a denoiser, and release unused ones."""

from __future__ import annotations

import contextlib
import difflib
import inspect
from collections import Counter
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    Mapping,
    Sequence,
    Set,
    Tuple,
)

import torch
import torch.nn as nn

from repfusion_mm.models.teachers.guided_diffusion import module_names

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def resolve_layers(denoiser: Any, layers: Sequence[str]) -> Tuple[str, ...]:
    """Translate guided-diffusion's paths into diffusers', and check them.

    Raises:
        ValueError: ``layers`` is not a list of distinct paths, or a path is
            unknown; similar paths are listed.
    """
    aliases = module_names(denoiser.config)
    is_list = not isinstance(layers, str) and len(layers) > 0
    paths = [aliases.get(name, name) for name in layers]
    if not is_list or len(set(paths)) < len(paths):
        raise ValueError(
            'expected teacher.layers to be a list of distinct paths, got '
            f'{layers!r}'
        )
    known = [name for name, _ in named_modules(denoiser)][1:]
    for path in paths:
        if path not in known:
            near = difflib.get_close_matches(
                path, [*known, *aliases], n=3, cutoff=0.4
            )
            raise ValueError(
                f'teacher has no module {path!r}; did you mean '
                f'{", ".join(map(repr, near or known[:3]))}?'
            )
    return tuple(paths)


def check_denoiser(
    denoiser: Any, num_timesteps: int, owner: str = 'model.teacher'
) -> None:
    """Check that a model is a denoiser of RGB images over these timesteps.

    Args:
        denoiser: A diffusers model.
        num_timesteps: T of its scheduler.
        owner: The setting that contains ``scheduler``, for error messages.

    Raises:
        ValueError: It is not, or it is not given t in
            [0, ``num_timesteps`` - 1].
    """
    check_config(type(denoiser), denoiser.config)
    if denoiser.config.get('time_embedding_type') == 'fourier':
        raise ValueError(
            'expected a denoiser that is given t in [0, T - 1], got '
            "time_embedding_type='fourier', which is given sigma (a score "
            'model, VE); choose a denoiser of the DDPM family'
        )
    length = denoiser.config.get('num_train_timesteps') or num_timesteps
    if length != num_timesteps:
        raise ValueError(
            f'expected one number of timesteps, got {length} in the denoiser '
            f'and {num_timesteps} in its scheduler; set {owner}.scheduler='
            f"dict(type='DDPMScheduler', num_train_timesteps={length}, ...) "
            'to the schedule of its training'
        )


def check_config(cls: Any, config: Mapping, place: str = '') -> None:
    """Check that a diffusers class is a denoiser of RGB images.

    Args:
        cls: The class.
        config: Its arguments; others have their defaults.
        place: The folder or hub id of the config, for error messages.

    Raises:
        ValueError: It is another model, such as an autoencoder, requires
            more than (sample, timestep), or has other channels or another
            range of values.
    """
    name = cls.__name__ + (f' in {place!r}' if place else '')
    _, *arguments = inspect.signature(cls.forward).parameters.values()
    names = [argument.name for argument in arguments[:2]]
    required = [
        argument.name
        for argument in arguments[2:]
        if argument.default is argument.empty
        and argument.kind
        not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
    ]
    if 'timestep' not in names or required:
        raise ValueError(
            'expected a denoiser, whose forward takes (sample, timestep), '
            f'got {name}, whose forward takes {names + required}; choose a '
            'denoiser such as UNet2DModel'
        )
    defaults = inspect.signature(cls).parameters.items()
    config = {**{key: value.default for key, value in defaults}, **config}
    channels = config.get('in_channels')
    if channels != 3:
        raise ValueError(
            'expected a denoiser of RGB images (in_channels 3), got '
            f'in_channels {channels} ({name}); choose a denoiser of RGB '
            'images, not of latents or grayscale images'
        )
    if config.get('center_input_sample'):
        raise ValueError(
            'expected a denoiser that is given images in [-1, 1], got '
            'center_input_sample=True, with which it maps [0, 1] to [-1, 1] '
            'itself; choose a denoiser with center_input_sample=False'
        )


def read_side(sample_size: object) -> int:
    """Return the side in pixels of a denoiser's square images.

    Raises:
        ValueError: ``sample_size`` is neither an int nor a pair of equal ones.
    """
    pair = sample_size
    if isinstance(pair, (list, tuple)) and len(set(pair)) == 1:
        sample_size = pair[0]
    if not isinstance(sample_size, int):
        raise ValueError(
            'expected a square image size, got sample_size '
            f'{sample_size!r} in the denoiser; set model.teacher.input_size'
        )
    return sample_size


def named_modules(module: nn.Module) -> Iterator[Tuple[str, nn.Module]]:
    """Iterate over sub-modules; a shared one appears under all its paths.

    In diffusers before 0.33, all blocks share one activation.
    """
    return module.named_modules(remove_duplicate=False)


def count_calls(module: nn.Module, run: Callable[[], object]) -> Counter:
    """Count how often the sub-module at each path is called during ``run()``.

    The calls of a shared module count for all its paths.
    """
    calls: Counter = Counter()
    with contextlib.ExitStack() as stack:
        for name, child in named_modules(module):

            def count(_module, _inputs, name=name):
                calls[name] += 1

            stack.enter_context(child.register_forward_pre_hook(count))
        run()
    return calls


@torch.no_grad()
def check_layers(
    module: Any,
    layers: Sequence[str],
    full_pass: Callable[[], object],
    extract: Callable[[], Dict[str, torch.Tensor]],
    side: int,
) -> None:
    """Check that each layer runs once and outputs one finite map.

    ``full_pass`` runs the denoiser to its end, ``extract`` up to the last
    layer, both on images of ``side`` x ``side``.

    Raises:
        ValueError: The denoiser does not run, or a layer does not pass.
    """
    try:
        calls = count_calls(module, full_pass)
    except (TypeError, ValueError, RuntimeError) as error:
        levels = len(module.config.get('block_out_channels', [0]))
        multiple = 2 ** (levels - 1)
        advice = 'choose another teacher'
        if side % multiple:
            advice = (
                f'set model.teacher.input_size to a multiple of {multiple}'
            )
        raise ValueError(
            'expected a denoiser that runs on (sample, timestep) only, at '
            f'{side} x {side}, got {type(module).__name__}: {error}; {advice}'
        ) from error
    for name in layers:
        if calls[name] != 1:
            raise ValueError(
                f'expected the layer {name!r} to run once in a forward '
                f'pass, got {calls[name]} runs; name the block that '
                'contains it, or its last convolution'
            )
    for name, output in extract().items():
        if not (torch.is_tensor(output) and output.dim() == 4):
            got = getattr(output, 'shape', type(output).__name__)
            raise ValueError(
                f'expected the layer {name!r} to output one N x C x H x W '
                f'map, got {got}; name a convolution inside it'
            )
        if not (output.is_meta or output.isfinite().all()):
            raise ValueError(
                f'expected finite features of the layer {name!r}, got NaN or '
                'Inf; the weights of the teacher are damaged: fetch them '
                'again'
            )


def release_unused(module: nn.Module, used: Set[str], prefix: str = '') -> int:
    """Replace sub-modules outside the paths ``used`` by ``nn.Identity``.

    Containers keep their length: they are never called themselves, and the
    forward may iterate over one before it exits. Returns the number of
    parameters that were released.
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
