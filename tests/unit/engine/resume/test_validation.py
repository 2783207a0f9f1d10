"""A validation that an interruption skipped is run on resuming."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EarlyStoppingHook
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS
from mmengine.runner import Runner

from repfusion_mm.datasets import SeededConcatDataset
from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.resume.validation import is_validation_due
from tests.helpers.tiny_run import Interruption


@MODELS.register_module()
class TwoSlopes(BaseModel):
    """A weight that increases, and then decreases."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode):
        if mode == 'loss':
            return dict(loss=(-self.weight * inputs).sum())
        return [self.weight.detach().clone()]


@METRICS.register_module()
class Weight(BaseMetric):
    """Return the weight, or raise in the nth validation."""

    def __init__(self, interrupt=None):
        super().__init__()
        self.countdown = interrupt

    def process(self, data_batch, data_samples):
        if self.countdown is not None:
            self.countdown -= 1
            if self.countdown == 0:
                raise Interruption
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(weight=results[0].item())


class Inputs(BaseDataset):
    """Items that are a number."""

    def __init__(self, data):
        self.data = data
        super().__init__()

    def load_data_list(self):
        return [dict(inputs=i) for i in self.data]

    def prepare_data(self, idx):
        return dict(inputs=self.data[idx])


def loader(data):
    return dict(
        batch_size=1,
        num_workers=0,
        dataset=SeededConcatDataset([Inputs(data)]),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
        collate_fn=dict(type='default_collate'),
    )


EPOCHS = dict(by_epoch=True, max_epochs=3)
ITERS = dict(by_epoch=False, max_iters=6, val_interval=2)


def build(
    work_dir,
    train_cfg,
    start,
    resume=False,
    interrupt=None,
    hooks=(),
    **kwargs,
):
    """Build a run that validates after 2, 4 and 6 iterations."""
    by_epoch = train_cfg['by_epoch']
    # An epoch of the same inputs, in which the weight increases only.
    data = [1.0, 1.0] if by_epoch else [1.0, 1.0, 1.0, 1.0, -1.0, 0.0]
    checkpoint = dict(
        type='repfusion_mm.SafeCheckpointHook',
        by_epoch=by_epoch,
        interval=1 if by_epoch else 2,
        save_best='weight',
        rule='greater',
    )
    return Runner(
        TwoSlopes(),
        str(work_dir),
        train_dataloader=loader(data),
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.5)),
        val_dataloader=loader([1.0]),
        val_cfg=dict(),
        val_evaluator=dict(type='Weight', interrupt=interrupt),
        default_hooks=dict(checkpoint=checkpoint),
        custom_hooks=[
            dict(type='repfusion_mm.StrictLoadHook'),
            dict(type='repfusion_mm.ExactResumeHook'),
            *hooks,
        ],
        randomness=dict(seed=0),
        resume=resume,
        experiment_name=f'{work_dir.parent.name}-{work_dir.name}-{start}',
        log_level='ERROR',
        **kwargs,
    )


def scores(runner):
    return list(runner.message_hub.get_scalar('val/weight').data[0])


def best(work_dir):
    return [path.name for path in work_dir.glob('best_*')]


@pytest.fixture(scope='module')
def references(tmp_path_factory):
    """Uninterrupted runs, by whether they count epochs."""
    found = {}
    for train_cfg in (EPOCHS, ITERS):
        folder = tmp_path_factory.mktemp('reference')
        found[train_cfg['by_epoch']] = build(folder, train_cfg, 0)
        found[train_cfg['by_epoch']].train()
    return found


@pytest.mark.parametrize('train_cfg', [EPOCHS, ITERS], ids=['epoch', 'iter'])
@pytest.mark.parametrize('interrupt', [1, 2, 3])
def test_an_interrupted_validation_is_run_again(
    tmp_path, references, train_cfg, interrupt
):
    reference = references[train_cfg['by_epoch']]
    first = build(tmp_path / 'resumed', train_cfg, 1, interrupt=interrupt)
    with pytest.raises(Interruption):
        first.train()
    resumed = build(tmp_path / 'resumed', train_cfg, 2, resume=True)
    resumed.train()
    assert scores(reference)
    assert scores(resumed) == scores(reference)
    folders = [Path(reference.work_dir), tmp_path / 'resumed']
    assert best(folders[1]) == best(folders[0])
    name = 'epoch_3.pth' if train_cfg['by_epoch'] else 'iter_6.pth'
    ends = [
        load_from_local(folder / name)['state_dict']['weight']
        for folder in folders
    ]
    assert torch.equal(*ends)


def test_a_schedule_makes_the_step_of_a_validation_once(tmp_path):
    """A best score writes the checkpoint again, after the step."""
    kwargs = dict(
        param_scheduler=dict(
            type='ReduceOnPlateauLR', monitor='weight', rule='greater',
            patience=0,
        )
    )  # fmt: skip
    first = build(tmp_path / 'first', EPOCHS, 1, **kwargs)
    first.train()
    path = str(tmp_path / 'first/epoch_1.pth')
    kwargs.update(resume=True, load_from=path)
    resumed = build(tmp_path / 'resumed', EPOCHS, 2, **kwargs)
    resumed.train()
    assert resumed.optim_wrapper.get_lr() == first.optim_wrapper.get_lr()
    ends = [run.param_schedulers[0].state_dict() for run in (first, resumed)]
    assert ends[0]['num_bad_epochs'] == ends[1]['num_bad_epochs']


def test_a_checkpoint_before_its_validation_is_not_validated(tmp_path):
    """Also with one after each iteration."""
    every = dict(ITERS, val_interval=1)
    run = build(tmp_path / 'run', every, 1, interrupt=2)
    with pytest.raises(Interruption):
        run.train()
    meta = load_from_local(tmp_path / 'run/iter_2.pth')['meta']
    assert meta['iter'] == 2 and not meta['validated']


def stop_early(tmp_path, rule):
    """Return a run that stops early, and one that resumes its 2nd epoch."""
    stop = dict(
        type='EarlyStoppingHook', monitor='weight', rule='less', patience=2
    )
    epochs = dict(by_epoch=True, max_epochs=6)
    first = build(tmp_path / 'first', epochs, 1, hooks=[stop])
    first.train()
    path = str(tmp_path / 'first/epoch_2.pth')
    resumed = build(
        tmp_path / 'resumed', epochs, 2, hooks=[dict(stop, rule=rule)],
        resume=True, load_from=path,
    )  # fmt: skip
    return first, resumed


def test_early_stopping_continues_to_count(tmp_path):
    first, resumed = stop_early(tmp_path, 'less')
    resumed.train()
    assert resumed.epoch == first.epoch == 3


def test_early_stopping_by_another_rule_starts_anew(tmp_path):
    _, resumed = stop_early(tmp_path, 'greater')
    resumed.load_or_resume()
    (hook,) = [h for h in resumed.hooks if isinstance(h, EarlyStoppingHook)]
    assert hook.wait_count == 0 and hook.best_score == -math.inf


@pytest.mark.parametrize(
    ('epoch', 'iteration', 'due'),
    [(0, 0, False), (1, 2, True), (1, 3, False), (1, 4, False), (2, 4, True)],
)
def test_validations_are_due_after_an_epoch(tmp_path, epoch, iteration, due):
    """Not within one, nor before the first."""
    runner = build(tmp_path / 'run', EPOCHS, f'{epoch}-{iteration}')
    loop = runner.build_train_loop(EPOCHS)
    loop._epoch, loop._iter = epoch, iteration
    assert is_validation_due(loop) == due
