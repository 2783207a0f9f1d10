"""The family in docs/teachers.md teaches, as a module of another project."""

import re
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.utils import import_modules_from_strings

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.registry import DENOISER_FAMILIES
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.pipelines.parts import (
    autoencoder,
    recorded,
    t5_tokenizer,
    to_map,
)

NAME = 'AuraFlowTransformer2DModel'
LAYERS = [
    'pos_embed.proj',
    'joint_transformer_blocks.1',
    'single_transformer_blocks.0',
]
CONFIG = """
_base_ = ['{root}/tests/helpers/distillation_config.py']
custom_imports = dict({imports})
model = dict(
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher', pretrained='pipeline',
        layers=['single_transformer_blocks.0'],
    ),
    policy=dict(type='repfusion_mm.UniformTimestepPolicy'),
)
optim_wrapper = dict(policy=None, decoder=None)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        type='repfusion_mm.ImageFolderDataset', data_root='images',
        with_label=False,
        pipeline=[
            dict(type='repfusion_mm.LoadImage'),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A module, a pipeline, a config and images in the working directory."""
    page = (ROOT / 'docs/teachers.md').read_text()
    section = page.split('\n## Add a family\n')[1]
    module, config = re.findall(r'```python\n(.*?)```', section, re.DOTALL)[:2]
    (tmp_path / 'my_families.py').write_text(module)
    imports = re.search(r'imports=\[.*?\]', config)[0]
    text = CONFIG.format(root=ROOT, imports=imports)
    (tmp_path / 'config.py').write_text(text)
    save(tmp_path / 'pipeline')
    (tmp_path / 'images').mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'images/{i}.png'), pixels)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    DENOISER_FAMILIES.module_dict.pop(NAME, None)
    sys.modules.pop('my_families', None)


def save(folder):
    from diffusers import (
        AuraFlowPipeline,
        AuraFlowTransformer2DModel,
        FlowMatchEulerDiscreteScheduler,
    )
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    text = UMT5Config(
        vocab_size=32, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    )
    transformer = AuraFlowTransformer2DModel(
        sample_size=16,
        num_mmdit_layers=2,
        num_single_dit_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pos_embed_max_size=64,
    ).eval()
    AuraFlowPipeline(
        t5_tokenizer(256),
        UMT5EncoderModel(text).eval(),
        autoencoder(scaling_factor=0.13025),
        transformer,
        FlowMatchEulerDiscreteScheduler(shift=1.73),
    ).save_pretrained(folder)


def reference(folder, images, t, noise):
    from diffusers import AuraFlowPipeline

    pipeline = AuraFlowPipeline.from_pretrained(
        folder, low_cpu_mem_usage=False
    )
    with recorded(pipeline.transformer, LAYERS) as outputs:
        embeds, *_ = pipeline.encode_prompt('', device='cpu')
        latents = pipeline.vae.encode(images * 2 - 1).latent_dist.mode()
        latents = latents * pipeline.vae.config.scaling_factor
        sigma = t / 1000
        pipeline.transformer(
            (1 - sigma) * latents + sigma * noise,
            encoder_hidden_states=embeds.expand(len(images), -1, -1),
            timestep=torch.tensor([sigma]).expand(len(images)),
        )
    # 256 tokens of the text and 8 registers precede those of the image.
    tokens = (
        outputs[LAYERS[0]],
        outputs[LAYERS[1]][1],
        outputs[LAYERS[2]][:, 256 + 8 :],
    )
    return [to_map(each, 8, 8) for each in tokens]


@pytest.mark.slow
def test_the_example_of_the_docs_distills(project):
    done = run_main('tools/train.py', project / 'config.py')
    losses = re.findall(r'loss_distill: (\S+)', done.output)
    assert len(losses) == 2


def test_the_example_of_the_docs_gives_the_features_of_the_pipeline(project):
    import_modules_from_strings(['my_families'])
    teacher = DiffusersTeacher(LAYERS, 'pipeline', dtype='float32')
    images = torch.rand(2, 3, 32, 32)
    torch.manual_seed(0)
    ours = teacher(images, torch.tensor([261, 261]))
    torch.manual_seed(0)
    noise = torch.randn(teacher.encode(images).shape)
    theirs = reference('pipeline', images, 261, noise)
    for name, expected in zip(LAYERS, theirs):
        error = (ours[name] - expected).norm() / expected.norm()
        assert error < 1e-5, name


def test_a_size_that_the_denoiser_does_not_run_on_is_refused(project):
    import_modules_from_strings(['my_families'])
    with pytest.raises(ValueError, match=r'at most 32.*got 32 x 48'):
        DiffusersTeacher(LAYERS, 'pipeline', input_size=(32, 48))


def test_an_unknown_class_is_refused_before_training(project):
    config = project / 'config.py'
    config.write_text(config.read_text().replace(", 'my_families'", ''))
    done = run_main('tools/train.py', config, expect=1)
    assert f'got {NAME}' in done.last_line
    assert "'FluxTransformer2DModel'" in done.last_line
    assert 'docs/teachers.md' in done.last_line


def test_a_name_is_registered_once_unless_forced(project):
    import_modules_from_strings(['my_families'])
    family = DENOISER_FAMILIES.get(f'repfusion_mm.{NAME}')
    assert family is DENOISER_FAMILIES.get(NAME)
    assert family.__name__ == 'AuraFlowFamily'
    other = type('Other', (family,), {})
    with pytest.raises(KeyError, match='already registered'):
        DENOISER_FAMILIES.register_module(NAME, module=other)
    DENOISER_FAMILIES.register_module(NAME, force=True, module=other)
    assert DENOISER_FAMILIES.get(NAME) is other
