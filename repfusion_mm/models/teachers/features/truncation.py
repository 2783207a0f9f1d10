"""Cut a denoiser off after its last requested layer, before it has weights."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Sequence, Tuple

import torch
from mmengine.logging import print_log

from repfusion_mm.models.teachers.families import (
    Condition,
    DenoiserFamily,
    Grid,
)
from repfusion_mm.models.teachers.features.layers import (
    LayerRun,
    check_layers,
    find_used,
    release_unused,
    survey_layers,
)
from repfusion_mm.models.teachers.features.token_maps import (
    MapReader,
    find_map,
)
from repfusion_mm.utils.messages import PARAMETERS, scale

#: Number of text tokens in a dry run: a prime, so that only a grid that is one
#: position wide could have as many positions.
NUM_TEXT = 127


class Truncated(NamedTuple):
    """How to read the requested layers of a truncated denoiser."""

    readers: Dict[str, MapReader]
    #: (C, H, W) of the map of each layer.
    shapes: Dict[str, Tuple[int, ...]]


def truncate(
    denoiser: Any,
    meta_model: Any,
    family: DenoiserFamily,
    layers: Sequence[str],
    size: Grid,
    classes: Condition,
    early_stop: bool,
) -> Truncated:
    """Find how to read the layers, and release all that runs after them.

    Args:
        denoiser: The denoiser, whose later layers are replaced in place.
        meta_model: A copy on the meta device, which is run once.
        family: Its family.
        layers: Paths of sub-modules.
        size: Height and width of x_t.
        classes: ``class_labels`` of one image, if the denoiser needs them.
        early_stop: Whether to release anything.

    Raises:
        ValueError: The denoiser does not run, or a layer does not run once or
            outputs no map.
    """
    arguments = meta_forward_kwargs(family, size, classes, NUM_TEXT)
    survey = survey_denoiser(meta_model, family, size, arguments)
    readers = check_layers(layers, survey)
    if early_stop:
        used = find_used(layers, survey)
        released = release_unused(denoiser, used)
        print_log(
            f'teacher: exits after the last of {list(layers)}; '
            f'released {scale(released, PARAMETERS)} of later layers',
            logger='current',
        )
    maps = {k: reader(survey[k].output) for k, reader in readers.items()}
    return Truncated(readers, {k: tuple(v.shape[1:]) for k, v in maps.items()})


def meta_forward_kwargs(
    family: DenoiserFamily, size: Grid, classes: Condition, num_text: int
) -> Dict[str, Any]:
    """Return the kwargs of a forward for one image, on the meta device."""
    with torch.device('meta'):
        x_t = torch.zeros(1, family.in_channels, *size)
        timesteps = torch.zeros(1, dtype=torch.long)
        model_timesteps = family.scale_timesteps(timesteps)
        condition = {**family.zero_condition(num_text), **classes}
    meta = {name: value.to('meta') for name, value in condition.items()}
    return family.forward_kwargs(x_t, model_timesteps, meta)


def survey_denoiser(
    meta_model: Any,
    family: DenoiserFamily,
    size: Grid,
    arguments: Dict[str, Any],
) -> Dict[str, LayerRun]:
    """Return what each layer does in a complete pass on the meta device.

    Raises:
        ValueError: The denoiser does not run on images of this size.
    """
    grids = family.grids(size)
    num_text = family.num_text_tokens(family.zero_condition(NUM_TEXT))
    try:
        return survey_layers(
            meta_model,
            lambda: meta_model(**arguments),
            lambda output: find_map(
                output, grids, num_text, family.text_first
            ),
        )
    except (TypeError, ValueError, RuntimeError) as error:
        levels = len(family.config.get('block_out_channels') or [0])
        multiple = family.latent_factor * 2 ** (levels - 1)
        side = tuple(family.latent_factor * value for value in size)
        advice = 'choose another teacher'
        if any(value % multiple for value in side):
            advice = (
                f'set model.teacher.input_size to a multiple of {multiple}'
            )
        raise ValueError(
            f'expected a denoiser that runs on images of {side[0]} x '
            f'{side[1]}, got {type(meta_model).__name__}: {error}; {advice}'
        ) from error
