"""Denoisers that are trained on the latents of an autoencoder."""

import copy
import shutil

import diffusers
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner

from tests.helpers.memory_run import teacher_config
from tests.helpers.toy import AUTOENCODER, DENOISER, PIXELS, SCHEDULER, batch

LATENT = dict(DENOISER, sample_size=8, in_channels=4, out_channels=4)
UNCLIPPED = dict(SCHEDULER, clip_sample=False)
TRANSFORMER = dict(
    type='DiTTransformer2DModel',
    sample_size=8,
    in_channels=4,
    out_channels=4,
    num_layers=2,
    num_attention_heads=2,
    attention_head_dim=4,
    num_embeds_ada_norm=1,
)
#: A denoiser, its pipeline, and the arguments of one unconditional image.
PIPELINES = {
    'LDMPipeline': (LATENT, {}),
    'DiTPipeline': (TRANSFORMER, dict(class_labels=[1], guidance_scale=1)),
}


@pytest.fixture(scope='module')
def vae(tmp_path_factory):
    """Write a miniature autoencoder as diffusers does."""
    folder = tmp_path_factory.mktemp('vae')
    config = {k: v for k, v in AUTOENCODER.items() if k != 'type'}
    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(**config, scaling_factor=0.7)
    model.save_pretrained(folder)
    return str(folder)


def config(vae, **overrides):
    return (
        dict(
            type='repfusion_mm.DenoisingDiffusion',
            vae=vae,
            denoiser=LATENT,
            scheduler=UNCLIPPED,
            data_preprocessor=PIXELS,
        )
        | overrides
    )


@pytest.mark.parametrize('denoiser', [LATENT, TRANSFORMER])
def test_loss_is_the_error_of_the_noise_in_scaled_latents(vae, denoiser):
    model = MODELS.build(config(vae, denoiser=denoiser)).eval()
    reference = diffusers.AutoencoderKL.from_pretrained(vae)
    data = model.data_preprocessor(batch(), True)
    torch.manual_seed(3)
    got = model(**data, mode='loss')['loss']
    torch.manual_seed(3)
    posterior = reference.encode(data['inputs']).latent_dist
    noise = torch.randn(posterior.mean.shape)  # in the contiguous format
    latents = 0.7 * (posterior.mean + posterior.std * noise)
    timesteps = torch.randint(1000, (4,))
    noise = torch.randn_like(latents)
    x_t = model.scheduler.add_noise(latents, noise, timesteps)
    classes = {}
    if denoiser is TRANSFORMER:
        classes = dict(class_labels=torch.ones(4, dtype=torch.long))
    predicted = model.denoiser(x_t, timesteps, **classes).sample
    expected = (predicted - noise).pow(2).mean()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_the_encoder_is_frozen_and_not_in_the_state(vae):
    model = MODELS.build(config(vae))
    before = copy.deepcopy(model.encoder.state_dict())
    data = model.data_preprocessor(batch(), True)
    model.train()(**data, mode='loss')['loss'].backward()
    assert {key.split('.')[0] for key in model.state_dict()} == {'denoiser'}
    for parameter in model.encoder.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad
    assert not model.encoder.training
    assert not hasattr(model.encoder.vae.decoder, 'conv_in')  # released
    torch.testing.assert_close(
        model.encoder.state_dict(), before, rtol=0, atol=0
    )
    assert model.double().encoder.vae.dtype == torch.float64


@pytest.mark.parametrize('name', PIPELINES)
def test_exported_folder_is_a_pipeline_of_diffusers(tmp_path, vae, name):
    denoiser, arguments = PIPELINES[name]
    hooks = [
        dict(type='EMAHook', momentum=0.5),
        dict(type='repfusion_mm.SampleImagesHook', num_images=1, num_steps=2),
        dict(type='repfusion_mm.ExportDiffusersHook', dtype='float32'),
    ]
    cfg = teacher_config(tmp_path, hooks)
    cfg.model = config(vae, denoiser=denoiser)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert list(tmp_path.rglob('samples_2.png'))
    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        tmp_path / 'teacher'
    )
    assert type(pipeline).__name__ == name
    averaged = next(h for h in runner.hooks if hasattr(h, 'ema_model'))
    model = averaged.ema_model.module
    pipeline.scheduler = model.build_sampler()
    assert not pipeline.scheduler.config.clip_sample
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        **arguments,
        generator=torch.Generator().manual_seed(5),
        num_inference_steps=2,
        output_type='np',
    ).images
    expected = torch.from_numpy(images).permute(0, 3, 1, 2)
    assert expected.shape == (1, 3, 16, 16)
    torch.testing.assert_close(model.sample(1, 2, seed=5), expected)


def test_a_run_is_resumed_with_its_autoencoder_only(tmp_path, vae):
    folder = tmp_path / 'vae'
    shutil.copytree(vae, folder)
    run_resumable(tmp_path, folder).train()

    shutil.move(folder, tmp_path / 'moved')  # the path does not matter
    resumed = run_resumable(tmp_path, tmp_path / 'moved', resume=True)
    resumed.model.half()  # nor does the dtype
    resumed.train()

    other = diffusers.AutoencoderKL.from_pretrained(vae)
    with torch.no_grad():
        other.encoder.conv_in.weight.mul_(1.1)
    other.register_to_config(scaling_factor=0.9)
    other.save_pretrained(folder)
    with pytest.raises(
        ValueError, match=r'got another one .*: config, .*: weights'
    ):
        run_resumable(tmp_path, folder, resume=True).train()
    started = run_resumable(
        tmp_path / 'new', folder, load_from=str(tmp_path / 'epoch_1.pth')
    )
    started.train()


def test_quantized_weights_are_named_by_the_setting(tmp_path, vae):
    shutil.copytree(vae, tmp_path / 'vae')
    weights = next((tmp_path / 'vae').glob('*.safetensors'))
    weights.rename(tmp_path / 'vae/vae-Q4.gguf')
    with pytest.raises(OSError, match=r'set model\.vae to the original'):
        MODELS.build(config(str(tmp_path / 'vae')))


def run_resumable(work_dir, vae, **settings):
    """Build a run with the hooks that read and write checkpoints."""
    hooks = [
        dict(type='EMAHook', momentum=0.5),
        dict(type='repfusion_mm.StrictLoadHook'),
        dict(type='repfusion_mm.ExactResumeHook'),
        dict(type='repfusion_mm.ExportDiffusersHook'),
    ]
    cfg = teacher_config(work_dir, hooks)
    cfg.model = config(str(vae))
    cfg.experiment_name = f'{work_dir.name}-{vae.name}-{len(settings)}'
    cfg.update(settings)
    return Runner.from_cfg(cfg)


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        (
            dict(denoiser=dict(LATENT, in_channels=3)),
            'channels 4 .* as the latents of model.vae, got 3 and 4',
        ),
        (
            dict(denoiser=dict(LATENT, out_channels=3)),
            'got 4 and 3; set both to 4$',
        ),
        (dict(scheduler=SCHEDULER), 'clip_sample=False with model.vae'),
        (
            dict(denoiser=dict(LATENT, sample_size=(8, 8))),
            r'side of square latents, got \(8, 8\)',
        ),
        (
            dict(denoiser=dict(TRANSFORMER, sample_size=7)),
            'to a multiple of 2',
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(vae, overrides, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(config(vae, **overrides))


def test_images_must_have_the_side_of_the_latents_times_the_factor(vae):
    model = MODELS.build(config(vae))
    for side in (8, 17):  # 17: the last row of latents would be cut off
        data = model.data_preprocessor(batch(size=side), True)
        got = rf'16 x 16, .* times the factor 2 .* got \({side}, {side}\)'
        with pytest.raises(ValueError, match=got):
            model(**data, mode='loss')


def test_a_missing_autoencoder_is_named(tmp_path):
    with pytest.raises(OSError, match='nowhere'):
        MODELS.build(config(str(tmp_path / 'nowhere')))


def test_autoencoders_that_shift_latents_are_refused(tmp_path):
    arguments = {k: v for k, v in AUTOENCODER.items() if k != 'type'}
    model = diffusers.AutoencoderKL(**arguments, shift_factor=0.1)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'shift_factor': 0"):
        MODELS.build(config(str(tmp_path)))
