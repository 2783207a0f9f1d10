"""The size of the images that a denoiser runs on."""

from __future__ import annotations

from typing import Sequence, Tuple, Union

from repfusion_mm.models.teachers.families import DenoiserFamily
from repfusion_mm.utils.arguments import read_size


def resolve_image_size(
    input_size: Union[int, Sequence[int], None], family: DenoiserFamily
) -> Union[int, Tuple[int, int]]:
    """Return the side of the images, or height and width if they differ.

    Args:
        input_size: ``input_size`` of the teacher, or None for the size that
            the denoiser is made for.
        family: The family of the denoiser.

    Raises:
        ValueError: Neither ``input_size`` nor the denoiser gives a size, or
            the denoiser does not run on it.
    """
    setting = 'model.teacher.input_size'
    if input_size is None:
        height, width = _read_pair(family.sample_size)
        height *= family.latent_factor
        width *= family.latent_factor
    else:
        height, width = read_size(setting, input_size)
    multiple = family.latent_factor * family.patch_size
    if height % multiple or width % multiple:
        near = [
            max(round(side / multiple), 1) * multiple
            for side in (height, width)
        ]
        raise ValueError(
            f'expected {setting} to be a multiple of {multiple} (the side of '
            f'a latent pixel, {family.latent_factor}, times that of a patch, '
            f'{family.patch_size}), got {height} x {width}; set it to '
            f'{near[0] if height == width else tuple(near)}, for example'
        )
    largest = family.max_size and family.max_size * family.latent_factor
    if largest and max(height, width) > largest:
        raise ValueError(
            f'expected {setting} of at most {largest}, which the positional '
            f'embedding of this denoiser covers, got {height} x {width}; set '
            'it to a smaller one'
        )
    if height == width:
        return height
    if family.only_squares:
        raise ValueError(
            f'expected a square {setting}, which this denoiser requires, got '
            f'{(height, width)}; set it to a single int'
        )
    return height, width


def _read_pair(sample_size: object) -> Tuple[int, int]:
    if isinstance(sample_size, int):
        return sample_size, sample_size
    if (
        isinstance(sample_size, (list, tuple))
        and len(sample_size) == 2
        and all(isinstance(side, int) for side in sample_size)
    ):
        return sample_size[0], sample_size[1]
    raise ValueError(
        "expected sample_size of the denoiser's config to be an int, or "
        f'height and width, got {sample_size!r}; set model.teacher.input_size'
    )
