"""Trace the channel order from the dataset to the teacher."""

from __future__ import annotations

import copy
import logging
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from PIL import Image

from repfusion_mm.datasets.wrappers import iter_pipelines
from repfusion_mm.models.utils.image_range import undo_normalization
from repfusion_mm.models.utils.image_values import MAX_NORMALIZED, find_cause
from repfusion_mm.utils.seeding import seeded

#: An image of this color (R, G, B) is sent through the pipeline. Its inverse
#: and its gray value differ from it with exchanged channels.
COLOR = (220, 60, 20)
#: Smallest cosine between the chroma of a pixel and that of ``COLOR``.
#: Brightness, contrast and saturation keep the direction.
MIN_COSINE = 0.9
NUM_DRAWS, MIN_WRONG = 16, 12
SHIFTED = (
    'a mean was subtracted; remove Normalize from the pipeline, and set mean '
    'and std of model.data_preprocessor for [0, 255]'
)


def check_channel_order(
    dataset: Any, model: Any, setting: Optional[str] = None
) -> None:
    """Check by an image of one color that the teacher gets RGB images.

    The first image of each part of the dataset is replaced by one color, which
    goes through the pipeline and the data preprocessor. No random number
    generator is advanced.

    Args:
        dataset: The training dataset, or one that wraps others.
        model: A ``RepFusion`` or ``DenoisingDiffusion``.
        setting: The setting that holds the dataset, if the model is trained
            with another one.

    Raises:
        ValueError: The channels arrive exchanged, or the images are not in
            [0, 255].
    """
    for name, found, reason in trace_parts(dataset, model):
        if not found:
            print_log(
                f'channel order of {name} not checked ({reason}); the '
                f'data preprocessor must return {model.channel_order} images',
                logger='current',
                level=logging.WARNING,
            )
            continue
        loaded, outcome = found
        if outcome == 'exchanged':
            raise ValueError(_describe_exchange(name, loaded, model, setting))
        if outcome not in ('right', 'unknown'):
            raise ValueError(
                f'expected RGB images in [0, 255] from {name}, got other '
                f'values for the color {COLOR}: {outcome}'
            )


def trace_parts(dataset: Any, model: Any) -> Iterator[Tuple[str, Any, str]]:
    """Trace an image of one color from each part of a dataset.

    Yields:
        The name of the part, what ``trace`` returns, or None, and the reason.
    """
    for part, pipelines in iter_pipelines(dataset):
        found = None
        reason = 'its images are neither local files nor known to be RGB'
        try:
            with tempfile.TemporaryDirectory() as folder:
                info = paint(part, Path(folder))
                found = info and trace(info, pipelines, model)
        except Exception as error:  # of any transform
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        yield type(part).__name__, found, reason[:200]


def paint(dataset: Any, folder: Path) -> Optional[dict]:
    """Return the first info of a dataset, with an image of one color.

    Returns None for images that are not local files, and for arrays whose
    order is unknown.
    """
    info = copy.deepcopy(dataset.get_data_info(0))
    array = info.get('img')
    if isinstance(array, np.ndarray):
        if array.shape[2:] != (3,) or not _has_rgb_arrays(dataset):
            return None
        info['img'] = np.broadcast_to(COLOR, array.shape).astype(array.dtype)
        return info
    path = Path(str(info.get('img_path')))
    if not path.is_file():
        return None
    with Image.open(path) as original:
        size, form = original.size, original.format
    painted = folder / f'color{path.suffix}'
    image = Image.new('RGB', size, COLOR)
    try:
        image.save(painted, format=form)
    except (KeyError, OSError, ValueError):  # a format only to read
        image.save(painted, format='PNG')
    info['img_path'] = str(painted)
    return info


def trace(
    info: dict, pipelines: List[Callable], model: Any
) -> Tuple[str, str]:
    """Send an image of one color through the pipelines and preprocessor.

    Random color augmentations may change the color in some draws.

    Returns:
        The channel order that the pipelines return (``'rgb'`` or ``'bgr'``),
        and what the teacher gets: ``'right'``, ``'exchanged'``, ``'unknown'``,
        or the cause of values that are not in [0, 255].
    """
    draws: List[Tuple[str, str]] = []
    for seed in range(NUM_DRAWS):
        with seeded(0, seed):
            found = _draw(info, pipelines, model)
        if found and found[1] == 'right':
            return found
        draws += [found] if found else []
    if not draws:
        raise ValueError('its pipeline returns no image')
    outcomes = [outcome for _, outcome in draws]
    wrong = max(set(outcomes), key=outcomes.count)
    if outcomes.count(wrong) < MIN_WRONG * len(draws) / NUM_DRAWS:
        wrong = 'unknown'
    orders = [order for order, outcome in draws if outcome == wrong]
    return max(set(orders), key=orders.count, default='rgb'), wrong


def _draw(
    info: dict, pipelines: List[Callable], model: Any
) -> Optional[Tuple[str, str]]:
    """Return the channel order and what the teacher gets, of one draw.

    Returns None if a transform drops the image, such as a crop without boxes,
    instead of which a dataset takes another image.
    """
    item: Optional[dict] = copy.deepcopy(info)
    for pipeline in pipelines:
        item = pipeline(item)
        if item is None:
            return None
    batch = pseudo_collate([item])
    image = batch['inputs'][0].float()
    is_bgr = _share(image, reverse=True) > _share(image)
    order = 'bgr' if is_bgr else 'rgb'
    # Not called: the hooks of a call check the first batch of images.
    inputs = model.data_preprocessor.forward(batch, False)['inputs']
    pixels = undo_normalization(inputs, model.data_preprocessor)[0]
    if model.channel_order == 'bgr':
        pixels = pixels.flip(0)
    peak = pixels.abs().amax(0)
    small = (peak > 1e-3) & (peak <= MAX_NORMALIZED)  # not black
    if small.float().mean() > 0.5:
        values = pixels[:, small]
        cause = find_cause(float(values.min()), float(values.max()), 0, False)
        if cause:
            return order, cause
    outside = ((pixels < -32) | (pixels > 255 + 32)).any(0).float().mean()
    if outside > 0.5:
        return order, SHIFTED
    right, exchanged = _share(pixels), _share(pixels, reverse=True)
    if right > exchanged:
        return order, 'right'
    return order, 'exchanged' if exchanged > 0 else 'unknown'


def _share(pixels: torch.Tensor, reverse: bool = False) -> float:
    """Return the share of pixels of 3 x H x W that have the color."""
    color = pixels.new_tensor(COLOR[::-1] if reverse else COLOR)
    chroma = pixels - pixels.mean(0)
    cosine = torch.cosine_similarity(
        chroma, (color - color.mean())[:, None, None], dim=0
    )
    found = (cosine > MIN_COSINE) & (chroma.norm(dim=0) > 1)
    return float(found.float().mean())


def _has_rgb_arrays(dataset: Any) -> bool:
    """Return whether mmpretrain, whose arrays are all RGB, reads a dataset."""
    owner = next(
        cls for cls in type(dataset).__mro__ if 'load_data_list' in vars(cls)
    )
    return owner.__module__.split('.')[0] == 'mmpretrain'


def _describe_exchange(
    name: str, loaded: str, model: Any, setting: Optional[str]
) -> str:
    returned = {'rgb': 'bgr', 'bgr': 'rgb'}[model.channel_order]
    converted = loaded != returned
    preprocessor = type(model.data_preprocessor).__name__
    fix = f'set model.channel_order={returned!r}'
    if converted:
        fix = (
            'set bgr_to_rgb, rgb_to_bgr and to_rgb of model.data_preprocessor '
            f'to False, and model.channel_order={loaded!r}'
        )
    elif returned == 'bgr':
        fix += ', or bgr_to_rgb=True (to_rgb) of model.data_preprocessor'
    if setting:
        other = 'bgr' if loaded == 'rgb' else 'rgb'
        fix = (
            f'if the training images are {other}, make the pipeline of '
            f'{setting} return {other} '
            "(dict(type='mmcv.Normalize', mean=[0, 0, 0], std=[1, 1, 1], "
            f'to_rgb=True) reverses channels), otherwise {fix}'
        )
    return (
        f'expected {model.channel_order} images from {preprocessor}, as '
        f'model.channel_order or its settings say, got {returned}, so that '
        f'the teacher would see blue for red: {name} and its pipeline return '
        f'{loaded}, which {preprocessor} '
        f'{"reverses" if converted else "keeps"}; {fix}'
    )
