"""A feed-forward teacher through the command lines."""

import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch.utils.flop_counter import FlopCounterMode

from repfusion_mm.analysis.flops import count_distillation
from repfusion_mm.analysis.probe import read_best
from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.equal import assert_equal
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.timm_models import save_model, teacher_config

CONFIG = """
_base_ = ['{root}/tests/helpers/distillation_config.py']
model = dict(
    input_size=16,
    teacher={teacher},
    policy=dict(type='repfusion_mm.FixedTimestepPolicy'),
    normalizer='standardize',
)
optim_wrapper = dict(policy=None, decoder=None)
images = dict(
    type='mmpretrain.CustomDataset',
    data_root='{folder}/images',
    ann_file='labels.txt',
    pipeline=[
        dict(type='mmpretrain.LoadImageFromFile'),
        dict(type='mmpretrain.PackInputs'),
    ],
)
if {cached}:
    images = dict(
        type='repfusion_mm.CachedFeaturesDataset', dataset=images,
        folder='{folder}/features',
    )
train_dataloader = dict(
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    dataset=dict(type='repfusion_mm.SeededConcatDataset', datasets=[images]),
)
train_cfg = dict(max_epochs=2)
randomness = dict(seed=0)
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=2), logger=dict(interval=1)
)
"""


@pytest.fixture(scope='module')
def job(tmp_path_factory):
    """Images, weights and two configs."""
    folder = tmp_path_factory.mktemp('job')
    (folder / 'images').mkdir()
    rng = np.random.default_rng(0)
    labels = []
    for i in range(12):
        pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
        pixels[..., i % 2] += 120  # the class is the color
        cv2.imwrite(str(folder / f'images/{i}.png'), pixels)
        labels.append(f'{i}.png {i % 2}\n')
    (folder / 'images/labels.txt').write_text(''.join(labels))
    file = folder / 'model.safetensors'
    model = save_model(file, size=28)
    teacher = teacher_config(layers=[2], pretrained=str(file))
    for name, cached in (('live', False), ('cached', True)):
        text = CONFIG.format(
            root=ROOT, folder=folder, teacher=teacher, cached=cached
        )
        (folder / f'{name}.py').write_text(text)
    return dict(folder=folder, model=model)


@pytest.fixture(scope='module')
def output(job):
    """Distill for two epochs, and return the output."""
    return run('train', job['folder'], 'live').output


def run(tool, folder, config, *flags, work='live'):
    return run_main(
        f'tools/{tool}.py', folder / f'{config}.py', '--work-dir',
        folder / work, *flags,
    )  # fmt: skip


def losses(output):
    return [float(x) for x in re.findall(r'loss_distill: (\S+)', output)]


@pytest.mark.slow
def test_it_distills_and_resumes_bit_identically(job, output):
    folder = job['folder']
    assert 'timestep_mean: 0.0' in output
    (folder / 'resumed').mkdir()
    shutil.copy(folder / 'live/epoch_1.pth', folder / 'resumed')
    last = folder / 'resumed/last_checkpoint'
    last.write_text(f'{folder}/resumed/epoch_1.pth')
    resumed = run('train', folder, 'live', '--resume', work='resumed').output
    assert 'resumed epoch: 1' in resumed
    ends = [
        load_from_local(folder / work / 'epoch_2.pth')
        for work in ('live', 'resumed')
    ]
    for part in ('state_dict', 'optimizer'):
        assert_equal(*(end[part] for end in ends), part)
    roots = {key.split('.')[0] for key in ends[0]['state_dict']}
    assert roots == {'student', 'connectors', 'normalizers'}


@pytest.mark.slow
def test_cached_features_distill_as_live_ones(job, output):
    folder = job['folder']
    done = run_main('tools/cache_features.py', folder / 'cached.py')
    assert 'blocks.2' in done.output
    cached = run('train', folder, 'cached', work='cached').output
    assert losses(cached) == pytest.approx(losses(output), rel=2e-3)


def test_the_probe_scores_its_only_timestep(job):
    folder = job['folder']
    output = run('analysis_tools/probe_timesteps', folder, 'live').output
    scores, label = read_best(folder / 'live/probe.csv')
    assert list(scores) == [0]
    assert label == 'linear probe\nclean\nblocks.2'
    # Of random weights.
    assert 'at t = 0, layer blocks.2' in output
    assert 'Distill from this teacher' not in output
    # There is nothing to compare it with.
    assert 'distinguishable from it (R²' not in output
    assert 'No timestep is better' not in output


def test_the_probe_refuses_input_modes(job):
    result = run_main(
        'tools/analysis_tools/probe_timesteps.py', job['folder'] / 'live.py',
        '--out', job['folder'] / 'modes', '--input-modes', 'noised', expect=1,
    )  # fmt: skip
    assert 'no --input-modes with TimmTeacher' in result.last_line


def test_its_flop_are_counted_up_to_its_last_layer(job):
    config = job['folder'] / 'live.py'
    counted = count_distillation(Config.fromfile(config)).teacher
    model = job['model']
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        model.to('meta').forward_intermediates(
            torch.zeros(1, 3, 28, 28), indices=[2], stop_early=True
        )
    assert counted == counter.get_total_flops() > 1e5
    output = run_main('tools/analysis_tools/count_flops.py', config).output
    assert 'teacher, up to its last layer' in output
