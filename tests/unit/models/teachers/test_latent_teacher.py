import copy
import json
import shutil

import diffusers
import pytest
import torch

from repfusion_mm.models import DiffusersTeacher
from tests.helpers.pipelines import latent_unet, sd
from tests.helpers.pipelines.parts import autoencoder, recorded, to_map
from tests.helpers.toy import AUTOENCODER, SCHEDULER, labeled_samples

DIT = dict(
    type='DiTTransformer2DModel',
    num_attention_heads=2,
    attention_head_dim=8,
    in_channels=4,
    out_channels=8,
    num_layers=2,
    sample_size=8,
    num_embeds_ada_norm=10,
)
TEXT_UNET = dict(
    type='UNet2DConditionModel',
    sample_size=8,
    block_out_channels=(8, 16),
    layers_per_block=1,
    down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D'),
    up_block_types=('CrossAttnUpBlock2D', 'UpBlock2D'),
    cross_attention_dim=16,
    norm_num_groups=4,
    attention_head_dim=4,
)
BLOCK = 'transformer_blocks.0'
IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
TIMESTEPS = torch.tensor([0, 10, 500, 999])


def build(layer=BLOCK, **arguments):
    torch.manual_seed(0)
    defaults = dict(config=DIT, vae=AUTOENCODER, dtype='float32')
    return DiffusersTeacher([layer], **{**defaults, **arguments})


def run(teacher, samples=None):
    torch.manual_seed(1)
    (feat,) = teacher(IMAGES, TIMESTEPS, samples).values()
    return feat


@torch.no_grad()
def reference(teacher, latents, classes):
    """Run the denoiser on x_0 or x_t."""
    with recorded(teacher.denoiser, [BLOCK]) as outputs:
        teacher.denoiser(latents, timestep=TIMESTEPS, class_labels=classes)
    return to_map(outputs[BLOCK], 4, 4)


@torch.no_grad()
def encode(teacher):
    vae = teacher.encoder.vae
    posterior = vae.encode(IMAGES * 2 - 1).latent_dist
    factor = vae.config.scaling_factor
    return posterior.mean * factor, posterior.std * factor


def noised(latents):
    schedule = diffusers.DDPMScheduler()
    noise = torch.randn(latents.shape)
    return schedule.add_noise(latents, noise, TIMESTEPS)


def test_null_class_label_and_random_class_of_a_transformer():
    teacher = build(early_stop=False, input_mode='clean')
    latents, _ = encode(teacher)
    null = torch.full((4,), 10)
    torch.testing.assert_close(run(teacher), reference(teacher, latents, null))
    labeled = build(early_stop=False, input_mode='clean', class_signal='label')
    labels = torch.tensor([3, 0, 9, 5])
    samples = labeled_samples(labels.tolist())
    torch.testing.assert_close(
        run(labeled, samples), reference(labeled, latents, labels)
    )
    drawn = build(early_stop=False, input_mode='clean', class_signal='random')
    got = run(drawn)
    torch.manual_seed(1)
    classes = torch.randint(10, (4,))
    torch.testing.assert_close(got, reference(drawn, latents, classes))


def test_latents_are_noised_by_default_and_may_be_sampled():
    null = torch.full((4,), 10)
    teacher = build(early_stop=False)
    got = run(teacher)
    mean, std = encode(teacher)
    torch.manual_seed(1)
    expected = reference(teacher, noised(mean), null)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)

    teacher = build(early_stop=False, posterior='sample')
    got = run(teacher)
    torch.manual_seed(1)
    latents = mean + std * torch.randn(mean.shape)
    expected = reference(teacher, noised(latents), null)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_features_are_averaged_over_noises():
    got = run(build(num_noises=3))
    single = build()
    torch.manual_seed(1)
    draws = [single(IMAGES, TIMESTEPS)[BLOCK] for _ in range(3)]
    torch.testing.assert_close(got, torch.stack(draws).mean(0))


def test_layers_of_the_same_output_are_averaged_alike():
    layers = ['mid_block.resnets.1', 'mid_block']
    teacher = DiffusersTeacher(
        layers, config=TEXT_UNET, vae=AUTOENCODER, num_noises=3,
        dtype='float32',
    )  # fmt: skip
    single = build('mid_block', config=TEXT_UNET, num_noises=3)
    single.load_state_dict(teacher.state_dict())
    torch.manual_seed(1)
    feats = teacher(IMAGES, TIMESTEPS)
    for layer in layers:
        torch.testing.assert_close(feats[layer], run(single))


def test_another_encoder_is_used(tmp_path):
    tiny = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        scaling_factor=0.7,
    ).eval()
    tiny.save_pretrained(tmp_path / 'tiny')
    sd.save(tmp_path / 'pipeline')
    (tmp_path / 'pipeline/vae').rename(tmp_path / 'unused')
    teacher = DiffusersTeacher(
        ['mid_block'],
        str(tmp_path / 'pipeline/unet'),
        vae=str(tmp_path / 'tiny'),
        prompt_file=str(tmp_path / 'prompt.safetensors'),
        dtype='float32',
    )
    with torch.no_grad():
        expected = tiny.encode(IMAGES * 2 - 1).latents * 0.7
    teacher.image_size = 16
    torch.testing.assert_close(teacher.encode(IMAGES), expected)


def test_fingerprint_names_the_encoder_and_the_text(tmp_path):
    config = dict(config=TEXT_UNET, layer='mid_block', input_mode='clean')
    teacher = build(**config)
    first = teacher.fingerprint()
    assert build(**config).fingerprint() == first
    with torch.no_grad():
        teacher.encoder.vae.quant_conv.bias.add_(1)
    second = teacher.fingerprint()
    assert first.pop('encoder') != second.pop('encoder')
    assert first == second
    teacher.condition.text['prompt_embeds'] += 1
    assert first.pop('condition') != teacher.fingerprint()['condition']
    with pytest.raises(ValueError, match=r"'clean' for cached.*cache latents"):
        build().fingerprint()


def test_teachers_are_built_on_the_meta_device(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sd.save('pipeline')
    with torch.device('meta'):
        teachers = [
            DiffusersTeacher(['mid_block'], 'pipeline'),
            build('mid_block', config=TEXT_UNET),
            build(),
        ]
        for teacher in teachers:
            size = teacher.image_size
            (feat,) = teacher(
                torch.zeros(1, 3, size, size), torch.zeros(1).long()
            ).values()
            assert feat.is_meta
            assert feat.shape[1:] == next(
                iter(teacher.feature_shapes.values())
            )
    assert not (tmp_path / 'work_dirs').exists()


def test_weights_stay_in_the_dtypes_of_denoiser_and_encoder():
    """Also after a cast to float16, with which the encoder overflows."""
    teacher = build(dtype='float16')
    assert teacher.denoiser.dtype == torch.float16
    assert teacher.encoder.vae.dtype == torch.float32
    teacher.half()
    assert teacher.encoder.vae.dtype == torch.float32
    teacher = build(dtype='bfloat16', vae_dtype='float32')
    assert teacher.denoiser.dtype == torch.bfloat16
    assert teacher.encoder.vae.dtype == torch.float32
    assert run(teacher).dtype == torch.float32


@pytest.mark.parametrize(
    'arguments',
    [
        dict(posterior='sample', class_signal='label', num_noises=2),
        dict(config=TEXT_UNET, layer='mid_block', input_mode='clean'),
    ],
)
def test_a_large_batch_is_split_into_passes(arguments):
    whole, split = build(**arguments), build(max_batch_size=3, **arguments)
    sizes = []
    for module in (split.encoder.vae.encoder, split.denoiser):
        module.register_forward_pre_hook(
            lambda _, args, kwargs: sizes.append(
                len([*args, *kwargs.values()][0])
            ),
            with_kwargs=True,
        )
    samples = labeled_samples([3, 1, 4, 1])
    expected = run(whole, samples)
    torch.testing.assert_close(run(split, samples), expected)
    assert sizes == [3, 1] * (1 + whole.num_noises)


@pytest.mark.slow
def test_compiled_features_are_close(fresh_compiler, log):
    eager, compiled = build(), build(compile=True)
    torch.testing.assert_close(run(compiled), run(eager), rtol=1e-3, atol=1e-4)
    assert 'compile failed' not in log.text


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(vae=None), 'no image encoder.*set model.teacher.vae'),
        (
            dict(vae={**AUTOENCODER, 'latent_channels': 3}),
            r'\(4 channels\), got one of 3 channels; correct model\.teacher',
        ),
        (dict(vae_dtype='float16'), "vae_dtype 'bfloat16' or 'float32'"),
        (dict(input_size=18), r'multiple of 4 .* got 18 x 18; set it to 16'),
        (dict(input_size=(18, 32)), r'got 18 x 32; set it to \(16, 32\)'),
        (dict(input_size=(16, 32)), 'a square model.teacher.input_size'),
        (dict(num_noises=0), 'num_noises'),
        (dict(max_batch_size=0), 'max_batch_size'),
        (dict(num_noises=2, input_mode='clean'), 'num_noises=1'),
        (dict(posterior='mode'), 'posterior to be one of'),
        (dict(prompt='a cat'), 'without text encoders'),
        (dict(config=TEXT_UNET, prompt='a cat'), 'without text encoders'),
        (
            dict(scheduler=dict(type='FlowMatchEulerDiscreteScheduler')),
            'of the DDPM family.*FlowMatchEulerDiscreteScheduler',
        ),
        (dict(layer=f'{BLOCK}.norm1.linear'), 'map of the image, got'),
        (
            dict(
                config=TEXT_UNET,
                layer='mid_block.attentions.0.transformer_blocks.0.attn2.to_k',
            ),
            r"got torch.Size\(\[1, 127, 16\]\); layers that do are \['mid_b",
        ),
        (
            dict(config={**TEXT_UNET, 'in_channels': 9}, layer='mid_block'),
            "conditioned on a text only.*'in_channels': '9, not 4'",
        ),
        (
            dict(
                config={
                    **TEXT_UNET,
                    'addition_embed_type': 'text_time',
                    'addition_time_embed_dim': 8,
                    'projection_class_embeddings_input_dim': 16 + 5 * 8,
                },
                layer='mid_block',
            ),
            r'an aesthetic score \(refiner\)',
        ),
        (
            dict(config=dict(type='Transformer2DModel', in_channels=4,
                             num_attention_heads=2, attention_head_dim=8,
                             norm_num_groups=4)),
            'got Transformer2DModel; choose another teacher, or register',
        ),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


@pytest.fixture
def pipeline(tmp_path):
    latent_unet.save(tmp_path / 'pipeline')
    return tmp_path / 'pipeline'


def edit(file, **values):
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **values}))


def open_pipeline(folder):
    return DiffusersTeacher(['mid_block'], str(folder))


def test_missing_encoder_of_a_pipeline_is_named(pipeline):
    shutil.rmtree(pipeline / 'vqvae')
    with pytest.raises(FileNotFoundError, match=r'vqvae.*download the folder'):
        open_pipeline(pipeline)
    edit(pipeline / 'model_index.json', vqvae=[None, None])
    with pytest.raises(ValueError, match=r'no image encoder .*model\.teacher'):
        open_pipeline(pipeline)


def test_what_is_not_an_encoder_is_refused_by_its_setting(pipeline):
    file = pipeline.parent / 'vae-ft.safetensors'
    file.touch()
    only_file, quantized = pipeline.parent / 'gguf', pipeline.parent / 'q'
    only_file.mkdir()
    (only_file / 'vae-Q4.gguf').touch()
    shutil.copytree(pipeline / 'vqvae', quantized)
    next(quantized.glob('*.safetensors')).rename(quantized / 'vae-Q4.gguf')
    name = r'model\.teacher\.vae'
    for place, error, message in (
        (only_file, OSError, rf'Q4\.gguf.*set {name} to the original'),
        (quantized, OSError, rf'Q4\.gguf.*set {name} to the original'),
        (file, OSError, rf'AutoencoderKL\.from_single_file.*{name}=FOLDER'),
        (pipeline / 'x', OSError, f'autoencoder.*no such folder.*set {name}'),
        (pipeline / 'unet', ValueError, f'got none; correct {name}'),
    ):
        with pytest.raises(error, match=message):
            DiffusersTeacher(['mid_block'], str(pipeline), vae=str(place))


@pytest.mark.parametrize('factor', [0.13025, None])
def test_encoder_of_other_latents_is_named(pipeline, tmp_path, log, factor):
    file = pipeline / 'vqvae/config.json'
    own = json.loads(file.read_text())['scaling_factor']
    shutil.copytree(pipeline / 'vqvae', tmp_path / 'other')
    edit(tmp_path / 'other/config.json', scaling_factor=factor or own)
    DiffusersTeacher(['mid_block'], str(pipeline), vae=str(tmp_path / 'other'))
    got = f"has {{'scaling_factor': {factor}}}, the autoencoder"
    assert (got in log.text) == (factor is not None)
    assert (f"has {{'scaling_factor': {own}}};" in log.text) == (
        factor is not None
    )


def test_encoder_of_other_channels_is_refused(pipeline):
    autoencoder(latent_channels=3).save_pretrained(pipeline / 'other')
    with pytest.raises(ValueError, match='got one of 3 channels'):
        DiffusersTeacher(
            ['mid_block'], str(pipeline), vae=str(pipeline / 'other')
        )


def test_an_encoder_without_weights_is_named(log):
    build()
    assert 'teacher: image encoder with RANDOM weights' in log.text


def test_an_average_of_weights_does_not_copy_the_encoder():
    encoder = build().encoder
    assert copy.deepcopy(encoder) is encoder


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({}, None),
        (dict(beta_end=0.012), r'beta_end=0.012 (there 0.02)'),
        (dict(num_train_timesteps=500), 'num_train_timesteps=500 (there 1000'),
    ],
)
def test_another_noise_schedule_than_that_of_the_training_is_logged(
    pipeline, log, changes, said
):
    own = diffusers.DDPMScheduler(beta_start=1e-4, beta_end=0.02)
    own.save_pretrained(pipeline / 'scheduler')
    scheduler = dict(SCHEDULER, **changes)
    DiffusersTeacher(['mid_block'], str(pipeline), scheduler=scheduler)
    assert ('another noise schedule than that of' in log.text) == bool(said)
    assert (said or '') in log.text


def test_scheduler_of_another_kind_is_refused(pipeline):
    diffusers.EDMEulerScheduler().save_pretrained(pipeline / 'scheduler')
    with pytest.raises(ValueError, match=r'DDPM family.*EDMEulerScheduler'):
        open_pipeline(pipeline)
    DiffusersTeacher(['mid_block'], str(pipeline), scheduler=SCHEDULER)


@pytest.mark.parametrize(
    ('file', 'changes', 'name'),
    [
        ('unet/config.json', dict(flip_sin_to_cos=False), 'denoiser config'),
        ('vqvae/config.json', dict(scaling_factor=0.5), 'vae config'),
        ('scheduler/scheduler_config.json', dict(beta_end=0.05),
         'noise schedule'),
    ],
)  # fmt: skip
def test_edited_files_of_a_teacher_are_noticed(tmp_path, file, changes, name):
    latent_unet.save(tmp_path, 'KL')

    def hashes():
        teacher = DiffusersTeacher(
            [latent_unet.LAYER], str(tmp_path), dtype='float32'
        )
        return teacher.frozen_hashes()

    before = hashes()
    edit(tmp_path / file, **changes)
    after = hashes()
    assert {k for k in before if before[k] != after[k]} == {name}
