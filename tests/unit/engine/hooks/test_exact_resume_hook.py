"""A resumed run is bit-identical to an uninterrupted one."""

from pathlib import Path

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
BY_ITER = {
    'default_hooks.checkpoint.by_epoch': False,
    'default_hooks.checkpoint.interval': 5,
}


class Interruption(Exception):
    """Ends a run."""


class InterruptHook(Hook):
    """Raise after a number of iterations, after all other hooks."""

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
    """Return a distillation in which everything that can has a state."""
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
            dict(type='repfusion_mm.TimestepPolicyHook', num_records=1),
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


def final_state(work_dir):
    """Return everything that must be equal at the end of two runs."""
    path = Path((work_dir / 'last_checkpoint').read_text())
    checkpoint = load_from_local(path)
    parts = ['state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers']
    scalars = checkpoint['message_hub']['log_scalars']
    return dict(
        {part: checkpoint[part] for part in parts},
        iter=checkpoint['meta']['iter'],
        student=load_from_local(work_dir / 'student.pth')['state_dict'],
        losses=scalars['train/loss'].data[0],
    )


@pytest.fixture(scope='module')
def uninterrupted(cifar10, tmp_path_factory):
    """The final states of runs that were not interrupted, by last file."""
    states = {}
    for name, train_cfg, options in (
        ('epochs', EPOCHS, {}),
        ('epochs by iteration', EPOCHS, BY_ITER),
        ('iterations', ITERS, {}),
    ):
        folder = tmp_path_factory.mktemp(name)
        run(config_of(cifar10, folder, train_cfg, **options), folder.name)
        states[name] = final_state(folder)
    return states


@pytest.mark.parametrize(
    ('reference', 'train_cfg', 'options', 'iters', 'workers'),
    [
        # After an epoch, and within the next one.
        ('epochs', EPOCHS, {}, 7, 0),
        # From checkpoints of iterations: within an epoch, and at its end.
        (
            'epochs by iteration',
            EPOCHS,
            {**BY_ITER, 'default_hooks.checkpoint.interval': 4},
            9,
            2,
        ),
        ('epochs by iteration', EPOCHS, BY_ITER, 11, 0),
        ('iterations', ITERS, {}, 13, 2),
    ],
    ids=['epoch', 'within an epoch', 'iteration at its end', 'iterations'],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    cifar10, tmp_path, uninterrupted, reference, train_cfg, options, iters,
    workers,
):  # fmt: skip
    loader = {'num_workers': workers, 'persistent_workers': workers > 0}
    options = {
        **options,
        **{f'train_dataloader.{k}': v for k, v in loader.items()},
    }
    cfg = config_of(cifar10, tmp_path, train_cfg, **options)
    run(cfg, f'{tmp_path.name}-first', iters)
    run(cfg, f'{tmp_path.name}-second', resume=True)
    assert_equal(final_state(tmp_path), uninterrupted[reference])


@pytest.fixture(scope='module')
def interrupted(cifar10, tmp_path_factory):
    """A run that was interrupted in its second epoch."""
    folder = tmp_path_factory.mktemp('interrupted')
    run(config_of(cifar10, folder, EPOCHS), folder.name, 6)
    return folder


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('train_cfg.max_epochs', 4, r'a run of 15 iterations.*got 20'),
        ('optim_wrapper.student.optimizer.lr', 0.01, r'lr=0\.1 \(now 0\.01\)'),
        ('train_dataloader.sampler.shuffle', False, 'True .now False'),
        ('randomness', dict(seed=7), r'randomness\.seed=[0-9]+ \(now 7\)'),
    ],
)
def test_settings_of_the_checkpoint_cannot_be_changed(
    cifar10, tmp_path, interrupted, name, value, message
):
    cfg = config_of(cifar10, interrupted, EPOCHS)
    cfg.merge_from_dict({name: value})
    with pytest.raises(ValueError, match=message):
        run(cfg, tmp_path.name, resume=True)


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
