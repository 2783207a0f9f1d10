"""Files of diffusers models are taken for what they say they are."""

import json
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from repfusion_mm.models import DiffusersTeacher
from tests.helpers.toy import LAYER, save_teacher

FILE = 'diffusion_pytorch_model.safetensors'
IMAGES = torch.linspace(0, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
TIMESTEPS = torch.tensor([3, 900])


def features(folder):
    teacher = DiffusersTeacher([LAYER], str(folder), dtype='float32')
    assert {p.dtype for p in teacher.denoiser.parameters()} == {torch.float32}
    return teacher(IMAGES, TIMESTEPS)[LAYER]


@pytest.mark.parametrize('variant', [None, 'fp16', 'non_ema'])
@pytest.mark.parametrize('safe', [True, False])
@pytest.mark.parametrize('size', ['10GB', '20KB'])
def test_every_layout_of_the_weights_is_read(variant, safe, size, tmp_path):
    plain = save_teacher(tmp_path / 'plain')
    folder = tmp_path / 'other'
    shutil.copytree(plain, folder)
    (folder / FILE).unlink()
    diffusers.UNet2DModel.from_pretrained(plain).save_pretrained(
        folder, variant=variant, safe_serialization=safe, max_shard_size=size
    )
    assert not (folder / FILE).exists() or (variant, safe) == (None, True)
    assert torch.equal(features(folder), features(plain))


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


def part_of_latents(folder):
    index = dict(
        _class_name='LDMPipeline',
        unet=['diffusers', 'UNet2DModel'],
        vqvae=['diffusers', 'VQModel'],
    )
    (folder / 'model_index.json').write_text(json.dumps(index))


SMALL = dict(block_out_channels=(8,), norm_num_groups=4)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (integers, 'integers, quantized weights'),
        (two_variants, r"only the variants \['fp16', 'non_ema'\]"),
        (no_weights, r"got \['config.json', 'model.ckpt'"),
        (config(sample_size=[16, 32]), r'sample_size \[16, 32\]'),
        (config(sample_size=None), 'sample_size None'),
        (config(_class_name=None), '_class_name in config.json'),
        (config(time_embedding_type='fourier'), 'given sigma'),
        (config(center_input_sample=True), 'center_input_sample=True'),
        (model('VQModel', **SMALL), 'got VQModel, whose forward'),
        (model('AutoencoderKL', **SMALL), 'got AutoencoderKL, whose forward'),
        (part_of_latents, r'LDMPipeline .* its vqvae \(VQModel\)'),
    ],
)
def test_what_is_no_denoiser_of_pixels_is_refused(change, message, tmp_path):
    folder = Path(save_teacher(tmp_path / 'teacher'))
    change(folder)
    if message == 'given sigma':  # such a model has one more weight
        weights = load_file(folder / FILE)
        weights['time_proj.weight'] = torch.zeros(8)
        weights['time_embedding.linear_1.weight'] = torch.zeros(32, 16)
        save_file(weights, folder / FILE, metadata=dict(format='pt'))
    with pytest.raises(ValueError, match=message):
        DiffusersTeacher([LAYER], str(folder))


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
    with pytest.raises(ConnectionError, match='If it is a folder, correct'):
        DiffusersTeacher([LAYER], 'nobody/teacher')
    monkeypatch.setenv('HOME', str(tmp_path))
    save_teacher(tmp_path / 'mine')
    assert DiffusersTeacher([LAYER], '~/mine')
