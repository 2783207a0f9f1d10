"""The best checkpoint is kept, and files are written completely."""

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS
from mmengine.runner import Runner

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.hooks.checkpoint_hook import (
    AtomicLocalBackend,
    SafeCheckpointHook,
)
from tests.helpers import tiny_run


@MODELS.register_module()
class OneWeight(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode):
        return dict(loss=self.weight.sum()) if mode == 'loss' else [inputs]


@METRICS.register_module()
class Scripted(BaseMetric):
    def __init__(self, scores):
        super().__init__()
        self.scores = iter(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        up = next(self.scores)
        return dict(up=up, down=-up)


def run(work_dir, scores, save_best=None, hooks=(), resume=None, **settings):
    loader = dict(
        batch_size=1,
        num_workers=0,
        dataset=[dict(inputs=0.0)] * 2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    runner = Runner(
        OneWeight(),
        str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=len(scores)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=dict(type='Scripted', scores=scores),
        default_hooks=dict(
            checkpoint=dict(
                type='repfusion_mm.SafeCheckpointHook',
                save_best=save_best,
                rule='greater',
                **(dict(interval=1, max_keep_ckpts=1) | settings),
            )
        ),
        custom_hooks=[*hooks],
        experiment_name=work_dir.name,
        load_from=resume and str(resume),
        resume=resume is not None,
        log_level='WARNING',
    )
    runner.train()


def names(work_dir, pattern='*.pth'):
    return sorted(path.name for path in work_dir.glob(pattern))


def best(work_dir):
    return names(work_dir, 'best_*')


@pytest.mark.parametrize('num_kept', [1, 2])
def test_a_file_of_several_steps_is_kept(tmp_path, num_kept):
    run(
        tmp_path,
        [1] * 4,
        filename_tmpl='latest.pth',
        max_keep_ckpts=num_kept,
    )
    assert names(tmp_path) == ['latest.pth']
    assert torch.load(tmp_path / 'latest.pth', weights_only=False)


def test_hooks_of_other_files_keep_their_own(tmp_path):
    by_iter = dict(
        type='repfusion_mm.SafeCheckpointHook',
        by_epoch=False,
        interval=3,
        max_keep_ckpts=2,
    )
    run(tmp_path, [1] * 5, hooks=[by_iter], max_keep_ckpts=3)
    kept = [f'epoch_{i}.pth' for i in (3, 4, 5)]
    assert names(tmp_path) == [*kept, 'iter_10.pth', 'iter_9.pth']
    path = tmp_path / 'epoch_5.pth'
    run(tmp_path, [1] * 7, hooks=[by_iter], max_keep_ckpts=3, resume=path)
    kept = [f'epoch_{i}.pth' for i in (5, 6, 7)]
    assert names(tmp_path) == [*kept, 'iter_12.pth', 'iter_14.pth']


class AddHook(Hook):
    """Add an object to each checkpoint that is not read safely."""

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['added'] = OneWeight()


def test_a_checkpoint_that_cannot_be_read_is_logged_once(tmp_path, capfd):
    run(tmp_path, [1] * 3, hooks=[AddHook()])
    printed = capfd.readouterr()
    text = printed.out + printed.err
    assert text.count('cannot resume or test this run') == 1
    assert 'epoch_1.pth' in text


def test_a_cycle_of_learning_rates_is_resumed(tmp_path):
    checkpoint = dict(type='repfusion_mm.SafeCheckpointHook', interval=1)
    cfg = tiny_run.config(
        tmp_path,
        tmp_path.name,
        param_scheduler=[dict(type='OneCycleLR', eta_max=0.1, total_steps=3)],
        default_hooks=dict(checkpoint=checkpoint),
    )
    tiny_run.build(cfg).train()
    path = tmp_path / 'epoch_2.pth'
    (state,) = load_from_local(path)['param_schedulers']
    assert state['last_step'] == 2
    last = load_from_local(tmp_path / 'epoch_3.pth')['state_dict']['weight']
    cfg.update(resume=True, load_from=str(path), experiment_name='resumed')
    resumed = tiny_run.build(cfg)
    resumed.train()
    assert torch.equal(resumed.model.weight, last)


def test_an_old_name_of_the_local_backend_is_as_safe():
    hook = SafeCheckpointHook(file_client_args=dict(backend='disk'))
    assert hook.file_client_args is None


@pytest.mark.parametrize(
    ('hook', 'message'),
    [
        (dict(max_keep_ckpts=2), 'max_keep_ckpts=1 and 2'),
        (dict(interval=2, max_keep_ckpts=1), r'epoch_\{\}\.pth, got Safe'),
        (dict(), 'SafeCheckpointHook and CheckpointHook with'),
        (dict(out_dir='elsewhere', save_best='down'), r"\['up', 'down'\]"),
    ],
)
def test_hooks_that_remove_the_files_of_each_other(tmp_path, hook, message):
    hook = dict(type='CheckpointHook', rule='less', interval=1) | hook
    with pytest.raises(ValueError, match=message):
        run(tmp_path, [1], 'up', [hook])
    assert not names(tmp_path)


def test_the_best_of_a_run_in_another_folder_is_kept(tmp_path):
    run(tmp_path / 'a', [1], 'up')
    path = tmp_path / 'a' / 'epoch_1.pth'
    run(tmp_path / 'b', [2, 0], 'up', resume=path)
    assert best(tmp_path / 'a') == ['best_up_epoch_1.pth']
    assert best(tmp_path / 'b') == ['best_up_epoch_2.pth']


def test_files_of_another_run_in_a_shared_folder_are_announced(
    tmp_path, capfd
):
    run(tmp_path / 'a' / 'x', [1], out_dir=str(tmp_path / 'all'))
    run(tmp_path / 'b' / 'x', [1], out_dir=str(tmp_path / 'all'))
    printed = capfd.readouterr()
    text = printed.out + printed.err
    assert text.count('all/x holds checkpoints of an earlier run (epoch') == 1


@pytest.mark.parametrize('save_best', ['up', 'auto'])
def test_only_the_best_is_kept(tmp_path, save_best):
    run(tmp_path, [1, 3, 2], save_best)
    assert best(tmp_path) == ['best_up_epoch_2.pth']


def test_the_best_of_each_metric_is_kept(tmp_path):
    run(tmp_path, [1, 3, 2], ['up', 'down'])
    assert best(tmp_path) == ['best_down_epoch_1.pth', 'best_up_epoch_2.pth']


def test_a_full_disk_leaves_the_previous_best(tmp_path, monkeypatch):
    put = AtomicLocalBackend.put

    def full(self, obj, filepath):
        if 'best_up_epoch_2' in str(filepath):
            raise OSError(28, 'No space left on device')
        put(self, obj, filepath)

    monkeypatch.setattr(AtomicLocalBackend, 'put', full)
    message = 'the best checkpoint, got No space left .* is .*epoch_2.pth'
    with pytest.raises(OSError, match=message):
        run(tmp_path, [1, 3, 2], 'up')
    assert best(tmp_path) == ['best_up_epoch_1.pth']
