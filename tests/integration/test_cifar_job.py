"""The CIFAR-10 job through its own command lines.

Miniature CIFAR-10 in its real on-disk format, a miniature teacher saved as a
real diffusers folder, the true student.
"""

import shutil
import sys

import pytest
import torch
from mmengine.registry import MODELS

from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.equal import assert_equal
from tests.helpers.launcher import launch
from tests.helpers.toy import save_cifar10, save_teacher

DISTILL = 'configs/distill/repfusion_r18_cifar.py'
FINETUNE = 'configs/finetune/mmpretrain/resnet18-{}_1xb64_cifar10.py'
MINI = [
    'train_dataloader.dataset.type=tests.helpers.toy.MiniCIFAR10',
    'train_dataloader.batch_size=8',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'default_hooks.checkpoint.interval=1',
    'train_cfg.max_epochs=2',
]


def train(config, work_dir, *options, flags=(), **kwargs):
    return launch(
        sys.executable,
        'tools/train.py',
        config,
        '--work-dir',
        work_dir,
        *flags,
        '--cfg-options',
        *MINI,
        *options,
        **kwargs,
    )


@pytest.fixture(scope='module')
def job(tmp_path_factory):
    """Distil on one process for two epochs, once for all tests."""
    folder = tmp_path_factory.mktemp('job')
    save_cifar10(folder / 'cifar10')
    save_teacher(folder / 'ddpm', sample_size=32)
    options = [
        f'train_dataloader.dataset.data_root={folder / "cifar10"}',
        f'model.teacher.pretrained={folder / "ddpm"}',
    ]
    output = train(DISTILL, folder / 'one', *options)
    return dict(folder=folder, options=options, output=output)


def loads_fully(path, scope):
    init_cfg = dict(type='Pretrained', checkpoint=str(path))
    if scope:
        init_cfg['_scope_'] = scope
    net = MODELS.build(
        dict(type='mmpretrain.ResNet_CIFAR', depth=18, init_cfg=init_cfg)
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
    loads_fully(work_dir / 'student.pth', 'repfusion_mm')
    loads_fully(work_dir / 'student.pth', None)


def interrupted(whole, folder):
    """Copy a run as it was behind its first epoch."""
    folder.mkdir()
    shutil.copy(whole / 'epoch_1.pth', folder)
    (folder / 'last_checkpoint').write_text(f'{folder}/epoch_1.pth')
    return folder


def ends_the_same(whole, resumed):
    first, second = (
        load_from_local(folder / 'epoch_2.pth') for folder in (whole, resumed)
    )
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert_equal(first[part], second[part], part)


def test_it_resumes(job):
    work_dir = interrupted(job['folder'] / 'one', job['folder'] / 'resumed')
    output = train(DISTILL, work_dir, *job['options'], flags=['--resume'])
    assert 'resumed epoch: 1' in output
    assert 'Epoch(train) [1]' not in output
    assert 'Epoch(train) [2]' in output
    ends_the_same(job['folder'] / 'one', work_dir)


def test_it_trains_and_resumes_in_two_processes(job):
    work_dir = job['folder'] / 'two'

    def launch_two(work_dir):
        return launch(
            'tools/dist_train.sh', DISTILL, 2, '--work-dir', work_dir,
            '--resume', '--cfg-options', *MINI, *job['options'],
            PORT='29517',
        )  # fmt: skip

    output = launch_two(work_dir)
    assert 'Distributed training: True' in output
    assert 'GPU number: 2' in output
    resumed = interrupted(work_dir, job['folder'] / 'two_resumed')
    output = launch_two(resumed)
    assert 'resumed epoch: 1' in output
    assert 'Epoch(train) [1]' not in output
    ends_the_same(work_dir, resumed)
    checkpoint = load_from_local(resumed / 'epoch_2.pth')
    # 40 images, 2 processes of 8: two whole batches in each of two epochs.
    assert checkpoint['meta']['iter'] == 4
    roots = {key.split('.')[0] for key in checkpoint['state_dict']}
    assert roots == {'student', 'connectors', 'policy', 'decoder'}
    loads_fully(resumed / 'student.pth', 'repfusion_mm')
    loads_fully(resumed / 'student.pth', None)


def test_students_are_finetuned_and_evaluated(job):
    folder = job['folder']
    root = folder / 'cifar10'
    options = [
        *[o for o in MINI if 'persistent' not in o],
        'val_dataloader.dataset.type=tests.helpers.toy.MiniCIFAR10',
        'test_dataloader.dataset.type=tests.helpers.toy.MiniCIFAR10',
        *[
            f'{split}_dataloader.dataset.data_root={root}'
            for split in ('train', 'val', 'test')
        ],
        'train_cfg.max_epochs=1',
    ]
    student = folder / 'one' / 'student.pth'
    init = f'model.backbone.init_cfg.checkpoint={student}'
    work_dir = folder / 'finetuned'
    for kind, extra in (('repfusion', [init]), ('scratch', [])):
        output = launch(
            sys.executable, 'tools/train.py', FINETUNE.format(kind),
            '--work-dir', work_dir, '--cfg-options', *options, *extra,
        )  # fmt: skip
        assert ('loaded 120/120 tensors' in output) == (kind == 'repfusion')
    output = launch(
        sys.executable, 'tools/test.py', FINETUNE.format('repfusion'),
        work_dir / 'epoch_1.pth', '--work-dir', work_dir,
        '--cfg-options', *options,
    )  # fmt: skip
    assert 'accuracy/top1' in output


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
        FINETUNE.format('repfusion'),
        ['model.backbone.init_cfg.checkpoint='],
        'expected the path of a checkpoint',
    ),
    'missing checkpoint': (
        FINETUNE.format('repfusion'),
        ['model.backbone.init_cfg.checkpoint=nowhere.pth'],
        "expected a checkpoint at 'nowhere.pth'",
    ),
}


@pytest.mark.parametrize('case', BAD)
def test_bad_input_ends_before_the_first_iteration(job, case, tmp_path):
    config, options, message = BAD[case]
    mini = [o for o in MINI if 'persistent' not in o or config == DISTILL]
    given = job['options'] if config == DISTILL else [
        f'train_dataloader.dataset.data_root={job["folder"] / "cifar10"}',
        'val_cfg=None',
        'val_dataloader=None',
        'val_evaluator=None',
    ]  # fmt: skip
    output = launch(
        sys.executable, 'tools/train.py', config, '--work-dir', tmp_path,
        '--cfg-options', *mini, *given, *options, expect=1,
    )  # fmt: skip
    assert message in output
    assert 'Epoch(train)' not in output


def test_teacher_that_cannot_be_had_names_the_id(tmp_path):
    output = train(
        DISTILL,
        tmp_path,
        'model.teacher.pretrained=repfusion-mm/not-there',
        expect=1,
        HF_HUB_OFFLINE='1',
    )
    assert 'hf download repfusion-mm/not-there' in output
    assert 'model.teacher.pretrained=' in output


def test_missing_data_is_mmpretrains_clear_error(job, tmp_path):
    output = train(
        DISTILL,
        tmp_path,
        *job['options'],
        f'train_dataloader.dataset.data_root={tmp_path / "empty"}',
        'train_dataloader.dataset.download=False',
        expect=1,
    )
    assert 'Cannot find MiniCIFAR10 dataset' in output


def test_amp_without_a_gpu_is_refused(job, tmp_path):
    if torch.cuda.is_available():
        return
    output = train(
        DISTILL, tmp_path, *job['options'], flags=['--amp'], expect=1
    )
    assert 'expected a GPU for mixed precision' in output


def test_checkpoints_of_something_else_are_not_tested(job, tmp_path):
    output = launch(
        sys.executable, 'tools/test.py', FINETUNE.format('scratch'),
        job['folder'] / 'one' / 'epoch_2.pth', '--work-dir', tmp_path,
        '--cfg-options',
        'test_dataloader.dataset.type=tests.helpers.toy.MiniCIFAR10',
        f'test_dataloader.dataset.data_root={job["folder"] / "cifar10"}',
        expect=1,
    )  # fmt: skip
    assert 'tensors of ImageClassifier, got' in output
    assert 'backbone.conv1.weight: not in the checkpoint' in output
    assert 'accuracy' not in output


def test_distillation_has_nothing_to_test(job):
    output = launch(
        sys.executable,
        'tools/test.py',
        DISTILL,
        job['folder'] / 'one' / 'epoch_2.pth',
        expect=1,
    )
    assert 'a distillation predicts nothing' in output
