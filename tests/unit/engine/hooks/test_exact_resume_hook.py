"""A run that is interrupted and resumed ends as one that is not."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.equal import assert_equal
from tests.helpers.toy import distiller_config, save_cifar10

PIPELINE = [
    dict(type='mmpretrain.RandomCrop', crop_size=16, padding=4),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='mmpretrain.ColorJitter', brightness=0.5),
    dict(type='mmpretrain.PackInputs'),
]
#: 40 images in batches of 8: five iterations an epoch, 15 in the run.
EPOCHS = dict(by_epoch=True, max_epochs=3)
ITERS = dict(by_epoch=False, max_iters=15)


class Interruption(Exception):
    """What ends a run in these tests."""


class InterruptHook(Hook):
    """Raise behind a number of iterations and all other hooks."""

    priority = 'LOWEST'

    def __init__(self, iters):
        self.iters = iters

    def after_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == self.iters:
            raise Interruption


@pytest.fixture(scope='module')
def cifar10(tmp_path_factory):
    root = tmp_path_factory.mktemp('cifar10')
    save_cifar10(root)
    return str(root)


def config_of(cifar10, work_dir, train_cfg, **options):
    """Return a distillation with everything that has a state."""
    dataset = dict(
        type='repfusion_mm.SeededConcatDataset',
        datasets=[
            dict(
                type='tests.helpers.toy.MiniCIFAR10',
                data_root=cifar10,
                pipeline=PIPELINE,
            )
        ],
    )
    by_epoch = train_cfg['by_epoch']
    sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    optimizers = dict(
        student=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        policy=dict(optimizer=dict(type='Adam', lr=1e-3)),
        decoder=dict(optimizer=dict(type='Adam', lr=1e-3)),
    )
    cosine = dict(
        type='CosineAnnealingLR',
        by_epoch=by_epoch,
        T_max=3 if by_epoch else 15,
    )
    cfg = dict(
        default_scope='mmpretrain',
        custom_imports=dict(imports=['repfusion_mm', 'tests.helpers.toy']),
        model=distiller_config(),
        train_dataloader=dict(
            batch_size=8,
            num_workers=0,
            dataset=dataset,
            sampler=dict(type=sampler, shuffle=True),
            batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=train_cfg,
        optim_wrapper=dict(
            constructor='repfusion_mm.MultiOptimWrapperConstructor',
            **optimizers,
        ),
        param_scheduler=dict(student=[cosine], policy=[], decoder=[]),
        default_hooks=dict(
            runtime_info=dict(type='repfusion_mm.BufferedRuntimeInfoHook'),
            checkpoint=dict(
                type='repfusion_mm.SafeCheckpointHook',
                by_epoch=by_epoch,
                interval=1 if by_epoch else 5,
            ),
        ),
        custom_hooks=[
            dict(type='EMAHook', momentum=0.1),
            dict(type='repfusion_mm.TimestepPolicyHook'),
            dict(type='repfusion_mm.ExportStudentHook'),
            dict(type='repfusion_mm.StrictLoadHook'),
            dict(type='repfusion_mm.ExactResumeHook'),
        ],
        randomness=dict(seed=0, diff_rank_seed=True),
        work_dir=str(work_dir),
        log_level='ERROR',
    )
    cfg = Config(cfg)
    cfg.merge_from_dict(options)
    return cfg


def run(cfg, name, iters=None, resume=False):
    """Run to the end, or until it is interrupted."""
    cfg = Config(dict(cfg.to_dict(), experiment_name=name, resume=resume))
    runner = Runner.from_cfg(cfg)
    if iters is None:
        runner.train()
    else:
        runner.register_hook(InterruptHook(iters))
        with pytest.raises(Interruption):
            runner.train()
    return runner


def same_ends(folder, last):
    whole, resumed = (
        load_from_local(folder / name / last) for name in ('whole', 'resumed')
    )
    parts = ['state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers']
    for part in parts:
        assert_equal(whole[part], resumed[part], part)
    students = [
        load_from_local(folder / name / 'student.pth')
        for name in ('whole', 'resumed')
    ]
    assert_equal(*(student['state_dict'] for student in students))
    losses = [
        c['message_hub']['log_scalars']['train/loss'].data[0]
        for c in (whole, resumed)
    ]
    np.testing.assert_array_equal(*losses)


@pytest.mark.parametrize(
    ('train_cfg', 'iters', 'options', 'workers', 'last'),
    [
        # Behind an epoch, in the middle of the next one.
        (EPOCHS, 7, {}, 0, 'epoch_3.pth'),
        # From checkpoints of iterations: within an epoch, and at its end.
        (EPOCHS, 9, {'by_epoch': False, 'interval': 4}, 2, 'iter_15.pth'),
        (EPOCHS, 11, {'by_epoch': False, 'interval': 5}, 0, 'iter_15.pth'),
        (ITERS, 13, {}, 2, 'iter_15.pth'),
    ],
    ids=['epoch', 'within an epoch', 'iteration at its end', 'iterations'],
)
def test_a_resumed_run_ends_the_same(
    cifar10, tmp_path, train_cfg, iters, options, workers, last
):
    options = {f'default_hooks.checkpoint.{k}': v for k, v in options.items()}
    options['train_dataloader.num_workers'] = workers
    options['train_dataloader.persistent_workers'] = workers > 0
    for name in ('whole', 'resumed'):
        cfg = config_of(cifar10, tmp_path / name, train_cfg, **options)
        if name == 'whole':
            run(cfg, f'{tmp_path.name}-whole')
        else:
            run(cfg, f'{tmp_path.name}-first', iters)
            run(cfg, f'{tmp_path.name}-second', resume=True)
    same_ends(tmp_path, last)


def test_a_run_of_another_length_is_refused(cifar10, tmp_path):
    run(config_of(cifar10, tmp_path, EPOCHS), f'{tmp_path.name}-first', 6)
    longer = config_of(cifar10, tmp_path, {**EPOCHS, 'max_epochs': 4})
    with pytest.raises(ValueError, match=r'a run of 15 iterations.*got 20'):
        run(longer, f'{tmp_path.name}-second', resume=True)


@pytest.mark.parametrize(
    ('name', 'value', 'told'),
    [
        ('optim_wrapper.student.optimizer.lr', 0.01, r'lr=0\.1 \(now 0\.01\)'),
        ('train_dataloader.sampler.shuffle', False, 'True .now False'),
        ('randomness', dict(seed=7), r'randomness\.seed=[0-9]+ \(now 7\)'),
    ],
)
def test_what_the_checkpoint_brings_along_cannot_be_changed(
    cifar10, tmp_path, name, value, told
):
    cfg = config_of(cifar10, tmp_path, EPOCHS)
    run(cfg, f'{tmp_path.name}-first', 6)
    cfg.merge_from_dict({name: value})
    with pytest.raises(ValueError, match=told):
        run(cfg, f'{tmp_path.name}-second', resume=True)


def test_checkpoints_within_an_update_are_refused(cifar10, tmp_path):
    cfg = config_of(
        cifar10, tmp_path, EPOCHS, **{'optim_wrapper.accumulative_counts': 2}
    )
    with pytest.raises(ValueError, match='every 5 batches and updates of 2'):
        run(cfg, tmp_path.name)


def test_batches_do_not_depend_on_what_was_drawn_before(cifar10, tmp_path):
    cfg = config_of(cifar10, tmp_path, EPOCHS)
    batches = []
    for noise in (0, 1):
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        torch.rand(noise), np.random.rand(noise)
        batches.append([batch['inputs'] for batch in loader])
    assert all(map(torch.equal, *batches))
    # Another epoch, another augmentation of the same images.
    sampler = loader.batch_sampler.sampler
    sampler.shuffle = False
    sampler.set_epoch(1)
    others = [batch['inputs'] for batch in loader]
    sampler.set_epoch(2)
    assert not torch.equal(others[0], next(iter(loader))['inputs'])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'batch_sampler': None}, 'got BatchSampler and SeededConcatDataset'),
        (
            {'dataset.type': 'ConcatDataset'},
            'got SeededBatchSampler and ConcatDataset',
        ),
    ],
)
def test_a_dataloader_that_is_not_seeded_is_refused(
    cifar10, tmp_path, change, message
):
    cfg = config_of(cifar10, tmp_path, EPOCHS)
    for key, value in change.items():
        cfg.merge_from_dict({f'train_dataloader.{key}': value})
    with pytest.raises(ValueError, match=message) as error:
        run(cfg, tmp_path.name)
    assert "type='repfusion_mm.SeededBatchSampler'" in str(error.value)
    assert not list(tmp_path.glob('*.pth'))
