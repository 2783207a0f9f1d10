"""Latents against the pipelines of diffusers."""

import diffusers
import pytest
import torch

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.inputs.image_encoder import ImageEncoder
from tests.helpers.pipelines.sana import autoencoder_dc
from tests.helpers.toy import AUTOENCODER, DENOISER, LAYER

TINY = dict(
    type='AutoencoderTiny',
    encoder_block_out_channels=(4, 4),
    decoder_block_out_channels=(4, 4),
    num_encoder_blocks=(1, 1),
    num_decoder_blocks=(1, 1),
    upsampling_scaling_factor=2,
)
STATISTICS = dict(
    latents_mean=[0.1, -0.2, 0.3, 0.4],
    latents_std=[1.0, 2.0, 0.5, 3.0],
    scaling_factor=0.13025,
)
LATENT_DENOISER = dict(DENOISER, in_channels=4, out_channels=4, sample_size=8)


def build(config):
    config = dict(config)
    cls = getattr(diffusers, config.pop('type'))
    torch.manual_seed(0)
    vae = cls(**config).eval()
    with torch.device('meta'):
        meta_vae = cls(**config)
    return vae, meta_vae


def encoder_of(vae):
    """Return our encoder of a copy of the weights."""
    copy = type(vae).from_config(vae.config).eval()
    copy.load_state_dict(vae.state_dict())
    with torch.device('meta'):
        meta_vae = type(vae).from_config(vae.config)
    return ImageEncoder(copy, meta_vae)


def images():
    torch.manual_seed(1)
    return torch.rand(2, 3, 32, 32)


class NoNoise:
    """A scheduler whose noised latents are the latents."""

    config = {}

    def add_noise(self, latents, *_args):
        return latents

    scale_noise = add_noise


def pipeline_of(name, vae):
    """Return a pipeline that prepares latents and does nothing else."""
    pipeline = getattr(diffusers, name).__new__(getattr(diffusers, name))
    pipeline.vae, pipeline.scheduler = vae, NoNoise()
    return pipeline


def prepare(name, vae, pixels):
    """Prepare latents, drawn from the posterior by a seed."""
    # ConfigMixin and DiffusionPipeline look attributes up in their config.
    pipeline = pipeline_of(name, vae)
    generator = torch.Generator().manual_seed(3)
    return getattr(diffusers, name).prepare_latents(
        pipeline,
        pixels * 2 - 1,
        torch.tensor([0]),
        len(pixels),
        1,
        torch.float32,
        torch.device('cpu'),
        generator,
    )


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('StableDiffusionImg2ImgPipeline', {}),
        ('StableDiffusionXLImg2ImgPipeline', {'scaling_factor': 0.13025}),
        ('StableDiffusionXLImg2ImgPipeline', STATISTICS),
        ('StableDiffusionXLImg2ImgPipeline',
         {'latents_mean': [9.0] * 4}),  # not used without latents_std
        ('StableDiffusion3Img2ImgPipeline',
         dict(scaling_factor=1.5305, shift_factor=0.0609)),
    ],
)  # fmt: skip
def test_latents_are_those_of_the_pipeline(name, changes):
    vae, _ = build({**AUTOENCODER, 'latent_channels': 4, **changes})
    expected = prepare(name, vae, images())
    posterior = encoder_of(vae)(images())
    noise = torch.randn(
        expected.shape, generator=torch.Generator().manual_seed(3)
    )
    drawn = posterior.mean + posterior.std * noise
    torch.testing.assert_close(drawn, expected, rtol=1e-5, atol=1e-6)


def test_a_tiny_autoencoder_has_only_a_mean():
    vae, _ = build({**TINY, 'scaling_factor': 0.7})
    with torch.no_grad():
        expected = 0.7 * vae.encode(images() * 2 - 1).latents
    encoder = encoder_of(vae)
    mean, std = encoder(images())
    assert torch.equal(mean, expected) and not std.any()
    assert (encoder.channels, encoder.factor) == (4, 2)


def test_sana_autoencoder():
    vae = autoencoder_dc()
    with torch.no_grad():
        expected = 0.41407 * vae.encode(images() * 2 - 1).latent
    encoder = encoder_of(vae)
    mean, std = encoder(images())
    torch.testing.assert_close(mean, expected)
    assert not std.any() and encoder.factor == 4
    names = [name for name, _ in encoder.vae.named_parameters()]
    assert names and all(name.startswith('encoder.') for name in names)


def test_only_the_encoder_is_kept():
    vae, _ = build(AUTOENCODER)
    kept = {k for k, _ in encoder_of(vae).vae.named_parameters()}
    assert kept == {
        name
        for name, _ in vae.named_parameters()
        if name.startswith(('encoder.', 'quant_conv.'))
    }


def teacher(vae, **arguments):
    return DiffusersTeacher(
        [LAYER], config=LATENT_DENOISER, vae=vae, **arguments
    )


@pytest.mark.parametrize(
    ('dtype', 'vae_dtype', 'changes', 'expected'),
    [
        ('float32', 'auto', {}, 'float32'),
        ('bfloat16', 'auto', {}, 'bfloat16'),
        ('bfloat16', 'float32', {}, 'float32'),
        ('float32', 'bfloat16', {}, 'bfloat16'),
        ('float16', 'auto', {}, 'float32'),  # force_upcast by default
        ('float16', 'bfloat16', {}, 'bfloat16'),
        ('float16', 'auto', {'force_upcast': False}, 'float16'),
        ('float32', 'float16', {'force_upcast': False}, 'float16'),
    ],
)
def test_dtype_of_the_encoder(dtype, vae_dtype, changes, expected):
    got = teacher({**AUTOENCODER, **changes}, dtype=dtype, vae_dtype=vae_dtype)
    assert got.encoder.vae.dtype == getattr(torch, expected)
    assert got.denoiser.dtype == getattr(torch, dtype)
    assert got.encoder.scale.dtype == torch.float32
    latents = got.encode(torch.rand(2, 3, 16, 16))
    assert latents.dtype == torch.float32 and latents.isfinite().all()


def test_settings_that_have_no_effect_are_refused():
    with pytest.raises(ValueError, match=r"vae_dtype 'bfloat16' or 'float32'"):
        teacher(AUTOENCODER, vae_dtype='float16')
    with pytest.raises(ValueError, match=r"posterior='mean'.*AutoencoderTiny"):
        teacher(TINY, posterior='sample')


@pytest.mark.parametrize(
    'changes',
    [
        {'scaling_factor': 0},
        {'scaling_factor': 'large'},
        {'scaling_factor': '0.18'},
        {'scaling_factor': None},
        {'shift_factor': float('nan')},
        {'latents_mean': [0.0] * 3, 'latents_std': [1.0] * 3},
        {'latents_mean': [0.0] * 4, 'latents_std': [1.0, 1.0, 1.0, 0.0]},
    ],
)
def test_damaged_statistics_are_refused(changes):
    with pytest.raises(ValueError, match='expected statistics of 4 channels'):
        ImageEncoder(*build({**AUTOENCODER, **changes}))


@pytest.mark.parametrize(
    'config',
    [DENOISER, {**AUTOENCODER, 'in_channels': 1, 'out_channels': 1}],
)
def test_models_that_encode_no_images_are_refused(config):
    message = f'autoencoder of RGB images, got {config["type"]}: '
    with pytest.raises(ValueError, match=message):
        ImageEncoder(*build(config))
