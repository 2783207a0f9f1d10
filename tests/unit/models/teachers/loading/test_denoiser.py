"""A teacher is loaded strictly."""

import json
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.loading.scheduler import load_scheduler
from tests.helpers.toy import LAYER, SCHEDULER, save_teacher

IMAGES = torch.linspace(0, 1, 4 * 3 * 16 * 16).reshape(4, 3, 16, 16)
TIMESTEPS = torch.tensor([0, 10, 500, 999])


def test_weights_in_the_subfolder_of_a_pipeline_are_found(tmp_path):
    save_teacher(tmp_path / 'plain')
    pipeline = diffusers.DDPMPipeline(
        diffusers.UNet2DModel.from_pretrained(tmp_path / 'plain'),
        diffusers.DDPMScheduler(num_train_timesteps=50),
    )
    pipeline.save_pretrained(tmp_path / 'pipeline')
    plain = DiffusersTeacher([LAYER], str(tmp_path / 'plain'))
    nested = DiffusersTeacher([LAYER], str(tmp_path / 'pipeline'))
    steps = torch.tensor([0, 1, 2, 49])
    assert nested.num_timesteps == 50
    assert torch.equal(
        nested(IMAGES, steps)[LAYER], plain(IMAGES, steps)[LAYER]
    )


def test_incomplete_weights_are_refused(tmp_path):
    folder = Path(save_teacher(tmp_path / 'damaged'))
    file = folder / 'diffusion_pytorch_model.safetensors'
    weights = load_file(file)
    weights.pop('conv_in.weight')
    save_file(weights, file, metadata=dict(format='pt'))
    with pytest.raises(ValueError, match=r'conv_in\.weight'):
        DiffusersTeacher([LAYER], str(folder))


def test_damaged_weights_are_refused(tmp_path):
    folder = Path(save_teacher(tmp_path / 'damaged'))
    file = folder / 'diffusion_pytorch_model.safetensors'
    weights = load_file(file)
    weights['conv_in.weight'][0] = float('nan')
    save_file(weights, file, metadata=dict(format='pt'))
    with pytest.raises(ValueError, match=r"Inf in .'conv_in\.weight'"):
        DiffusersTeacher([LAYER], str(folder))


def test_a_missing_scheduler_is_refused(tmp_path):
    folder = Path(save_teacher(tmp_path / 'bare'))
    (folder / 'scheduler_config.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'beta_start=.*0\.00085 and'):
        DiffusersTeacher([LAYER], str(folder))
    with pytest.raises(FileNotFoundError, match=r"dict\(type='FlowMatchEu"):
        load_scheduler(str(folder), flow_matching=True)
    teacher = DiffusersTeacher(
        [LAYER], str(folder), scheduler={**SCHEDULER, 'num_train_timesteps': 7}
    )
    assert teacher.num_timesteps == 7


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('config.json', '{'),
        ('config.json', '[]'),
        ('scheduler_config.json', '{'),
        (
            'scheduler_config.json',
            '{"_class_name": "DDIMScheduler", "num_train_timesteps": "x"}',
        ),
    ],
)
def test_damaged_configs_are_named(tmp_path, name, text):
    folder = Path(save_teacher(tmp_path / 'damaged'))
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=f'{name} of .*damaged.* download'):
        DiffusersTeacher([LAYER], str(folder))


def test_missing_folder_is_named(tmp_path):
    missing = str(tmp_path / 'a' / 'teacher')
    with pytest.raises(FileNotFoundError, match='no such folder'):
        DiffusersTeacher([LAYER], missing)
    tmp_path.joinpath('README').write_text(json.dumps({}))
    with pytest.raises(FileNotFoundError, match='got a file'):
        DiffusersTeacher([LAYER], str(tmp_path / 'README'))
    with pytest.raises(FileNotFoundError, match=r'config\.json'):
        DiffusersTeacher([LAYER], str(tmp_path))


@pytest.mark.parametrize(
    'name', ['config.json', 'diffusion_pytorch_model.safetensors']
)
def test_the_folder_of_a_file_is_named(name, tmp_path, monkeypatch):
    save_teacher(tmp_path / 'teacher')
    monkeypatch.chdir(tmp_path)  # the path has the form of a hub id
    with pytest.raises(FileNotFoundError, match="its folder, 'teacher'"):
        DiffusersTeacher([LAYER], f'teacher/{name}')


SD = r'StableDiffusionPipeline\.from_single_file'


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('sd15.safetensors', '{"unet.a":', SD),
        ('sd15.ckpt', '', SD),
        ('pytorch_lora_weights.safetensors', '', 'load_lora_weights.*fuse'),
        ('style.safetensors', '{"lora_unet_a.alpha":', 'load_lora_weights'),
        ('unet/flux-Q4.gguf', '', 'quantized.*the original weights'),
    ],
)
def test_a_single_file_is_explained(name, text, message, tmp_path):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    for place in (file, tmp_path):
        with pytest.raises(FileNotFoundError, match=message):
            DiffusersTeacher([LAYER], str(place))


def test_quantized_weights_in_the_folder_of_a_model_are_named(tmp_path):
    folder = Path(save_teacher(tmp_path))
    weights = next(folder.glob('*.safetensors'))
    weights.rename(folder / 'q4.gguf')
    with pytest.raises(FileNotFoundError, match='the original weights'):
        DiffusersTeacher([LAYER], str(folder))


def test_other_parts_of_a_pipeline_are_named(tmp_path):
    file = tmp_path / 'config.json'
    for config, message in (
        (dict(_class_name='AutoencoderKL'), "AutoencoderKL, .* pipeline's"),
        (dict(_class_name='ControlNetModel'), 'ControlNetModel, .* pipeline'),
        (dict(architectures=['CLIPTextModel']), 'another library.*CLIPText'),
    ):
        file.write_text(json.dumps(config))
        with pytest.raises(ValueError, match=message):
            DiffusersTeacher([LAYER], str(tmp_path))


def test_unreachable_hub_error_names_the_id_and_the_remedy(monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    with pytest.raises(ConnectionError) as error:
        DiffusersTeacher([LAYER], 'repfusion-mm/not-on-this-disk')
    assert str(error.value).endswith(
        'run "hf download repfusion-mm/not-on-this-disk --local-dir TEACHER" '
        'on a machine with a network, copy the folder TEACHER to this '
        'machine, and add --cfg-options model.teacher.pretrained=TEACHER'
    )
