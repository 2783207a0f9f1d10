"""The CIFAR-10 job through its command lines.

The data are a miniature CIFAR-10 in its real format; the teacher is a
miniature denoiser in a folder of diffusers; the student is narrow.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.device import get_device
from mmengine.registry import MODELS

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.models.teachers.dtype import resolve_dtype
from tests.helpers.equal import assert_equal
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.toy import save_cifar10, save_teacher

DISTILL = ROOT / 'configs/distill/repfusion_r18_cifar.py'
FINETUNE = ROOT / 'configs/finetune/mmpretrain'
REPFUSION = FINETUNE / 'resnet18-repfusion_1xb64_cifar10.py'
SCRATCH = FINETUNE / 'resnet18-scratch_1xb64_cifar10.py'
WIDTH = dict(stem_channels=8, base_channels=8)
DATA = 'train_dataloader.dataset.datasets.0'
MINI = [
    f'{DATA}.type=tests.helpers.toy.MiniCIFAR10',
    'train_dataloader.batch_size=8',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'default_hooks.checkpoint.interval=1',
]
MINI_DISTILL = [
    *MINI,
    'model.student.stem_channels=8',
    'model.student.base_channels=8',
    'default_hooks.timestep_policy.num_records=1',
    'train_cfg.max_epochs=2',
]


def distill(work_dir, *options, flags=(), **kwargs):
    return run_main(
        'tools/train.py', DISTILL, '--work-dir', work_dir, *flags,
        '--cfg-options', *MINI_DISTILL, *options, **kwargs,
    )  # fmt: skip


@pytest.fixture(scope='module')
def job(tmp_path_factory):
    """Distill for two epochs in one process, once for all tests."""
    folder = tmp_path_factory.mktemp('job')
    save_cifar10(folder / 'cifar10')
    save_teacher(folder / 'ddpm', sample_size=32)
    options = [
        f'{DATA}.data_root={folder / "cifar10"}',
        f'model.teacher.pretrained={folder / "ddpm"}',
    ]
    output = distill(folder / 'one', *options).output
    return dict(folder=folder, options=options, output=output)


def finetune_options(job):
    root = job['folder'] / 'cifar10'
    return [
        *MINI,
        f'{DATA}.data_root={root}',
        *[
            f'{split}_dataloader.dataset.{option}'
            for split in ('val', 'test')
            for option in (
                'type=tests.helpers.toy.MiniCIFAR10', f'data_root={root}'
            )
        ],
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
        'model.backbone.stem_channels=8',
        'model.backbone.base_channels=8',
        'model.head.in_channels=64',
        'train_cfg.max_epochs=1',
    ]  # fmt: skip


def assert_loads_completely(path, scope):
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    if scope:
        init_cfg['_scope_'] = scope
    net = MODELS.build(
        dict(
            type='mmpretrain.ResNet_CIFAR',
            depth=18,
            init_cfg=init_cfg,
            **WIDTH,
        )
    )
    net.init_weights()
    stored = load_from_local(path)['state_dict']
    assert set(stored) == set(net.state_dict())
    for key, value in net.state_dict().items():
        assert torch.equal(value, stored[key])


def test_it_trains_checkpoints_and_exports(job):
    work_dir = job['folder'] / 'one'
    assert 'loss_distill' in job['output']
    assert 'policy_entropy' in job['output']
    checkpoint = load_from_local(work_dir / 'epoch_2.pth')
    roots = {key.split('.')[0] for key in checkpoint['state_dict']}
    assert roots == {'student', 'connectors', 'policy', 'decoder'}
    assert set(checkpoint['optimizer']) == {'student', 'policy', 'decoder'}
    assert 'ema_state_dict' in checkpoint
    assert_loads_completely(work_dir / 'student.pth', 'repfusion_mm')
    assert_loads_completely(work_dir / 'student.pth', None)


def copy_interrupted(complete, folder):
    """Copy a run as it was after its first epoch."""
    folder.mkdir()
    shutil.copy(complete / 'epoch_1.pth', folder)
    (folder / 'last_checkpoint').write_text(f'{folder}/epoch_1.pth')
    return folder


def assert_same_end(complete, resumed):
    first, second = (
        load_from_local(folder / 'epoch_2.pth')
        for folder in (complete, resumed)
    )
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert_equal(first[part], second[part], part)


def test_it_resumes_bit_identically(job):
    complete = job['folder'] / 'one'
    work_dir = copy_interrupted(complete, job['folder'] / 'resumed')
    output = distill(work_dir, *job['options'], flags=['--resume']).output
    assert 'resumed epoch: 1' in output
    assert 'Epoch(train) [1]' not in output
    assert 'Epoch(train) [2]' in output
    assert_same_end(complete, work_dir)


def test_students_are_finetuned_and_evaluated(job):
    folder = job['folder']
    options = finetune_options(job)
    student = folder / 'one' / 'student.pth'
    init = f'model.backbone.init_cfg.checkpoint={student}'
    work_dir = folder / 'finetuned'
    for config, extra in ((REPFUSION, [init]), (SCRATCH, [])):
        output = run_main(
            'tools/train.py', config, '--work-dir', work_dir,
            '--cfg-options', *options, *extra,
        ).output  # fmt: skip
        assert ('loaded 120/120 tensors' in output) == (config == REPFUSION)
    dumped = work_dir / Path(REPFUSION).name
    before = dumped.read_bytes()
    output = run_main(
        'tools/test.py', REPFUSION, work_dir / 'epoch_1.pth',
        '--work-dir', work_dir, '--cfg-options', *options,
    ).output  # fmt: skip
    assert 'accuracy/top1' in output
    # Without load_from: it starts a training.
    assert dumped.read_bytes() == before


BAD = {
    'unknown layer': (
        DISTILL,
        ['model.teacher.layers=[mid_block.resnet.1.conv2]'],
        "did you mean 'mid_block.resnets.1.conv2'",
    ),
    'policy beyond the schedule': (
        DISTILL,
        ['model.policy.num_timesteps=4000'],
        'schedule of 1000 timesteps, got 4000',
    ),
    'too few classes': (
        DISTILL,
        ['model.decoder.num_classes=3'],
        'expected labels in [0, 2] for decoder.num_classes=3',
    ),
    'student without a map': (
        DISTILL,
        ['model.student.out_indices=[2]', 'model.student_indices=[1]'],
        'expected an N x C x H x W map at index 1',
    ),
    'no checkpoint': (
        REPFUSION,
        ['model.backbone.init_cfg.checkpoint='],
        'expected the path of a checkpoint',
    ),
    'missing checkpoint': (
        REPFUSION,
        ['model.backbone.init_cfg.checkpoint=nowhere.pth'],
        "expected a checkpoint at 'nowhere.pth'",
    ),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_input_stops_before_the_first_iteration(job, case, tmp_path):
    config, options, message = BAD[case]
    given = [*MINI_DISTILL, *job['options']]
    if config == REPFUSION:
        given = finetune_options(job)
    output = run_main(
        'tools/train.py', config, '--work-dir', tmp_path,
        '--cfg-options', *given, *options, expect=1,
    ).output  # fmt: skip
    assert message in output
    assert 'Epoch(train)' not in output


def test_an_unreachable_teacher_is_named(tmp_path):
    output = distill(
        tmp_path,
        'model.teacher.pretrained=repfusion-mm/not-there',
        expect=1,
        HF_HUB_OFFLINE='1',
    ).output
    assert 'hf download repfusion-mm/not-there' in output
    assert 'model.teacher.pretrained=' in output


def test_missing_data_is_the_error_of_mmpretrain(job, tmp_path):
    output = distill(
        tmp_path,
        *job['options'],
        f'{DATA}.data_root={tmp_path / "empty"}',
        f'{DATA}.download=False',
        expect=1,
    ).output
    assert 'Cannot find MiniCIFAR10 dataset' in output


def test_mixed_precision_equals_float32_up_to_rounding(job, tmp_path):
    if resolve_dtype('auto', torch.device(get_device())) != torch.bfloat16:
        pytest.skip('this processor has no fast bfloat16')
    distill(tmp_path, *job['options'], flags=['--amp'])
    losses = []
    for folder in (job['folder'] / 'one', tmp_path):
        log = next(folder.glob('*/vis_data/scalars.json')).read_text()
        records = map(json.loads, log.splitlines())
        losses.append([r['loss'] for r in records if 'loss' in r])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.parametrize('options', [[], ['default_hooks.strict_load=None']])
def test_checkpoints_of_another_model_are_not_tested(job, tmp_path, options):
    output = run_main(
        'tools/test.py', SCRATCH, job['folder'] / 'one/epoch_2.pth',
        '--work-dir', tmp_path, '--cfg-options', *finetune_options(job),
        *options, expect=1,
    ).output  # fmt: skip
    assert 'tensors of ImageClassifier, got' in output
    assert 'backbone.conv1.weight: not in the checkpoint' in output
    assert 'accuracy' not in output


def test_a_distillation_has_no_test(job):
    checkpoint = job['folder'] / 'one/epoch_2.pth'
    result = run_main('tools/test.py', DISTILL, checkpoint, expect=1)
    assert 'a distillation has no test' in result.last_line
