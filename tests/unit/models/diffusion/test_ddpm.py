import inspect
import re

import diffusers
import pytest
import torch
from mmengine.registry import MODELS

from repfusion_mm.models.diffusion.checks import check_sample_size
from repfusion_mm.models.diffusion.ddpm import DenoisingDiffusion
from tests.helpers.toy import DENOISER, SCHEDULER, batch


def build(**overrides):
    config = dict(
        type='repfusion_mm.DenoisingDiffusion',
        denoiser=DENOISER,
        scheduler=SCHEDULER,
        data_preprocessor=dict(
            type='mmengine.ImgDataPreprocessor',
            mean=[127.5] * 3,
            std=[127.5] * 3,
            bgr_to_rgb=True,
        ),
    )
    config.update(overrides)
    return MODELS.build(config)


def test_loss_is_the_error_of_the_predicted_noise():
    model = build().eval()
    data = model.data_preprocessor(batch(), True)
    torch.manual_seed(3)
    got = model(**data, mode='loss')['loss']
    torch.manual_seed(3)
    timesteps = torch.randint(1000, (4,))
    noise = torch.randn(4, 3, 16, 16)
    alphas = model.scheduler.alphas_cumprod[timesteps].view(4, 1, 1, 1)
    x_t = alphas.sqrt() * data['inputs'] + (1 - alphas).sqrt() * noise
    expected = (model.denoiser(x_t, timesteps).sample - noise).pow(2).mean()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_sampling_returns_images_and_keeps_the_random_state():
    model = build()
    state = torch.get_rng_state()
    images = model.sample(3, num_steps=2, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert images.shape == (3, 3, 16, 16)
    assert images.min() >= 0 and images.max() <= 1
    assert torch.equal(images, model.sample(3, num_steps=2, seed=5))
    assert model.denoiser.training


@pytest.mark.parametrize(
    'scheduler',
    [
        dict(type='DDPMScheduler', beta_schedule='sigmoid'),
        dict(type='DDPMScheduler', beta_schedule='laplace'),
        dict(type='DPMSolverMultistepScheduler'),
        dict(type='EulerDiscreteScheduler', beta_schedule='scaled_linear'),
        dict(type='DDPMScheduler', num_train_timesteps=20),
        dict(type='DDPMScheduler', num_train_timesteps=20, steps_offset=1),
        dict(type='RePaintScheduler'),  # has no prediction_type
    ],
)
def test_images_are_sampled_with_the_schedule_of_the_training(
    scheduler, monkeypatch
):
    seen = []
    run = diffusers.DDIMScheduler.set_timesteps

    def record(self, *args, **kwargs):
        seen.append(self)
        return run(self, *args, **kwargs)

    monkeypatch.setattr(diffusers.DDIMScheduler, 'set_timesteps', record)
    model = build(scheduler=scheduler)
    assert model.sample(1, num_steps=30).isfinite().all()
    torch.testing.assert_close(
        seen[0].alphas_cumprod, model.scheduler.alphas_cumprod.float(),
        rtol=1e-4, atol=1e-7,
    )  # fmt: skip


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        (dict(denoiser={**DENOISER, 'in_channels': 1}), 'got 1 and 3'),
        (dict(denoiser={**DENOISER, 'out_channels': 6}), 'got 3 and 6'),
        (
            dict(denoiser={**DENOISER, 'num_class_embeds': 10}),
            'remove num_class_embeds',
        ),
        (
            dict(denoiser={**DENOISER, 'class_embed_type': 'timestep'}),
            'remove class_embed_type',
        ),
        (
            dict(scheduler={**SCHEDULER, 'prediction_type': 'sample'}),
            "expected model.scheduler.prediction_type .* got 'sample'",
        ),
        (
            dict(scheduler={**SCHEDULER, 'variance_type': 'learned'}),
            'expected model.scheduler.variance_type',
        ),
        (
            dict(scheduler={**SCHEDULER, 'timestep_spacing': 'none'}),
            'expected model.scheduler with which DDIM',
        ),
        (
            dict(scheduler={**SCHEDULER, 'num_train_timesteps': '9'}),
            'arguments of DDPMScheduler in model.scheduler',
        ),
        (
            dict(scheduler={**SCHEDULER, 'num_train_timesteps': 0}),
            'got DDPMScheduler with 0 betas .* set model.scheduler=',
        ),
        (dict(scheduler=None), 'expected model.scheduler to be a dict'),
        (
            dict(scheduler=dict(type='EDMEulerScheduler')),
            'no alphas_cumprod .*; set model.scheduler=',
        ),
        (
            dict(
                denoiser={
                    **DENOISER,
                    'time_embedding_type': 'learned',
                    'num_train_timesteps': 50,
                }
            ),
            'got 50 in the denoiser .* set model.scheduler=',
        ),
        (
            dict(denoiser={**DENOISER, 'sample_size': None}),
            'expected model.denoiser.sample_size',
        ),
    ],
)
def test_invalid_denoisers_and_schedulers_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message) as error:
        build(**overrides)
    # The settings that the message names are those of this model.
    named = re.findall(r'model\.(\w+)', str(error.value))
    assert set(named) <= set(inspect.signature(DenoisingDiffusion).parameters)


def test_modes_other_than_loss_are_refused():
    with pytest.raises(ValueError, match="expected mode 'loss'"):
        build()(torch.rand(1, 3, 16, 16), mode='predict')


def test_images_of_another_size_than_the_exported_one_are_refused():
    model = build()
    data = model.data_preprocessor(batch(size=32), True)
    with pytest.raises(ValueError, match=r'of 16 x 16, .* got \(32, 32\)'):
        model(**data, mode='loss')


@pytest.mark.parametrize('size', [0, -16, 16.0, '16', (16,), (16, 16, 3)])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(ValueError, match='sample_size to be'):
        build(denoiser={**DENOISER, 'sample_size': size})


@pytest.mark.parametrize('size', [1, 17, (16, 15)])
def test_only_sizes_are_advised_if_another_one_runs(size):
    with pytest.raises(ValueError, match=r'to a multiple of 2$') as caught:
        build(denoiser={**DENOISER, 'sample_size': size})
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_other_errors_of_a_denoiser_keep_their_cause():
    denoiser = build().denoiser
    denoiser.conv_norm_out = torch.nn.GroupNorm(4, 12)  # of 8 channels
    with pytest.raises(ValueError, match=r'weight of shape \[12\]') as caught:
        check_sample_size(denoiser)
    assert 'multiple' not in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)
