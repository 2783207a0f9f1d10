"""Convert guided-diffusion's weights into those of diffusers' UNet2DModel."""

from __future__ import annotations

import re
from typing import Any, Dict, Optional, Set

import torch

from repfusion_mm.models.teachers.guided_diffusion.names import (
    module_names,
    unet_config,
)

StateDict = Dict[str, torch.Tensor]

#: Weights of every such U-Net and their numbers of dimensions.
REQUIRED = {
    'input_blocks.0.0.weight': 4,
    'input_blocks.1.0.emb_layers.1.weight': 2,
    'middle_block.1.qkv.weight': 3,
    'output_blocks.0.0.in_layers.0.weight': 1,
    'out.2.weight': 4,
    'time_embed.0.weight': 2,
}


def read_architecture(
    weights: StateDict,
    image_size: int,
    head_channels: Optional[int] = None,
    num_heads: Optional[int] = None,
) -> dict:
    """Infer the config of the UNet2DModel from the shapes of the weights.

    Exactly one of ``head_channels`` and ``num_heads`` is given.

    Raises:
        ValueError: The weights are not those of a guided-diffusion U-Net, or
            UNet2DModel cannot represent it.
    """
    missing = [
        key for key, dims in REQUIRED.items()
        if key not in weights or weights[key].dim() != dims
    ]  # fmt: skip
    if missing:
        raise ValueError(
            'expected the weights of a guided-diffusion U-Net, got no '
            f'{missing[0]} with {REQUIRED[missing[0]]} dimensions among '
            f'{sorted(weights)[:3]} ...; remove a prefix of the names; '
            'classifiers and other architectures are not supported'
        )
    if any(key.endswith('.op.weight') for key in weights):
        raise ValueError(
            'expected residual blocks that resize (resblock_updown=True), '
            'got convolutions; such a U-Net is not supported'
        )
    # An output block has a second residual block only at the end of a level.
    second = re.compile(r'output_blocks\.\d+\.[^0]\.in_layers\.0\.weight')
    levels = 1 + sum(map(bool, map(second.fullmatch, weights)))
    numbers = [k.split('.')[1] for k in weights if k.startswith('input_bl')]
    depth = len(set(numbers)) // levels - 1
    firsts = [1 + level * (depth + 1) for level in range(levels)]
    try:
        channels = [
            len(weights[f'input_blocks.{i}.0.out_layers.3.weight'])
            for i in firsts
        ]
    except KeyError as error:
        raise ValueError(
            f'expected {levels} levels of {depth} residual blocks, got no '
            f'{error}; the file is incomplete'
        ) from error
    attends = [f'input_blocks.{i}.1.qkv.weight' in weights for i in firsts]
    embedding = weights['input_blocks.1.0.emb_layers.1.weight']
    if len(embedding) != 2 * channels[0]:
        raise ValueError(
            'expected a time embedding that scales and shifts '
            f'(use_scale_shift_norm=True, {2 * channels[0]} outputs), got '
            f'{len(embedding)} outputs; such a U-Net is not supported'
        )
    model_channels = weights['time_embed.0.weight'].shape[1]
    if model_channels != channels[0]:
        raise ValueError(
            f'expected model_channels of {channels[0]}, the channels of the '
            f'first level, as in UNet2DModel, got {model_channels} '
            f'(channel_mult starts with {channels[0] / model_channels:g}); '
            'such a U-Net cannot be converted'
        )
    attending = {c for c, a in zip(channels, attends) if a} | {channels[-1]}
    head_channels = read_head_channels(attending, head_channels, num_heads)
    if image_size % 2 ** (levels - 1):
        raise ValueError(
            f'expected --image-size to be a multiple of {2 ** (levels - 1)} '
            f'for {levels} levels, got {image_size}'
        )
    image = weights['input_blocks.0.0.weight']
    if image.shape[1] != 3:
        raise ValueError(
            f'expected a U-Net for RGB images, got {image.shape[1]} input '
            'channels; an upsampler cannot be a teacher'
        )
    labels = weights.get('label_emb.weight')
    return unet_config(
        image_size,
        tuple(channels),
        attends,
        out_channels=len(weights['out.2.weight']),
        layers_per_block=depth,
        attention_head_dim=head_channels,
        time_embedding_dim=len(weights['time_embed.0.weight']),
        num_class_embeds=None if labels is None else len(labels),
    )


def read_head_channels(
    widths: Set[int], head_channels: Optional[int], num_heads: Optional[int]
) -> Optional[int]:
    """Return the channels of each attention head, or None for one head.

    Args:
        widths: Channels of all attention blocks.
        head_channels: Channels of a head, which are equal in all blocks.
        num_heads: Number of heads, which is equal in all blocks.

    Raises:
        ValueError: Heads do not divide a width, or are not of one size, as
            in UNet2DModel.
    """
    if num_heads == 1:
        return None
    given = head_channels or num_heads or 1
    wrong = sorted(width for width in widths if width % given)
    if wrong:
        option = '--head-channels' if head_channels else '--num-heads'
        raise ValueError(f'expected {option} to divide {wrong}, got {given}')
    if head_channels:
        return head_channels
    if len(widths) > 1:
        sizes = [width // given for width in sorted(widths)]
        raise ValueError(
            'expected attention heads of one size, as UNet2DModel has, got '
            f'{given} heads over {sorted(widths)} channels, so heads of '
            f'{sizes} channels; such a U-Net cannot be converted: choose '
            'one with num_head_channels'
        )
    return next(iter(widths)) // given


def convert_weights(
    weights: StateDict,
    config: dict,
    attention_order: str,
    num_heads: Optional[int] = None,
) -> StateDict:
    """Rename the weights, and split queries, keys and values.

    The attention order is ``'new'`` if all queries precede all keys and all
    values, ``'legacy'`` if they do so within each head. ``num_heads`` replaces
    the size of heads in ``config``.
    """
    names = module_names(config)
    converted = {}
    for key, value in weights.items():
        module, _, kind = key.rpartition('.')
        if module.endswith(('.qkv', '.proj_out')) and kind == 'weight':
            value = value.flatten(1)  # a convolution becomes a linear layer
        if not module.endswith('.qkv'):
            converted[f'{names.get(module, module)}.{kind}'] = value
            continue
        parts = value.chunk(3)
        if attention_order == 'legacy':
            width = len(value) // 3
            size = config['attention_head_dim'] or width
            if num_heads:
                size = width // num_heads
            by_head = value.reshape(-1, 3, size, *value.shape[1:])
            parts = tuple(p.flatten(0, 1) for p in by_head.unbind(1))
        block = module.rpartition('.')[0]
        block = names.get(block, block)
        for name, part in zip('qkv', parts):
            converted[f'{block}.to_{name}.{kind}'] = part.clone()
    return converted


def build_denoiser(weights: StateDict, config: dict, attention_order: str):
    """Build the UNet2DModel with these weights, which must be finite."""
    from diffusers import UNet2DModel  # slow to import

    not_finite = [k for k, v in weights.items() if not v.isfinite().all()]
    if not_finite:
        raise ValueError(
            f'expected finite weights, got NaN or Inf in {not_finite[:5]}; '
            'the file is damaged'
        )
    denoiser: Any = UNet2DModel(**config)
    denoiser.eval()
    converted = convert_weights(weights, config, attention_order)
    try:
        denoiser.load_state_dict(converted)
    except RuntimeError as error:
        raise ValueError(
            f'expected the weights of {len(config["down_block_types"])} '
            f'levels of {config["layers_per_block"]} blocks, got {error}; '
            'the file is incomplete, or of another architecture'
        ) from error
    return denoiser
