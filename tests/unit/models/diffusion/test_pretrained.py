"""Denoisers that are finetuned from their weights."""

import json

import diffusers
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner
from safetensors.torch import load_file, save_file

from tests.helpers.memory_run import teacher_config
from tests.helpers.pipelines import latent_unet, sd
from tests.helpers.toy import DENOISER, PIXELS, batch

#: Not the noise of DDPMScheduler's defaults.
BETAS = dict(beta_start=0.001, beta_end=0.01)


def save(folder, **overrides):
    """Write a miniature denoiser as diffusers does, in float16."""
    config = {k: v for k, v in DENOISER.items() if k != 'type'}
    torch.manual_seed(7)
    model = diffusers.UNet2DModel(**config | overrides).half()
    model.save_pretrained(folder)
    diffusers.DDPMScheduler(**BETAS).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / 'pretrained')


def build(pretrained, denoiser=None, **overrides):
    config = dict(
        type='repfusion_mm.DenoisingDiffusion',
        denoiser=dict(denoiser or {}, pretrained=str(pretrained)),
        data_preprocessor=dict(PIXELS),
    )
    return MODELS.build(config | overrides)


def set_scheduler(folder, **values):
    file = next(folder.rglob('scheduler_config.json'))
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | values))


def test_the_first_loss_is_that_of_the_pretrained_model(folder):
    model = build(folder)
    own = diffusers.UNet2DModel.from_pretrained(folder)
    scheduler = diffusers.DDPMScheduler.from_pretrained(folder)
    data = model.data_preprocessor(batch(), True)
    torch.manual_seed(3)
    got = model(**data, mode='loss')['loss']
    torch.manual_seed(3)
    timesteps = torch.randint(1000, (4,))
    noise = torch.randn(4, 3, 16, 16)
    x_t = scheduler.add_noise(data['inputs'], noise, timesteps)
    expected = (own(x_t, timesteps).sample - noise).pow(2).mean()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    got.backward()
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32, name
        assert parameter.grad is not None, name
    assert model.denoiser.training


@pytest.mark.parametrize('variant', latent_unet.VARIANTS)
def test_a_latent_pipeline_is_finetuned_with_its_autoencoder(
    tmp_path, variant
):
    latent_unet.save(tmp_path, variant)
    model = build(tmp_path)
    pipeline = diffusers.LDMPipeline.from_pretrained(tmp_path)
    data = model.data_preprocessor(batch(size=latent_unet.SIDE), True)
    torch.manual_seed(3)
    got = model(**data, mode='loss')['loss']
    torch.manual_seed(3)
    encoded = pipeline.vqvae.encode(data['inputs'])
    if variant == 'VQ':
        latents = encoded.latents
        torch.randn(latents.shape)  # drawn and multiplied by zero
    else:
        latents = encoded.latent_dist.sample()
    latents = latents * pipeline.vqvae.config.scaling_factor
    timesteps = torch.randint(1000, (4,))
    noise = torch.randn_like(latents)
    x_t = pipeline.scheduler.add_noise(latents, noise, timesteps)
    expected = (pipeline.unet(x_t, timesteps).sample - noise).pow(2).mean()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert model.sample(1, num_steps=2).shape == (1, 3, 32, 32)


def test_a_finetuned_model_is_exported_with_its_own_schedule(folder, tmp_path):
    """And resumed with the same one only."""

    def run(name, **settings):
        hooks = [
            dict(type='repfusion_mm.StrictLoadHook'),
            dict(type='repfusion_mm.ExactResumeHook'),
            dict(type='repfusion_mm.ExportDiffusersHook'),
        ]
        cfg = teacher_config(tmp_path / 'run', hooks)
        cfg.model.denoiser = dict(pretrained=folder)
        cfg.model.pop('scheduler')
        cfg.experiment_name = name
        cfg.update(settings)
        Runner.from_cfg(cfg).train()

    run('first')
    written = tmp_path / 'run/teacher'
    scheduler = diffusers.DDPMScheduler.from_pretrained(written)
    assert scheduler.config.beta_end == 0.01
    trained = diffusers.UNet2DModel.from_pretrained(written).state_dict()
    before = diffusers.UNet2DModel.from_pretrained(folder).state_dict()
    change = max(
        (trained[key] - before[key]).abs().max().item() for key in before
    )
    assert 0 < change < 0.01  # two steps of AdamW with a rate of 1e-3
    run('again', resume=True)
    set_scheduler(tmp_path / 'pretrained', beta_end=0.02)
    with pytest.raises(ValueError, match='pretrained: noise schedule'):
        run('other', resume=True)


def test_another_size_can_be_trained(folder):
    model = build(folder, dict(sample_size=32))
    data = model.data_preprocessor(batch(size=32), True)
    assert model(**data, mode='loss')['loss'].isfinite()
    assert model.sample(1, num_steps=2).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ('overrides', 'got'),
    [
        (dict(num_class_embeds=10), r'conditioned on classes \(10\)'),
        (dict(out_channels=6), 'in_channels 3 and out_channels 6 instead'),
        (
            dict(in_channels=4, out_channels=4),
            'in_channels 4 and out_channels 4 instead of 3, for RGB images',
        ),
    ],
)
def test_models_of_another_task_are_refused(tmp_path, overrides, got):
    save(tmp_path, **overrides)
    with pytest.raises(ValueError, match=f'{got}.*set model.teacher.pretrain'):
        build(tmp_path)


def test_models_of_texts_are_refused(tmp_path):
    sd.save(tmp_path)
    with pytest.raises(ValueError, match='got UNet2DConditionModel, which is'):
        build(tmp_path)


def test_models_of_another_prediction_are_refused(folder, tmp_path):
    set_scheduler(tmp_path, prediction_type='v_prediction')
    with pytest.raises(ValueError, match="one that predicts 'v_prediction'"):
        build(folder)


def test_only_schedulers_of_the_same_noise_replace_the_own(folder, tmp_path):
    same = dict(type='DDIMScheduler', **BETAS)
    assert type(build(folder, scheduler=same).scheduler).__name__ == (
        'DDIMScheduler'
    )
    for other in (
        dict(type='DDPMScheduler'),
        dict(same, num_train_timesteps=50),
        dict(same, prediction_type='v_prediction'),
    ):
        with pytest.raises(ValueError, match=r'leave model\.scheduler out'):
            build(folder, scheduler=other)
    next(tmp_path.rglob('scheduler_config.json')).unlink()
    with pytest.raises(OSError, match=r'got none; set model\.scheduler='):
        build(folder)
    model = build(folder, scheduler=same)
    assert model.scheduler.config.beta_end == 0.01


def test_the_architecture_is_that_of_the_files(folder):
    with pytest.raises(
        ValueError, match=r"got \['layers_per_block', 'type'\]; remove them"
    ):
        build(folder, dict(type='UNet2DModel', layers_per_block=1))


def test_weights_are_loaded_strictly(folder, tmp_path):
    file = next(tmp_path.rglob('*.safetensors'))
    weights = load_file(file)
    del weights['conv_in.weight']
    save_file(weights, file)
    with pytest.raises(ValueError, match=r"missing \['conv_in.weight'\]"):
        build(folder)


def test_a_missing_folder_is_named_with_its_setting(folder, tmp_path):
    with pytest.raises(OSError, match=r'set model\.denoiser\.pretrained to'):
        build(tmp_path / 'pretraned')
    with pytest.raises(OSError, match=r'set model\.denoiser\.pretrained to'):
        build(tmp_path)  # of which it is a sub-folder
