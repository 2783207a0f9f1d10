import math

import diffusers
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.runner import Runner

from tests.helpers.memory_run import teacher_config
from tests.helpers.toy import AUTOENCODER, PIXELS, batch


def build(**overrides):
    config = dict(
        type='repfusion_mm.AutoencoderTraining',
        autoencoder=AUTOENCODER,
        data_preprocessor=PIXELS,
    )
    config.update(overrides)
    return MODELS.build(config)


def test_losses_are_the_reconstruction_and_the_kl_divergence():
    model = build(kl_weight=0.3)
    data = model.data_preprocessor(batch(), True)
    torch.manual_seed(3)
    losses = model(**data, mode='loss')
    torch.manual_seed(3)
    images = data['inputs']
    vae = model.autoencoder
    mean, logvar = vae.quant_conv(vae.encoder(images)).chunk(2, dim=1)
    posterior = torch.distributions.Normal(mean, (logvar / 2).exp())
    latents = mean + posterior.stddev * torch.randn(mean.shape)
    decoded = vae.decoder(vae.post_quant_conv(latents))
    prior = torch.distributions.Normal(0.0, 1.0)
    divergence = torch.distributions.kl_divergence(posterior, prior)
    torch.testing.assert_close(
        losses,
        dict(
            loss_reconstruction=F.mse_loss(decoded, images),
            loss_kl=0.3 * divergence.sum() / images.numel(),
        ),
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip


def test_scaled_latents_have_unit_scale_after_export(tmp_path):
    model = build()
    images = [model.data_preprocessor(batch(8), True) for _ in range(20)]
    for data in images:
        model(**data, mode='loss')
    model.save_pretrained(tmp_path, torch.float32)
    vae = diffusers.AutoencoderKL.from_pretrained(tmp_path)
    latents = [
        vae.encode(data['inputs']).latent_dist.sample() for data in images
    ]
    scaled = torch.cat(latents) * vae.config.scaling_factor
    assert scaled.std().item() == pytest.approx(1, abs=0.02)
    assert vae.config.shift_factor is None


def test_scale_follows_the_latest_batches():
    model = build()
    for std in [5.0] * 3 + [2.0] * 1000:
        model._update_latent_variance(std * torch.randn(64, 4, 8, 8))
    assert math.sqrt(model.latent_variance) == pytest.approx(2, rel=0.02)


def test_validation_does_not_change_the_scale():
    model = build().eval()
    model(**model.data_preprocessor(batch()), mode='loss')
    assert model.num_batches == 0


def test_averaged_weights_are_exported_and_reconstructions_drawn(tmp_path):
    hooks = [
        dict(type='EMAHook', momentum=0.5),
        dict(type='repfusion_mm.ReconstructImagesHook', num_images=3),
        dict(type='repfusion_mm.ExportDiffusersHook', filename='vae'),
    ]
    cfg = teacher_config(tmp_path, hooks)
    cfg.model = dict(
        type='repfusion_mm.AutoencoderTraining',
        autoencoder=AUTOENCODER,
        data_preprocessor=PIXELS,
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    vae = diffusers.AutoencoderKL.from_pretrained(tmp_path / 'vae')
    averaged = next(h for h in runner.hooks if hasattr(h, 'ema_model'))
    expected = averaged.ema_model.module.autoencoder
    for key, value in vae.state_dict().items():
        assert torch.equal(value, expected.state_dict()[key])
    raw = runner.model.autoencoder.decoder.conv_in.weight
    assert not torch.equal(vae.decoder.conv_in.weight, raw)
    assert list(tmp_path.rglob('reconstructions_2.png'))


def test_reconstructions_follow_their_images():
    model = build().eval()
    inputs = model.data_preprocessor(batch())['inputs']
    images, decoded = model.reconstruct(inputs)
    torch.testing.assert_close(images, (inputs + 1) / 2)
    latents = model.autoencoder.encode(inputs).latent_dist.mean
    expected = model.autoencoder.decode(latents).sample / 2 + 0.5
    torch.testing.assert_close(decoded, expected.clamp(0, 1))


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        (dict(kl_weight=-1), 'expected model.kl_weight to be a number of 0'),
        (
            dict(autoencoder=dict(type='UNet2DModel')),
            "type 'AutoencoderKL', got 'UNet2DModel'",
        ),
        (
            dict(autoencoder={**AUTOENCODER, 'in_channels': 1}),
            r'as images are RGB, got \[1, 3\]; leave them out',
        ),
    ],
)
def test_invalid_settings_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        build(**overrides)


def test_sides_must_be_multiples_of_the_factor():
    model = build()
    data = model.data_preprocessor(batch(size=15), True)
    with pytest.raises(ValueError, match=r'multiples .* 2, got \(15, 15\)'):
        model(**data, mode='loss')
