"""Write a feature cache and distill from it."""

import json
import re
import shutil

import numpy as np
import pytest

from repfusion_mm.cli.train import build_runner
from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.cached import CROP, LOAD, NUM_IMAGES, PACK, save_images
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.toy import LAYER, save_teacher

DATA = 'train_dataloader.dataset.datasets.0'
CONFIG = """
_base_ = [
    '{root}/configs/_base_/runtime/default_runtime.py',
    '{root}/configs/_base_/runtime/distill_hooks.py',
    '{root}/configs/_base_/schedules/distill_cosine.py',
]
images = dict(
    type='mmpretrain.CustomDataset',
    data_root='{folder}/images',
    with_label=False,
    pipeline={pipeline},
)
model = dict(
    type='repfusion_mm.RepFusion',
    data_preprocessor=dict(
        type='mmengine.ImgDataPreprocessor', mean=[127.5] * 3,
        std=[127.5] * 3, bgr_to_rgb=True,
    ),
    student=dict(
        type='mmpretrain.ResNet_CIFAR', depth=18, stem_channels=8,
        base_channels=8,
    ),
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher', pretrained='{folder}/ddpm',
        layers=['{layer}'],
    ),
    policy=dict(type='repfusion_mm.FixedTimestepPolicy', timestep=100),
    distill_loss=dict(type='repfusion_mm.HintLoss'),
)
train_dataloader = dict(
    batch_size=6,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
    dataset=dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                type='repfusion_mm.CachedFeaturesDataset', dataset=images,
                folder='{folder}/features', num_views=2,
            )
        ],
    ),
)
train_cfg = dict(by_epoch=True, max_epochs=1)
"""


@pytest.fixture(scope='module')
def job(tmp_path_factory):
    """Images, a teacher, a config, and the output of writing the cache."""
    folder = tmp_path_factory.mktemp('job')
    save_images(folder / 'images')
    save_teacher(folder / 'ddpm')
    config = folder / 'cached.py'
    text = CONFIG.format(
        root=ROOT, folder=folder, layer=LAYER, pipeline=[LOAD, CROP, PACK]
    )
    config.write_text(text)
    output = run('cache_features', config).output
    return dict(folder=folder, config=config, output=output)


def run(tool, config, *options, flags=(), expect=0):
    options = ['--cfg-options', *options] if options else []
    if tool == 'train':
        flags = ['--work-dir', config.parent / 'work', *flags]
    return run_main(
        f'tools/{tool}.py', config, *flags, *options, expect=expect
    )


def test_the_size_is_printed_before_features_are_written(job):
    output = job['output']
    size = f'12 rows (6 images, 2 views), float16 of {LAYER} (16, 8, 8): 0.02'
    assert output.index(size) < output.index('] 0/12')
    assert 'GB free' in output
    assert '12 rows of 12 different images in ' in output
    assert f'tools/train.py {job["config"]}' in output
    array = np.load(job['folder'] / 'features' / f'{LAYER}.npy')
    assert array.nbytes == 12 * 16 * 8 * 8 * 2
    meta = json.loads((job['folder'] / 'features/cache.json').read_text())
    assert meta['num_images'] == NUM_IMAGES


def test_training_reads_them_with_workers_and_exports(job):
    result = run('train', job['config'], 'default_hooks.logger.interval=1')
    output = result.output
    assert 'Epoch(train) [1][2/2]' in output
    assert 'timestep_mean: 100.0' in output
    student = load_from_local(job['folder'] / 'work/student.pth')
    assert 'conv1.weight' in student['state_dict']


def test_images_with_exchanged_channels_are_not_cached(job):
    result = run(
        'cache_features', job['config'], 'model.channel_order=rgb',
        'model.data_preprocessor.bgr_to_rgb=False', flags=['--overwrite'],
        expect=1,
    )  # fmt: skip
    assert 'the teacher would see blue for red' in result.last_line


def test_an_existing_cache_is_replaced_only_with_overwrite(job):
    features = job['folder'] / 'features' / 'cache.json'
    before = features.stat().st_ino
    refused = run('cache_features', job['config'], expect=1)
    assert 'add --overwrite to replace it' in refused.last_line
    assert features.stat().st_ino == before
    replaced = run('cache_features', job['config'], flags=['--overwrite'])
    assert '12 rows of 12 different images' in replaced.output
    assert features.stat().st_ino != before


def test_only_the_caches_that_are_missing_are_written(job):
    first, second = job['folder'] / 'features', job['folder'] / 'second'
    config = job['folder'] / 'two.py'
    config.write_text(
        "_base_ = './cached.py'\n"
        'one = _base_.train_dataloader.dataset.datasets[0]\n'
        'train_dataloader = dict(dataset=dict(datasets=[\n'
        f'    one, dict(one, folder={str(second)!r})]))\n'
    )
    before = (first / 'cache.json').stat().st_ino
    output = run('cache_features', config).output
    assert f'{first}: an existing cache, which is kept' in output
    assert output.count('12 rows of 12 different images') == 1
    assert (first / 'cache.json').stat().st_ino == before
    assert (second / 'cache.json').is_file()

    shutil.rmtree(second)
    refused = run(
        'cache_features', config, 'model.policy.timestep=101', expect=1
    )
    assert 'timestep: expected 101, got 100' in refused.last_line
    assert not second.exists()

    file = second / f'{LAYER}.npy'
    run('cache_features', config)
    file.write_bytes(file.read_bytes()[:-1])
    refused = run('train', config, expect=1)
    assert re.search(
        f"at '{second}', got a damaged {LAYER}.npy .*; remove that folder",
        refused.last_line,
    )
    shutil.rmtree(second)  # as it says
    run('cache_features', config)
    assert (first / 'cache.json').stat().st_ino == before


BAD_TRAIN = {
    'timestep': (['model.policy.timestep=101'], 'timestep: expected 101, got'),
    'missing': (
        [f'{DATA}.folder=nowhere'],
        'got none; write',
    ),
    'views': ([f'{DATA}.num_views=1'], "'num_views': 2"),
}


@pytest.mark.parametrize('case', BAD_TRAIN)
def test_invalid_caches_are_refused_before_the_first_iteration(
    job, case, tmp_path
):
    options, message = BAD_TRAIN[case]
    argv = [str(job['config']), '--work-dir', str(tmp_path), '--cfg-options']
    runner = build_runner([*argv, *options])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        runner.train()
    assert runner.iter == 0
    assert len(runner.message_hub.log_scalars) == 0


def other_folder(job, name='other'):
    return f'{DATA}.folder={job["folder"] / name}'


def check_refused(job, message, *options):
    result = run('cache_features', job['config'], *options, expect=1)
    assert re.search(message, result.last_line)
    assert not (job['folder'] / 'other').exists()
    assert not (job['folder'] / 'other.tmp').exists()


def test_a_cache_that_exceeds_the_disk_is_refused(job):
    views = f'{DATA}.num_views=1000000000000'
    message = r'expected \d+\.\d\d GB of free disk space'
    check_refused(job, message, other_folder(job), views)


def test_a_dataset_without_a_cache_is_refused_with_an_example(job):
    live = job['folder'] / 'live.py'
    live.write_text(
        "_base_ = './cached.py'\n"
        'train_dataloader = dict(dataset=dict(datasets=[_base_.images]))\n'
    )
    check_refused(
        dict(job, config=live),
        "got CustomDataset; wrap it: .*type='repfusion_mm.C",
    )


def test_a_policy_of_several_timesteps_is_refused(job):
    check_refused(
        job, 'one timestep', other_folder(job), 'model.policy._delete_=True',
        'model.policy.type=repfusion_mm.UniformTimestepPolicy',
    )  # fmt: skip


def test_a_folder_of_something_else_is_not_replaced(job):
    folder = job['folder'] / 'images'
    before = sorted(folder.iterdir())
    check_refused(
        job, 'or nothing at .*got something else', other_folder(job, 'images')
    )
    assert sorted(folder.iterdir()) == before


def test_views_that_are_not_repeatable_are_refused(job):
    crop = f'{DATA}.dataset.pipeline.1.type=EntropyCrop'
    check_refused(job, 'views are not fixed', other_folder(job), crop)


def test_an_error_ends_with_one_line(job):
    folder = job['folder'] / 'nowhere'
    result = run(
        'cache_features', job['config'], other_folder(job, 'third'),
        f'model.teacher.pretrained={folder}', expect=1,
    )  # fmt: skip
    assert str(folder) in result.last_line
    assert not (job['folder'] / 'third').exists()
