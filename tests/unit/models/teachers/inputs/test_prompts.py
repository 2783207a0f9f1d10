import gc
import json
import shutil
import sys
import weakref
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.inputs import prompts
from tests.helpers.pipelines import latent_unet, pixart, sd, sdxl
from tests.helpers.ranks import run_on_ranks

IMAGES = torch.rand(1, 3, 32, 32)


@pytest.fixture(scope='module')
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp('template')
    sd.save(folder)
    return folder


@pytest.fixture
def folder(template, tmp_path, monkeypatch):
    """A pipeline of Stable Diffusion, in the working directory."""
    monkeypatch.chdir(tmp_path)
    return str(shutil.copytree(template, tmp_path / 'pipeline'))


def build(folder, **arguments):
    return DiffusersTeacher(
        ['mid_block'], folder, dtype='float32', **arguments
    )


def features(teacher):
    torch.manual_seed(0)
    return teacher(IMAGES, torch.tensor([100]))['mid_block']


def test_text_is_encoded_once_and_then_read_without_transformers(
    folder, tmp_path, monkeypatch
):
    encoders = []
    encode = diffusers.StableDiffusionPipeline.encode_prompt

    def spy(self, *args, **kwargs):
        encoders.append(weakref.ref(self.text_encoder))
        assert not torch.is_grad_enabled()
        assert self.text_encoder.dtype == torch.float32
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(
        diffusers.StableDiffusionPipeline, 'encode_prompt', spy
    )
    first = build(folder)
    gc.collect()
    assert [encoder() for encoder in encoders] == [None]
    (file,) = (tmp_path / 'work_dirs/prompts').iterdir()
    assert file.name.startswith('pipeline-')
    assert load_file(file)['prompt_embeds'].shape == (1, 77, 32)

    monkeypatch.setitem(sys.modules, 'transformers', None)
    for part in ('text_encoder', 'tokenizer'):
        shutil.rmtree(tmp_path / 'pipeline' / part)
    again = build(folder)
    assert len(encoders) == 1
    assert torch.equal(features(first), features(again))
    # A file that the user names, for the pipeline in another folder.
    moved = shutil.move(folder, tmp_path / 'moved')
    named = build(str(moved), prompt_file=str(file))
    assert torch.equal(features(first), features(named))


def test_prompt_conditions_all_images(folder):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        folder, low_cpu_mem_usage=False
    )
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt('a cat', 'cpu', 1, False)
    teacher = build(folder, prompt='a cat')
    torch.testing.assert_close(
        teacher.condition.text['prompt_embeds'], expected
    )
    assert not torch.allclose(features(teacher), features(build(folder)))


def test_prompt_of_sdxl_is_encoded_although_no_prompt_is_zeros(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    sdxl.save('xl')
    blank = build('xl')
    assert not (tmp_path / 'work_dirs').exists()
    assert not any(v.any() for v in blank.condition.text.values())
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(
        'xl', low_cpu_mem_usage=False, add_watermarker=False
    )
    with torch.no_grad():
        expected = pipeline.encode_prompt(
            'a cat', device='cpu', do_classifier_free_guidance=False
        )
    ours = build('xl', prompt='a cat').condition.text
    torch.testing.assert_close(ours['prompt_embeds'], expected[0])
    torch.testing.assert_close(ours['pooled_prompt_embeds'], expected[2])
    with pytest.raises(ValueError, match=r'prompt_file=None.*zeros'):
        build('xl', prompt_file='file.safetensors')


def test_padding_of_t5_is_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixart.save('pixart')
    for prompt, count in ((None, 1), ('cat', 5)):
        teacher = DiffusersTeacher([pixart.LAYER], 'pixart', prompt=prompt)
        assert teacher.condition.text['prompt_embeds'].shape[1] == count


def test_prompt_of_another_text_or_denoiser_is_refused(folder, tmp_path):
    file = str(tmp_path / 'prompt.safetensors')
    build(folder, prompt='a cat', prompt_file=file)
    with pytest.raises(ValueError, match="text, 'a dog', got 'a cat'"):
        build(folder, prompt='a dog', prompt_file=file)
    with pytest.raises(ValueError, match="text, '', got 'a cat'"):
        build(folder, prompt_file=file)
    config = tmp_path / 'pipeline/unet/config.json'
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, 'flip_sin_to_cos': False}))
    with pytest.raises(ValueError, match='for this denoiser'):
        build(folder, prompt='a cat', prompt_file=file)


def test_prompt_of_another_text_encoder_is_not_used(folder, tmp_path):
    named = dict(prompt_file=str(tmp_path / 'prompt.safetensors'))
    before = build(folder)
    build(folder, **named)
    build(f'{folder}/unet', **named)  # the same pipeline
    vocabulary = sorted((tmp_path / 'pipeline/tokenizer').glob('*.json'))[0]
    content = vocabulary.read_text()
    vocabulary.write_text(content + ' ')
    refused = r'text encoder .* delete this one to regenerate it'
    with pytest.raises(ValueError, match=refused):
        build(folder, **named)
    vocabulary.write_text(content)
    file = tmp_path / 'pipeline/text_encoder/model.safetensors'
    weights = {name: value * 2 for name, value in load_file(file).items()}
    save_file(weights, file, metadata=dict(format='pt'))
    with pytest.raises(ValueError, match=refused):
        build(folder, **named)
    assert not torch.equal(features(before), features(build(folder)))
    # Without text encoders it is unknown which file is theirs.
    file.unlink()
    build(folder, **named)
    with pytest.raises(ValueError, match='prompt_file to one of them'):
        build(folder)


def test_damaged_prompt_is_refused(folder, tmp_path):
    file = tmp_path / 'prompt.safetensors'
    file.write_bytes(b'nothing')
    with pytest.raises(ValueError, match='delete it to regenerate it'):
        build(folder, prompt_file=str(file))
    save_file({'x': torch.zeros(1)}, file)  # of something else
    with pytest.raises(ValueError, match='for this denoiser'):
        build(folder, prompt_file=str(file))


def test_missing_transformers_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(ImportError, match='pip install transformers, or set'):
        build(folder)


@pytest.mark.parametrize('part', ['text_encoder', 'tokenizer'])
def test_missing_text_encoder_is_named(folder, tmp_path, part):
    shutil.rmtree(tmp_path / 'pipeline' / part)
    with pytest.raises(FileNotFoundError, match=rf"\['{part}'\].*prompt_file"):
        build(folder)


def test_missing_weights_of_a_text_encoder_are_named(folder, tmp_path):
    (tmp_path / 'pipeline/text_encoder/model.safetensors').unlink()
    with pytest.raises(OSError, match=r'text_encoder.*prompt_file'):
        build(folder)


def test_damaged_text_encoder_is_named(folder, tmp_path):
    with (tmp_path / 'pipeline/text_encoder/model.safetensors').open(
        'r+'
    ) as f:
        f.truncate(6000)
    with pytest.raises(
        OSError, match=r'text_encoder.*download the folder again'
    ):
        build(folder)


def test_file_of_a_prompt_that_cannot_be_written_is_named(folder, tmp_path):
    for file in (tmp_path, '/proc/none/cat.safetensors'):
        with pytest.raises(OSError, match=r'set model\.teacher\.prompt_file'):
            build(folder, prompt_file=str(file))


def test_other_users_can_read_an_encoded_prompt(folder, tmp_path):
    file, other = tmp_path / 'prompt.safetensors', tmp_path / 'other'
    build(folder, prompt_file=str(file))
    other.touch()
    assert file.stat().st_mode == other.stat().st_mode


def test_text_encoder_of_another_library_is_refused(folder, tmp_path):
    index = tmp_path / 'pipeline/model_index.json'
    content = json.loads(index.read_text())
    content['text_encoder'] = ['custom', 'MyTextModel']
    index.write_text(json.dumps(content))
    (tmp_path / 'pipeline/custom.py').write_text('raise SystemExit')
    with pytest.raises(ValueError, match=r"\['custom', 'MyTextModel'\]"):
        build(folder)


def test_large_text_encoders_run_in_bfloat16(folder, monkeypatch):
    monkeypatch.setattr(prompts, 'BF16_THRESHOLD_BYTES', 10)
    condition = build(folder).condition.text['prompt_embeds']
    assert torch.equal(condition, condition.bfloat16().float())


def test_prompts_without_effect_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    latent_unet.save('latent')
    with pytest.raises(ValueError, match='without text encoders'):
        build('latent', prompt='a cat')
    with pytest.raises(ValueError, match='one text for all images'):
        build('latent', prompt=['a', 'cat'])


def test_one_rank_encodes_for_all(folder, tmp_path):
    def run(rank):
        teacher = build(folder)
        return features(teacher).sum().item()

    first, second = run_on_ranks(run)
    assert first == second
    assert len([*(tmp_path / 'work_dirs/prompts').iterdir()]) == 1


def test_a_prompt_that_is_cut_off_is_a_warning(folder, log):
    build(folder, prompt='a cat')
    assert 'truncated' not in log.text
    build(folder, prompt='a very small cat ' * 60)
    ours = [r for r in log.records if r.name == 'mmengine']
    (record,) = [r for r in ours if 'truncated' in r.getMessage()]
    assert record.levelname == 'WARNING'


def test_text_encoders_that_the_index_does_not_name_are_missing(folder):
    file = Path(folder, 'model_index.json')
    index = json.loads(file.read_text())
    file.write_text(json.dumps(dict(index, text_encoder=[None, None])))
    with pytest.raises(FileNotFoundError, match='with text encoders'):
        build(folder)
