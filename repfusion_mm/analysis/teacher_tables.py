"""Tables of what teachers and their layers cost."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Iterable, Iterator, Optional, Sequence, Union

from mmengine.utils import to_2tuple

from repfusion_mm.analysis.teacher_costs import Cost, TeacherCosts


def format_layers(
    costs: TeacherCosts, depth: int, pattern: Optional[str] = None
) -> Iterator[str]:
    """Yield the lines of a list of a teacher's layers.

    Args:
        costs: Those of the teacher.
        depth: Number of names in the longest path, without indices of lists.
        pattern: Instead of ``depth``, what paths must match, as in a shell.

    Raises:
        ValueError: No layer matches.
    """
    names = [
        name
        for name in costs.layers
        if (fnmatch(name, pattern) if pattern else find_depth(name) <= depth)
    ]
    if not names:
        raise ValueError(
            'expected --filter to match a layer that outputs a map, got '
            f'{pattern!r}; list them all with --filter "*"'
        )
    yield f'images: {_join(to_2tuple(costs.image_size))} pixels'
    if costs.encoder and costs.latents:
        yield (
            f'image encoder: {_gflop(costs.encoder)} GFLOP, '
            f'{_millions(costs.encoder)} M parameters; latents '
            f'{_join(costs.latents)}'
        )
    if costs.num_text:
        yield f'text: {costs.num_text} tokens'
    yield (
        f'complete pass: {_gflop(costs.complete)} GFLOP, '
        f'{_millions(costs.complete)} M parameters'
    )
    width = max(map(len, names))
    encoder = '  encoder' if costs.encoder else ''
    yield (
        f'{"layer":{width}}  {"C x H x W":>16}  {"GFLOP":>8}  '
        f'{"M param.":>8}{encoder}'
    )
    for name in names:
        cost = costs.layers[name]
        share = f'  {costs.encoder_share(name):7.0%}' if encoder else ''
        yield (
            f'{name:{width}}  {_join(costs.shapes[name]):>16}  '
            f'{_gflop(cost):>8}  {_millions(cost):>8}{share}'
        )


def find_depth(path: str) -> int:
    """Return the number of names in a path, without the indices of lists."""
    return sum(not part.isdecimal() for part in path.split('.'))


#: Columns of the table of teachers.
COLUMNS = (
    'teacher', 'layer', 'pixels', 'map', 'GFLOP: to layer (full)',
    'VAE GFLOP (share)', 'params: to layer (full), M', 'VAE params, M',
    'weights, bf16', 'cached latents per image',
)  # fmt: skip


def format_teacher(
    name: str, layers: Sequence[Union[int, str]], costs: TeacherCosts
) -> str:
    """Return a row of the table of teachers, in Markdown.

    GFLOP and parameters are those of the denoiser up to the last of the
    layers, and of its complete pass. Latents are the mean of the posterior of
    an image in float16.

    Args:
        name: Of the teacher.
        layers: Of its config; an index counts the layers in their order.
        costs: Those of the teacher.
    """
    layer = costs.find_last(layers)
    cost = costs.layers[layer]
    num_parameters = cost.num_parameters
    encoder = latents = kept = ''
    if costs.encoder and costs.latents:
        channels, height, width = costs.latents
        share = costs.encoder_share(layer)
        encoder = f'{_gflop(costs.encoder)} ({share:.0%})'
        kept = _millions(costs.encoder)
        latents = f'{2 * channels * height * width / 1024:.0f} KiB'
        num_parameters += costs.encoder.num_parameters
    cells = (
        name,
        f'`{layer}`',
        _join(dict.fromkeys(to_2tuple(costs.image_size))),
        _join(costs.shapes[layer]),
        f'{_gflop(cost)} ({_gflop(costs.complete)})',
        encoder,
        f'{_millions(cost)} ({_millions(costs.complete)})',
        kept,
        f'{2 * num_parameters / 1e9:.2f} GB',
        latents,
    )
    return f'| {" | ".join(cells)} |'


def format_header() -> str:
    """Return the first two lines of the table of teachers."""
    return f'| {" | ".join(COLUMNS)} |\n{"|---" * len(COLUMNS)}|'


def _gflop(cost: Cost) -> str:
    gflop = cost.flop / 1e9
    return f'{gflop:.1f}' if gflop < 100 else f'{gflop:.0f}'


def _millions(cost: Cost) -> str:
    millions = cost.num_parameters / 1e6
    return f'{millions:.1f}' if millions < 100 else f'{millions:.0f}'


def _join(values: Iterable[int]) -> str:
    return ' x '.join(map(str, values))
