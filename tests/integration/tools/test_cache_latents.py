"""Write latents, and distill from them with a learned policy."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from repfusion_mm.cli.train import build_runner
from repfusion_mm.engine.feature_cache.checks import prepare_teacher_inputs
from repfusion_mm.registry import DATASETS, MODELS
from tests.helpers.cached import LOAD, PACK
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.pipelines import dit
from tests.helpers.toy import save_teacher

pytestmark = pytest.mark.slow
CONFIG = """
_base_ = ['{root}/tests/helpers/distillation_config.py']
model = dict(
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher', pretrained='pipeline',
        layers=['{layer}'], dtype='float32', posterior='sample',
    ),
    policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
    decoder=dict(type='repfusion_mm.ClsDecoder', num_classes=2),
)
train_dataloader = dict(
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                type='mmpretrain.CustomDataset', data_root='images',
                pipeline={pipeline},
            )
        ],
    ),
)
"""
FLIP = dict(type='mmpretrain.RandomFlip', prob=0.5)


@pytest.fixture(scope='module')
def job(tmp_path_factory):
    """Labeled images, a latent teacher, and the output of writing a cache."""
    import cv2

    folder = tmp_path_factory.mktemp('job')
    rng = np.random.default_rng(0)
    for i in range(4):
        path = folder / 'images' / 'ab'[i % 2] / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (dit.SIDE, dit.SIDE, 3), dtype=np.uint8)
        cv2.imwrite(str(path), image)
    dit.save(folder / 'pipeline')
    text = CONFIG.format(
        root=ROOT, layer=dit.LAYER, pipeline=[LOAD, FLIP, PACK]
    )
    (folder / 'mine.py').write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        output = run_main(
            'tools/cache_features.py', 'mine.py', '--latents', '--views', 2
        ).output
    return folder, output


@pytest.fixture
def config(job, monkeypatch):
    monkeypatch.chdir(job[0])
    return 'work_dirs/latents/mine_latents.py'


def test_the_size_and_the_share_are_printed_first(job):
    folder, output = job
    size = '8 rows (4 images, 2 views), float16 of mean (4, 16, 16), std (4,'
    assert output.index('which cached latents save') < output.index(size)
    assert output.index(size) < output.index('] 0/8')
    assert 'tools/train.py work_dirs/latents/mine_latents.py' in output
    cache = folder / 'work_dirs/latents/mine/0'
    assert np.load(cache / 'std.npy', mmap_mode='r').shape == (8, 4, 16, 16)
    assert json.loads((cache / 'cache.json').read_text())['num_views'] == 2


def test_the_config_has_no_variables_that_nothing_reads(config):
    cfg = Config.fromfile(config)
    assert 'model' in cfg
    assert 'work_dir' not in cfg
    assert not {'images', 'data_preprocessor', 'max_epochs'} & set(cfg)


def test_features_of_cached_latents_are_live_ones(config):
    cfg = Config.fromfile(config)
    model = MODELS.build(cfg.model)
    dataset = DATASETS.build(cfg.train_dataloader.dataset.datasets[0])
    batch = pseudo_collate([dataset[row] for row in range(8)])
    images, _, samples = prepare_teacher_inputs(model, batch)
    timesteps = torch.arange(0, 1000, 125)
    feats = []
    for given in (samples, None):
        torch.manual_seed(0)
        feats.append(model.teacher(images, timesteps, given)[dit.LAYER])
    cached, live = feats
    # Rounding to float16, and not the same numbers: they were read.
    assert 0 < (cached - live).norm() / live.norm() < 1e-3


def test_a_learned_policy_trains_on_them(config):
    output = run_main('tools/train.py', config).output
    assert 'Epoch(train) [1][2/2]' in output
    assert 'loss_policy' in output


def test_latents_of_another_encoder_are_refused(config):
    torch.manual_seed(1)
    dit.autoencoder().save_pretrained('other')
    argv = [config, '--cfg-options', 'model.teacher.vae=other']
    with pytest.raises(ValueError, match=r'encoder and image size, got'):
        build_runner(argv).train()


def test_a_teacher_without_an_image_encoder_is_refused(config):
    save_teacher('ddpm', sample_size=dit.SIDE)
    argv = [
        config, '--cfg-options', 'model.teacher.pretrained=ddpm',
        'model.teacher.layers=mid_block,',
        'model.teacher.posterior=mean',
    ]  # fmt: skip
    with pytest.raises(ValueError, match='use CachedFeaturesDataset'):
        build_runner(argv).train()


def test_a_config_that_is_missing_is_written_again(config):
    path = Path(config)
    text = path.read_text()
    path.unlink()
    refused = run_main(
        'tools/cache_features.py', 'mine.py', '--latents', '--views', 2,
        expect=1,
    )  # fmt: skip
    assert 'expected no feature cache' in refused.last_line
    assert path.read_text() == text


def test_options_that_would_do_nothing_are_refused(config):
    refused = run_main(
        'tools/cache_features.py', config, '--views', 2, expect=2
    )
    assert 'set num_views of CachedFeaturesDataset' in refused.output
    refused = run_main(
        'tools/cache_features.py', config, '--latents', expect=1
    )
    assert 'got CachedLatentsDataset' in refused.last_line


def test_a_teacher_on_the_hub_needs_no_preset(config):
    done = run_main(
        'tools/cache_features.py', 'mine.py', '--latents', '--cfg-options',
        'model.teacher.pretrained=nobody/nothing', expect=1,
    )  # fmt: skip
    assert 'hf download nobody/nothing' in done.last_line
