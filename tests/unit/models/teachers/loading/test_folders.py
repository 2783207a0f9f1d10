"""Files of diffusers models are taken for what they say they are."""

import inspect
import json
import re
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from mmengine.logging import MMLogger
from safetensors.torch import load_file, save_file

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.loading.folders import (
    find_image_encoder,
    find_part,
)
from tests.helpers.toy import LAYER, save_teacher

FILE = 'diffusion_pytorch_model.safetensors'
IMAGES = torch.linspace(0, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
TIMESTEPS = torch.tensor([3, 900])


def features(folder):
    teacher = DiffusersTeacher([LAYER], str(folder), dtype='float32')
    assert {p.dtype for p in teacher.denoiser.parameters()} == {torch.float32}
    return teacher(IMAGES, TIMESTEPS)[LAYER]


@pytest.mark.parametrize(
    ('dtype', 'tolerance'),
    [(torch.float64, 0), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)],
)
def test_floating_weights_are_read_as_float32(dtype, tolerance, tmp_path):
    plain = Path(save_teacher(tmp_path / 'plain'))
    expected = features(plain)
    weights = {k: v.to(dtype) for k, v in load_file(plain / FILE).items()}
    save_file(weights, plain / FILE, metadata=dict(format='pt'))
    assert (features(plain) - expected).abs().max() <= tolerance


def integers(folder):
    weights = {k: (v * 99).char() for k, v in load_file(folder / FILE).items()}
    save_file(weights, folder / FILE, metadata=dict(format='pt'))


def two_variants(folder):
    for name in ('fp16', 'non_ema'):
        shutil.copy(folder / FILE, folder / FILE.replace('.', f'.{name}.'))
    (folder / FILE).unlink()


def no_weights(folder):
    (folder / FILE).rename(folder / 'model.ckpt')


def config(**changes):
    def change(folder):
        file = folder / 'config.json'
        file.write_text(
            json.dumps({**json.loads(file.read_text()), **changes})
        )

    return change


def model(cls, **arguments):
    def change(folder):
        (folder / FILE).unlink()
        getattr(diffusers, cls)(**arguments).save_pretrained(folder)

    return change


def index(text):
    return lambda folder: (folder / 'model_index.json').write_text(text)


def link_without_target(folder):
    (folder / 'config.json').unlink()
    (folder / 'config.json').symlink_to('../blobs/1f2e')


SMALL = dict(block_out_channels=(8,), norm_num_groups=4)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (integers, 'integers, quantized weights'),
        (two_variants, r"only the variants \['fp16', 'non_ema'\]"),
        (no_weights, r"got \['config.json', 'model.ckpt'"),
        (config(sample_size=None), 'sample_size .*, got None; set'),
        (config(_class_name=None), '_class_name in config.json'),
        (config(time_embedding_type='fourier'), 'given sigma'),
        (config(center_input_sample=True), 'center_input_sample=True'),
        (model('VQModel', **SMALL), 'expected a denoiser.*got VQModel, '),
        (model('AutoencoderKL', **SMALL), 'got AutoencoderKL, '),
        (link_without_target, 'config.json of .* download the folder again'),
        (index('{'), 'model_index.json of .*damaged'),
        (index('[]'), r'model_index.json of .*damaged file \(list\)'),
        (index('{"unet": ["my_library", "MyUNet"]}'),
         'got MyUNet in model_index.json of .* and UNet2DModel in config'),
    ],
)  # fmt: skip
def test_what_is_no_denoiser_of_pixels_is_refused(change, message, tmp_path):
    folder = Path(save_teacher(tmp_path / 'unet'))
    change(folder)
    if message == 'given sigma':  # such a model has one more weight
        weights = load_file(folder / FILE)
        weights['time_proj.weight'] = torch.zeros(8)
        weights['time_embedding.linear_1.weight'] = torch.zeros(32, 16)
        save_file(weights, folder / FILE, metadata=dict(format='pt'))
    with pytest.raises(ValueError, match=message) as error:
        DiffusersTeacher([LAYER], str(folder))
    # The settings that the message names are those of this class.
    named = re.findall(r'model\.teacher\.(\w+)', str(error.value))
    assert set(named) <= set(inspect.signature(DiffusersTeacher).parameters)


@pytest.mark.parametrize('pretrained', ['', 'model'])
@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(_class_name='DiTTransformer2DModel'),
         r"in_channels 4 and no image encoder in '.*/model'"),
        (dict(_class_name='AutoencoderKL'),
         'got AutoencoderKL, which'),
        (dict(_class_name='UNet2DModel', in_channels=1), 'in_channels 1 '),
        # DeepFloyd IF: of RGB images, but conditioned on a text.
        (dict(_class_name='UNet2DConditionModel', in_channels=3,
              out_channels=3),
         'in_channels 3 and no image encoder'),
    ],
)  # fmt: skip
def test_the_config_is_checked_before_other_files(
    config, message, pretrained, tmp_path
):
    (tmp_path / 'model').mkdir()
    (tmp_path / 'model' / 'config.json').write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        DiffusersTeacher([LAYER], str(tmp_path / pretrained))
    save_teacher(tmp_path / 'other')  # only this one is recommended
    if not pretrained:
        with pytest.raises(FileNotFoundError, match=r"to '\S*other'$"):
            DiffusersTeacher([LAYER], str(tmp_path))


def test_a_square_pair_is_a_side(tmp_path):
    folder = Path(save_teacher(tmp_path / 'teacher'))
    config(sample_size=[16, 16])(folder)
    assert DiffusersTeacher([LAYER], str(folder)).image_size == 16


def test_a_denoiser_over_other_timesteps_than_its_scheduler_is_refused(
    tmp_path,
):
    folder = save_teacher(
        tmp_path / 'teacher',
        time_embedding_type='learned',
        num_train_timesteps=50,
    )
    with pytest.raises(ValueError, match='got 50 in the denoiser and 1000'):
        DiffusersTeacher([LAYER], folder)
    schedule = dict(type='DDPMScheduler', num_train_timesteps=50)
    assert DiffusersTeacher([LAYER], folder, scheduler=schedule)


def test_a_missing_folder_is_not_taken_for_an_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    with pytest.raises(FileNotFoundError, match='no such folder'):
        DiffusersTeacher([LAYER], 'data/teacher')
    with pytest.raises(ConnectionError, match='if it is a folder, correct'):
        DiffusersTeacher([LAYER], 'nobody/teacher')
    monkeypatch.setenv('HOME', str(tmp_path))
    save_teacher(tmp_path / 'mine')
    assert DiffusersTeacher([LAYER], '~/mine')


def split(folder, unet):
    """Write a pipeline's folder whose denoiser is in ``unet``."""
    save_teacher(folder / unet)
    (folder / 'scheduler').mkdir()
    name = 'scheduler_config.json'
    schedule = dict(_class_name='DDPMScheduler', num_train_timesteps=50)
    (folder / unet / name).unlink()
    (folder / 'scheduler' / name).write_text(json.dumps(schedule))
    (folder / 'model_index.json').write_text('{}')


@pytest.mark.parametrize(
    'place', ['unet_ema', 'checkpoint-500/unet_ema', 'checkpoint-500/unet']
)
def test_a_part_of_a_pipeline_uses_the_schedule_of_the_pipeline(
    place, tmp_path
):
    split(tmp_path, place)
    teacher = DiffusersTeacher([LAYER], str(tmp_path / place))
    assert teacher.num_timesteps == 50


@pytest.mark.parametrize(
    ('place', 'parts'),
    [
        ('unet_ema', ['unet_ema']),
        ('checkpoint-500/unet_ema', ['checkpoint-500/unet_ema']),
        ('snapshots/1f2e', ['snapshots/1f2e']),
        ('snapshots/1f2e/unet', ['snapshots/1f2e']),
        ('a/b/c', []),
    ],
)
def test_sub_folders_with_a_denoiser_are_named(place, parts, tmp_path):
    save_teacher(tmp_path / place)
    if place.endswith('unet'):
        (tmp_path / place).with_name('model_index.json').write_text(
            '{"_class_name": "DDPMPipeline"}'
        )
    expected = [repr(str(tmp_path / part)) for part in parts]
    expected = expected or ['a folder that save_pretrained wrote']
    with pytest.raises(FileNotFoundError) as error:
        DiffusersTeacher([LAYER], str(tmp_path))
    assert str(error.value).endswith(f'pretrained to {expected[0]}')


@pytest.mark.parametrize('file', ['config.json', 'scheduler_config.json'])
def test_line_endings_of_windows_are_read(file, tmp_path):
    path = Path(save_teacher(tmp_path)) / file
    path.write_bytes(path.read_bytes().replace(b'\n', b'\r\n'))
    assert DiffusersTeacher([LAYER], str(tmp_path))
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    with pytest.raises(ValueError, match='without a byte order mark'):
        DiffusersTeacher([LAYER], str(tmp_path))


def two_denoisers(folder):
    for name in ('unet', 'unet_ema'):
        save_teacher(folder / name)
    (folder / 'config.json').unlink()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (two_denoisers, r"not used are \['.*/unet_ema'\], of the same"),
        (config(new_setting=1), r"ignores \['new_setting'\]"),
    ],
)
def test_what_cannot_be_checked_is_logged(change, message, tmp_path, caplog):
    change(Path(save_teacher(tmp_path)))
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    DiffusersTeacher([LAYER], str(tmp_path))
    logger.removeHandler(caplog.handler)
    assert re.search(message, caplog.text)


def cached(monkeypatch, tmp_path, **options):
    """Write a model into the hub's cache, and stay offline."""
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', tmp_path)
    base = tmp_path / 'models--me--teacher'
    folder = base / 'snapshots' / ('a' * 40)
    plain = save_teacher(tmp_path / 'plain')
    shutil.copytree(plain, folder)
    (base / 'refs').mkdir()
    (base / 'refs' / 'main').write_text('a' * 40)
    (folder / FILE).unlink()
    diffusers.UNet2DModel.from_pretrained(plain).save_pretrained(
        folder, **options
    )
    return folder


@pytest.mark.parametrize(
    'options', [dict(), dict(variant='fp16'), dict(max_shard_size='20KB')]
)
def test_every_layout_is_read_from_the_cache(options, tmp_path, monkeypatch):
    cached(monkeypatch, tmp_path, **options)
    expected = features(tmp_path / 'plain')
    assert torch.equal(features('me/teacher'), expected)


def test_integers_in_the_cache_are_refused(tmp_path, monkeypatch):
    integers(cached(monkeypatch, tmp_path))
    with pytest.raises(ValueError, match='integers, quantized weights'):
        features('me/teacher')


def test_the_scheduler_of_a_score_model_is_named(tmp_path):
    """Before the denoiser: the advice is another teacher in both cases."""
    given = diffusers.UNet2DModel.load_config(save_teacher(tmp_path / 'ddpm'))
    given = dict(given, time_embedding_type='fourier')
    folder = tmp_path / 'score'
    diffusers.UNet2DModel.from_config(given).save_pretrained(folder)
    diffusers.ScoreSdeVeScheduler().save_pretrained(folder)
    with pytest.raises(ValueError, match='got ScoreSdeVeScheduler'):
        DiffusersTeacher([LAYER], str(folder))


def write_parts(folder, index=None, **parts):
    """Write ``config.json`` of parts, and ``model_index.json``."""
    for name, value in parts.items():
        path = folder / name.replace('root', '') / 'config.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    if index is not None:
        (folder / 'model_index.json').write_text(json.dumps(index))


def named(name, **config):
    return dict(_class_name=name, **config)


OLD = named('Transformer2DModel', norm_type='ada_norm_zero')


@pytest.mark.parametrize(
    ('parts', 'name', 'cls'),
    [
        (dict(unet=named('UNet2DConditionModel'), vae=named('AutoencoderKL')),
         'unet', 'UNet2DConditionModel'),
        (dict(transformer=named('FluxTransformer2DModel')),
         'transformer', 'FluxTransformer2DModel'),
        (dict(root=named('UNet2DModel'), vae=named('AutoencoderKL')),
         '', 'UNet2DModel'),
        # facebook/DiT-XL-2-256 and PixArt-alpha name a class of 2023.
        (dict(transformer=OLD), 'transformer', 'DiTTransformer2DModel'),
        (dict(transformer=dict(OLD, norm_type='ada_norm_single')),
         'transformer', 'PixArtTransformer2DModel'),
    ],
)  # fmt: skip
def test_the_denoiser_of_a_pipeline_is_found(parts, name, cls, tmp_path):
    index = {
        key: ['diffusers', value['_class_name']]
        for key, value in parts.items()
        if key != 'root'
    }
    write_parts(tmp_path, index, **parts)
    part = find_part(tmp_path)
    assert (part.name, part.folder) == (name, tmp_path / name)
    assert part.cls is getattr(diffusers, cls)
    assert part.config['_class_name'] == parts[name or 'root']['_class_name']


VAE = named('AutoencoderKL', latent_channels=4)


@pytest.mark.parametrize('place', ['', 'unet', 'unet_ema', 'last/unet_ema'])
def test_the_autoencoder_of_a_pipeline_is_found(place, tmp_path):
    parts = {'unet': named('UNet2DConditionModel'), 'vae': VAE}
    index = dict(unet=['diffusers', 'UNet2DConditionModel'])
    write_parts(tmp_path, index, **parts)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    part = find_image_encoder(tmp_path / place)
    assert part.cls is diffusers.AutoencoderKL
    assert (part.name, part.config) == ('vae', VAE)
    assert part.folder.samefile(tmp_path / 'vae')
    itself = find_image_encoder(tmp_path / 'vae')
    assert itself.cls is diffusers.AutoencoderKL
    assert itself.folder.samefile(tmp_path / 'vae')


def test_a_denoiser_of_pixels_has_no_autoencoder(tmp_path):
    assert find_image_encoder(Path(save_teacher(tmp_path))) is None
    write_parts(tmp_path / 'pipeline', {}, unet=named('UNet2DModel'))
    assert find_image_encoder(tmp_path / 'pipeline') is None


def test_an_autoencoder_that_is_missing_is_named(tmp_path):
    index = dict(vae=['diffusers', 'AutoencoderKL'])
    write_parts(tmp_path, index, unet=named('UNet2DConditionModel'))
    with pytest.raises(FileNotFoundError, match=r'/vae.*\(AutoencoderKL\)'):
        find_image_encoder(tmp_path)
    index = dict(vae=['diffusers', 'AutoencoderTiny'])
    write_parts(tmp_path, index, vae=VAE)
    with pytest.raises(ValueError, match="'vae', got AutoencoderTiny in"):
        find_image_encoder(tmp_path)
