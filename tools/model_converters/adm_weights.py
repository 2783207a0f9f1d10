"""The weights of ADM's U-Net (guided-diffusion), as UNet2DModel's."""

from typing import Dict

import torch

from repfusion_mm.engine.checkpoint.io import shorten
from repfusion_mm.models.teachers.guided_diffusion import module_names

StateDict = Dict[str, torch.Tensor]

#: What every such U-Net holds, with its dimensions.
NEEDED = {
    'input_blocks.0.0.weight': 4,
    'input_blocks.1.0.emb_layers.1.weight': 2,
    'middle_block.1.qkv.weight': 3,
    'output_blocks.0.0.in_layers.0.weight': 1,
    'out.2.weight': 4,
    'time_embed.0.weight': 2,
}


def read_architecture(
    weights: StateDict, image_size: int, head_channels: int
) -> dict:
    """Read the config of the UNet2DModel from the weights' shapes.

    Raises:
        ValueError: It is no guided-diffusion U-Net, or one of a kind that
            UNet2DModel has not.
    """
    missing = [
        key for key, dims in NEEDED.items()
        if key not in weights or weights[key].dim() != dims
    ]  # fmt: skip
    if missing:
        raise ValueError(
            'expected the weights of a guided-diffusion U-Net alone, got '
            f'none called {missing[0]}, of {NEEDED[missing[0]]} dimensions, '
            f'among {sorted(weights)[:3]} ...; classifiers and other code '
            'bases cannot be converted, and a prefix must be taken off'
        )
    if any(key.endswith('.op.weight') for key in weights):
        raise ValueError(
            'expected residual blocks that resize (resblock_updown=True), '
            'got convolutions; such a U-Net cannot be converted'
        )
    # Only where a level ends does an output block hold a second residual one.
    levels = 1 + sum(
        key.startswith('output_blocks.')
        and key.endswith('.in_layers.0.weight')
        and key.split('.')[2] != '0'
        for key in weights
    )
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
            f'expected {levels} levels of {depth} residual blocks, got none '
            f'called {error}; the file is incomplete'
        ) from error
    attends = [f'input_blocks.{i}.1.qkv.weight' in weights for i in firsts]
    embedding = weights['input_blocks.1.0.emb_layers.1.weight']
    if len(embedding) != 2 * channels[0]:
        raise ValueError(
            'expected a time embedding that scales and shifts '
            f'(use_scale_shift_norm=True, {2 * channels[0]} outputs), got '
            f'{len(embedding)} outputs'
        )
    attending = {c for c, a in zip(channels, attends) if a} | {channels[-1]}
    wrong = sorted(c for c in attending if c % head_channels)
    if wrong:
        raise ValueError(
            f'expected --head-channels to divide {wrong}, got {head_channels}'
        )
    if image_size % 2 ** (levels - 1):
        raise ValueError(
            f'expected --image-size to be a multiple of {2 ** (levels - 1)}, '
            f'for {levels} levels, got {image_size}'
        )
    image = weights['input_blocks.0.0.weight']
    if image.shape[1] != 3:
        raise ValueError(
            f'expected a U-Net that takes RGB images, got {image.shape[1]} '
            'channels; an upsampler cannot teach'
        )
    down = ['AttnDownBlock2D' if a else 'ResnetDownsampleBlock2D'
            for a in attends]  # fmt: skip
    up = ['AttnUpBlock2D' if a else 'ResnetUpsampleBlock2D'
          for a in reversed(attends)]  # fmt: skip
    labels = weights.get('label_emb.weight')
    return dict(
        sample_size=image_size,
        in_channels=3,
        out_channels=len(weights['out.2.weight']),
        block_out_channels=tuple(channels),
        layers_per_block=depth,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        downsample_type='resnet',
        upsample_type='resnet',
        resnet_time_scale_shift='scale_shift',
        attention_head_dim=head_channels,
        attn_norm_num_groups=32,
        time_embedding_dim=len(weights['time_embed.0.weight']),
        num_class_embeds=None if labels is None else len(labels),
    )


def convert(weights: StateDict, config: dict, attention_order: str) -> dict:
    """Rename the weights, and split queries, keys and values.

    Args:
        weights: Of the checkpoint.
        config: Of the UNet2DModel.
        attention_order: ``'new'``: all queries come first, then all keys, all
            values. ``'legacy'``: so they do within each head.
    """
    names = module_names(config)
    heads = config['attention_head_dim']
    converted = {}
    for key, value in weights.items():
        module, _, kind = key.rpartition('.')
        if module.endswith('.qkv'):
            value = value.flatten(1) if kind == 'weight' else value
            split = value.chunk(3)
            if attention_order == 'legacy':
                per_head = value.reshape(-1, 3, heads, *value.shape[1:])
                split = [part.flatten(0, 1) for part in per_head.unbind(1)]
            block = module[: -len('.qkv')]
            block = names.get(block, block)
            for name, part in zip('qkv', split):
                converted[f'{block}.to_{name}.{kind}'] = part.clone()
        elif module.endswith('.proj_out'):
            value = value.flatten(1) if kind == 'weight' else value
            converted[f'{names.get(module, module)}.{kind}'] = value
        else:
            converted[f'{names.get(module, module)}.{kind}'] = value
    return converted


def build(weights: StateDict, config: dict, attention_order: str):
    """Build the denoiser.

    Raises:
        ValueError: The weights do not fill it exactly, or are no numbers.
    """
    from diffusers import UNet2DModel

    damaged = [k for k, v in weights.items() if not v.isfinite().all()]
    if damaged:
        raise ValueError(
            f'expected finite weights, got others in {damaged[:5]}'
        )
    denoiser = UNet2DModel(**config).eval()
    ours = convert(weights, config, attention_order)
    theirs = denoiser.state_dict()
    faults = [f'{k}: missing' for k in theirs if k not in ours]
    faults += [f'{k}: not known' for k in ours if k not in theirs]
    faults += [
        f'{k}: expected {tuple(theirs[k].shape)}, got {tuple(v.shape)}'
        for k, v in ours.items()
        if k in theirs and theirs[k].shape != v.shape
    ]
    if faults:
        raise ValueError(
            f'expected the weights of {len(config["down_block_types"])} '
            f'levels of {config["layers_per_block"]} blocks, got\n  '
            + '\n  '.join(shorten(faults))
        )
    denoiser.load_state_dict(ours)
    return denoiser
