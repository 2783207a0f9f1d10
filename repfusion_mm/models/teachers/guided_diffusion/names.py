"""Module paths of guided-diffusion's U-Net in diffusers' UNet2DModel.

"Diffusion Models Beat GANs on Image Synthesis" (ADM, arXiv 2105.05233). Both
have the same blocks: guided-diffusion numbers them along the network,
diffusers by level.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

#: Parts of a residual block and of an attention block: published and
#: diffusers' names.
RESNET_PARTS = {
    'in_layers.0': 'norm1',
    'in_layers.2': 'conv1',
    'emb_layers.1': 'time_emb_proj',
    'out_layers.0': 'norm2',
    'out_layers.3': 'conv2',
    'skip_connection': 'conv_shortcut',
}
ATTENTION_PARTS = {'norm': 'group_norm', 'proj_out': 'to_out.0'}
#: Modules outside of the blocks.
OTHERS = {
    'time_embed.0': 'time_embedding.linear_1',
    'time_embed.2': 'time_embedding.linear_2',
    'label_emb': 'class_embedding',
    'input_blocks.0.0': 'conv_in',
    'out.0': 'conv_norm_out',
    'out.2': 'conv_out',
}


#: Settings of every such UNet2DModel.
COMMON = dict(
    downsample_type='resnet',
    upsample_type='resnet',
    resnet_time_scale_shift='scale_shift',
    attn_norm_num_groups=32,
)


def unet_config(
    image_size: int,
    channels: Tuple[int, ...],
    attends: Sequence[int],
    **settings: Any,
) -> dict:
    """Return the config of the UNet2DModel; ``attends`` is by level."""
    down = ('ResnetDownsampleBlock2D', 'AttnDownBlock2D')
    up = ('ResnetUpsampleBlock2D', 'AttnUpBlock2D')
    return dict(
        sample_size=image_size,
        block_out_channels=channels,
        down_block_types=tuple(down[attend] for attend in attends),
        up_block_types=tuple(up[attend] for attend in reversed(attends)),
        **COMMON,
        **settings,
    )


def module_names(config: Mapping) -> Dict[str, str]:
    """Return diffusers' path for each published path of a block or a part.

    It is empty if the U-Net does not have guided-diffusion's architecture.
    """
    checked = ('resnet_time_scale_shift', 'downsample_type')
    if any(config.get(key) != COMMON[key] for key in checked):
        return {}
    names = dict(OTHERS, **{'input_blocks.0': 'conv_in'})
    for published, ours in find_blocks(config):
        # The output of a numbered block is that of its last member.
        names[published.rpartition('.')[0]] = ours
        names[published] = ours
        parts = ATTENTION_PARTS if '.attentions.' in ours else RESNET_PARTS
        for name, part in parts.items():
            names[f'{published}.{name}'] = f'{ours}.{part}'
    return names


def find_blocks(config: Mapping) -> Iterator[Tuple[str, str]]:
    """Yield the published and diffusers' paths of all blocks."""
    depth = config['layers_per_block']
    for side, published, begin in (('down', 'input', 1), ('up', 'output', 0)):
        blocks: List[List[str]] = []
        kinds = config[f'{side}_block_types']
        for level, kind in enumerate(kinds):
            here = f'{side}_blocks.{level}'
            for i in range(depth + (side == 'up')):
                blocks.append([f'{here}.resnets.{i}'])
                if kind.startswith('Attn'):
                    blocks[-1].append(f'{here}.attentions.{i}')
            if level < len(kinds) - 1:
                if side == 'down':  # a block of its own
                    blocks.append([])
                blocks[-1].append(f'{here}.{side}samplers.0')
        for number, members in enumerate(blocks, begin):
            for place, ours in enumerate(members):
                yield f'{published}_blocks.{number}.{place}', ours
    for place, ours in enumerate(('resnets.0', 'attentions.0', 'resnets.1')):
        yield f'middle_block.{place}', f'mid_block.{ours}'
