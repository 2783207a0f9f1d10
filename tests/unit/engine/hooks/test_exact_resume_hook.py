"""A resumed run is bit-identical to an uninterrupted one."""

import itertools
import random
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.hooks.exact_resume_hook import (
    ExactResumeHook,
    check_accumulation,
)
from repfusion_mm.engine.resume.checks import (
    log_changed_settings,
    other_settings,
)
from tests.helpers import tiny_run
from tests.helpers.equal import assert_equal
from tests.helpers.tiny_run import (
    InterruptHook,
    Interruption,
    NoiseDataset,
)
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
    # All runs are resumed while statistics are collected, in 12 iterations.
    normalizer = dict(type='repfusion_mm.PHISNormalizer', num_images=96)
    model = distiller_config(channel_order='rgb', normalizer=normalizer)
    model['data_preprocessor']['bgr_to_rgb'] = False  # CIFAR-10 is RGB
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
        model=model,
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
    with pytest.raises(ValueError, match=r'after 5 batches \(interval\)'):
        run(cfg, tmp_path.name)


@pytest.mark.parametrize(
    ('checkpoint', 'name'),
    [
        (dict(interval=4, save_begin=5), 'after 5 batches .interval'),
        (dict(interval=-1, save_best='auto'), 'after 3 batches .save_best'),
        (dict(interval=4, save_begin=2), None),
        # The last batch ends an update.
        (dict(interval=11), None),
        (dict(interval=13), None),
    ],
)
def test_all_checkpoints_are_after_complete_updates(checkpoint, name):
    hook = CheckpointHook(by_epoch=False, **checkpoint)
    runner = SimpleNamespace(
        optim_wrapper=SimpleNamespace(_accumulative_counts=2),
        train_loop=SimpleNamespace(val_interval=3),
        val_loop=object(), train_dataloader=(), hooks=[hook], max_iters=11,
    )  # fmt: skip
    if name is None:
        check_accumulation(runner)
        return
    with pytest.raises(ValueError, match=name):
        check_accumulation(runner)


def test_a_test_does_not_resume():
    """A dumped config of a resumed run has resume=True."""
    runner = SimpleNamespace(_resume=True, optim_wrapper=dict(optimizer={}))
    ExactResumeHook().after_load_checkpoint(runner, dict(state_dict={}))


@pytest.mark.parametrize(
    ('key', 'value', 'said'),
    [
        ('custom_hooks', [dict(type='EMAHook', momentum=0.2)],
         r'custom_hooks\.0\.momentum=0\.1 \(now 0\.2\)'),
        ('train_dataloader.drop_last', True, r'drop_last=None \(now True\)'),
        ('train_dataloader.dataset.pipeline', [dict(type='Flip')],
         r"pipeline\.0\.type=None \(now '?Flip"),
        ('train_dataloader.batch_size', 9, None),  # which is refused
    ],
)  # fmt: skip
def test_other_settings_that_changed_are_logged(key, value, said):
    cfg = Config(
        dict(
            custom_hooks=[dict(type='EMAHook', momentum=0.1)],
            train_dataloader=dict(batch_size=2, dataset=dict(type='Images')),
        )
    )
    found = []
    runner = SimpleNamespace(
        cfg=cfg, logger=SimpleNamespace(warning=found.append)
    )
    meta = dict(other_settings=other_settings(runner))
    log_changed_settings(runner, meta)
    assert not found
    cfg.merge_from_dict({key: value})
    log_changed_settings(runner, meta)
    assert len(found) == bool(said)
    assert re.search(said or '', ''.join(found))


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


class Lazy(torch.utils.data.Sampler):
    """Draws each index from a global generator."""

    def __init__(self, dataset, seed=None):
        self.dataset = dataset

    def __iter__(self):
        for _ in range(len(self)):
            yield random.randrange(len(self))

    def __len__(self):
        return len(self.dataset)


class Growing(Lazy):
    """Its order depends on the passes before."""

    num_passes = 0

    def __iter__(self):
        self.num_passes += 1
        yield from ((i * self.num_passes) % 7 for i in range(len(self)))


class Endless(Lazy):
    """An endless pass, though it has a length."""

    def __iter__(self):
        return (i % len(self) for i in itertools.count(3, 4))


class Pairs:
    """A batch sampler without the attributes of torch's."""

    def __init__(self, sampler, batch_size):
        self.indices = sampler

    def __iter__(self):
        indices = iter(self.indices)
        return iter([[next(indices), next(indices)] for _ in range(3)])

    def __len__(self):
        return 3


def torch_loader():
    """Return a DataLoader object, shuffled by a global generator."""
    dataset = torch.utils.data.Subset(NoiseDataset(), range(9))
    return torch.utils.data.DataLoader(dataset, 3, shuffle=True)


SAMPLERS = {
    'default': {},
    'infinite': dict(sampler=dict(type='InfiniteSampler')),
    'sequential': dict(sampler=dict(type='DefaultSampler', shuffle=False)),
    'lazy': dict(sampler=dict(type=Lazy)),
    'growing': dict(sampler=dict(type=Growing)),
    'endless': dict(sampler=dict(type=Endless)),
    'class': dict(sampler=dict(type=DefaultSampler)),
    'sliced': dict(num_batch_per_epoch=3),
    'pairs': dict(batch_sampler=dict(type=Pairs), drop_last=False),
    'wrapper only': dict(
        dataset=dict(
            type='repfusion_mm.SeededConcatDataset',
            datasets=[dict(type='NoiseDataset')],
        )
    ),
    'sampler only': dict(
        batch_sampler=dict(
            type='repfusion_mm.SeededBatchSampler', drop_last=True
        ),
        drop_last=False,
    ),
    'object': torch_loader,
}
CASES = [
    (name, by_epoch, 0)
    for name in SAMPLERS
    for by_epoch in (True, False)
    if not (by_epoch and name in ('infinite', 'endless'))
]
CASES += [('default', True, 1), ('infinite', False, 1)]


def run_tiny(folder, name, sampler, by_epoch, workers=0, iters=None, **cfg):
    """Train; return the weight, and the batches it was trained on."""
    loader = SAMPLERS[sampler]
    if callable(loader):
        loader = loader()
    else:
        loader = dict(loader, num_workers=workers)
    runner = tiny_run.build(
        tiny_run.config(folder, name, loader, by_epoch, **cfg)
    )
    if iters is None:
        runner.train()
    else:
        runner.register_hook(InterruptHook(iters))
        with pytest.raises(Interruption):
            runner.train()
    return runner.model.weight.item(), runner.model.batches


@pytest.mark.parametrize(('sampler', 'by_epoch', 'workers'), CASES)
def test_any_dataloader_is_resumed_exactly(
    tmp_path, sampler, by_epoch, workers
):
    """From iteration 2 within the first epoch, and from iteration 8."""
    weight, batches = run_tiny(tmp_path, 'a', sampler, by_epoch)
    assert len({str(batch) for batch in batches}) == 9
    for iters in (3, 8):
        folder = tmp_path / str(iters)
        run_tiny(folder, f'b{iters}', sampler, by_epoch, workers, iters)
        resumed = run_tiny(folder, f'c{iters}', sampler, by_epoch, resume=True)
        assert resumed == (weight, batches[iters // 2 * 2 :])
