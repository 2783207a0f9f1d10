"""Costs of layers equal those of teachers that exit there."""

import diffusers
import pytest
import torch
import torch.nn as nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from repfusion_mm.analysis.teacher_costs import count_teacher
from repfusion_mm.analysis.teacher_tables import (
    find_depth,
    format_layers,
    format_teacher,
)
from repfusion_mm.models.teachers import DiffusersTeacher, TimmTeacher
from repfusion_mm.models.teachers.base import BaseTeacher

VAE = dict(
    type='AutoencoderKL', block_out_channels=(8, 8), latent_channels=4,
    down_block_types=('DownEncoderBlock2D',) * 2, norm_num_groups=4,
    up_block_types=('UpDecoderBlock2D',) * 2,
)  # fmt: skip
UNET = dict(
    type='UNet2DConditionModel', sample_size=8, block_out_channels=(8, 16),
    down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
    up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'), norm_num_groups=4,
    cross_attention_dim=12, attention_head_dim=4, layers_per_block=1,
)  # fmt: skip
LATENT = dict(type='repfusion_mm.DiffusersTeacher', config=UNET, vae=VAE)


def build(config):
    config = dict(config)
    return getattr(diffusers, config.pop('type'))(**config)


def num_parameters(*modules):
    return sum(p.numel() for m in modules for p in m.parameters())


def flop_of(run):
    """Count on the CPU, where torch does not count its own attention."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


@pytest.fixture(scope='module')
def costs():
    return count_teacher(LATENT)


def test_the_complete_pass_is_that_of_diffusers(costs):
    denoiser = build(UNET)
    flop = flop_of(
        lambda: denoiser(torch.rand(1, 4, 8, 8), 0, torch.rand(1, 77, 12))
    )
    assert costs.num_text == 77
    assert costs.complete == (flop, num_parameters(denoiser))
    assert costs.layers['conv_out'] == costs.complete


def test_the_encoder_is_counted_without_its_decoder(costs):
    vae = build(VAE)
    flop = flop_of(lambda: vae.encode(torch.rand(1, 3, 16, 16)))
    assert costs.encoder == (flop, num_parameters(vae.encoder, vae.quant_conv))
    assert costs.latents == (4, 8, 8)
    total = flop + costs.complete.flop
    assert costs.encoder_share('conv_out') == flop / total


@pytest.mark.parametrize('layer', ['down_blocks.0', 'mid_block.resnets.0'])
def test_a_layer_costs_as_much_as_a_teacher_that_exits_there(costs, layer):
    arguments = {k: v for k, v in LATENT.items() if k != 'type'}
    teacher = DiffusersTeacher(layers=[layer], **arguments)
    images, zeros = torch.rand(1, 3, 16, 16), torch.zeros(1, dtype=torch.long)
    flop = flop_of(lambda: teacher(images, zeros))
    assert costs.layers[layer].flop + costs.encoder.flop == flop
    kept = num_parameters(teacher.denoiser)
    assert costs.layers[layer].num_parameters == kept
    assert costs.shapes[layer] == teacher.feature_shapes[layer]


def test_layers_without_a_map_are_left_out(costs):
    assert not [name for name in costs.layers if 'time_embedding' in name]
    # Its input is text.
    assert not [name for name in costs.layers if name.endswith('attn2.to_k')]


def test_each_draw_of_noise_costs_a_pass():
    arguments = dict(LATENT, num_noises=3)
    costs = count_teacher(arguments)
    del arguments['type']
    teacher = DiffusersTeacher(layers=['mid_block'], **arguments)
    images, zeros = torch.rand(1, 3, 16, 16), torch.zeros(1, dtype=torch.long)
    assert costs.flop('mid_block') == flop_of(lambda: teacher(images, zeros))
    encoder = costs.encoder.flop / costs.flop('mid_block')
    assert costs.encoder_share('mid_block') == encoder


class ConvTeacher(BaseTeacher):
    feature_shapes = dict(a=(8, 16, 16), b=(8, 16, 16))
    num_timesteps, image_size = 1000, 16

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, images, timesteps, data_samples=None):
        return dict.fromkeys('ab', self.conv(images))


def test_layers_of_other_teachers_cost_the_complete_pass():
    costs = count_teacher(dict(type=ConvTeacher))
    assert costs.flop('a') == costs.flop('b') == 2 * 3 * 8 * 16 * 16
    assert costs.encoder_share('a') == 0


@pytest.mark.parametrize('layer', ['nothing', 9999])
def test_a_layer_without_a_map_is_not_the_last(costs, layer):
    with pytest.raises(ValueError, match='output a map'):
        costs.find_last(['mid_block', layer])


def test_a_timm_teacher_is_counted():
    name = 'test_vit'
    costs = count_teacher(
        dict(
            type='repfusion_mm.TimmTeacher',
            model=name,
            layers=[-1],
            input_size=160,
        )
    )
    teacher = TimmTeacher(model=name, layers=[2], pretrained=False)
    zeros = torch.zeros(1, dtype=torch.long)
    flop = flop_of(lambda: teacher(torch.rand(1, 3, 160, 160), zeros))
    assert costs.layers['blocks.2'].flop == flop
    assert costs.shapes == {f'blocks.{i}': (64, 10, 10) for i in range(6)}
    assert costs.encoder is None


def test_the_depth_of_a_path_does_not_count_indices():
    assert find_depth('transformer_blocks.13') == 1
    assert find_depth('up_blocks.0.attentions.1.transformer_blocks.0') == 3


def test_a_list_holds_the_layers_of_a_depth_or_a_pattern(costs):
    def names(*args):
        lines = [*format_layers(costs, *args)]
        start = next(i for i, v in enumerate(lines) if v.startswith('layer'))
        return [line.split()[0] for line in lines[start + 1 :]]

    assert names(1)[:2] == ['conv_in', 'down_blocks.0']
    assert 'mid_block.resnets.0' in names(2)
    assert 'mid_block.resnets.0.conv1' not in names(2)
    found = names(1, 'mid_block.*.conv2')
    assert found == ['mid_block.resnets.0.conv2', 'mid_block.resnets.1.conv2']
    with pytest.raises(ValueError, match="a map, got 'nothing'"):
        names(1, 'nothing')


def test_a_row_of_the_table(costs):
    row = format_teacher('mine', ['mid_block', 'conv_in'], costs)
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells[:4] == ['mine', '`mid_block`', '16', '16 x 4 x 4']
    assert cells[-1] == '0 KiB'  # 2 x 4 x 8 x 8 bytes
