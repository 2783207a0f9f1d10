from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn
from torch.utils.flop_counter import FlopCounterMode

from repfusion_mm.analysis.comparison.candidates import count_layers
from repfusion_mm.models.teachers import DiffusersTeacher
from repfusion_mm.models.teachers.base import BaseTeacher
from tests.helpers.toy import AUTOENCODER, DENOISER

IMAGE = torch.rand(1, 3, 16, 16)
LATENT = dict(
    config=dict(DENOISER, sample_size=8, in_channels=4, out_channels=4),
    vae=AUTOENCODER,
    num_noises=3,
)
LAYER = 'down_blocks.1.resnets.0'


class ConvTeacher(BaseTeacher):
    """A teacher of another class."""

    feature_shapes = dict(a=(8, 16, 16), b=(8, 16, 16))
    num_timesteps, image_size = 1000, 16

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, images, timesteps, data_samples=None):
        return dict.fromkeys('ab', self.conv(images))


def count(teacher, config=None):
    prober = SimpleNamespace(teacher=teacher, batches=[IMAGE])
    return count_layers(config, prober)


@pytest.mark.slow
def test_the_encoder_and_each_draw_of_noise_count():
    config = dict(LATENT, type='repfusion_mm.DiffusersTeacher', layers=[LAYER])
    with torch.device('meta'):
        teacher = DiffusersTeacher(layers=[LAYER], **LATENT)
        zero = torch.zeros(1, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        teacher(IMAGE.to('meta'), zero)
    assert count(teacher, config) == {LAYER: counter.get_total_flops()}
    assert counter.get_total_flops() > 1e5


def test_other_teachers_cost_their_complete_pass():
    flop = 2 * 3 * 8 * 16 * 16
    assert count(ConvTeacher()) == dict(a=flop, b=flop)
