"""There is a best checkpoint at any time."""

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS
from mmengine.runner import Runner

from repfusion_mm.engine.hooks.checkpoint_hook import AtomicLocalBackend


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


def run(work_dir, scores, save_best):
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
                max_keep_ckpts=1,
            )
        ),
        experiment_name=work_dir.name,
        log_level='ERROR',
    )
    runner.train()


def best(work_dir):
    return sorted(path.name for path in work_dir.glob('best_*'))


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
    with pytest.raises(OSError, match='No space left'):
        run(tmp_path, [1, 3, 2], 'up')
    assert best(tmp_path) == ['best_up_epoch_1.pth']
