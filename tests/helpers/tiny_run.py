"""A model and a dataset that use random numbers, run by mmengine's runner."""

import random

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner


@DATASETS.register_module()
class NoiseDataset(BaseDataset):
    """Items are their index plus noise of all three generators."""

    def __init__(self, size=10):
        self.size = size
        super().__init__(serialize_data=False)

    def load_data_list(self):
        return [dict(width=i % 3, height=1) for i in range(self.size)]

    def prepare_data(self, idx):
        noise = random.random() + np.random.rand() + torch.rand(1).item()
        return torch.tensor(idx + noise / 3)


@MODELS.register_module()
class NoiseModel(BaseModel):
    """One weight, trained on noisy batches; records what it was given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.batches = []

    def forward(self, inputs, mode='tensor'):
        self.batches.append(inputs.tolist())
        return dict(loss=(self.weight * inputs * torch.rand(())).mean())

    def train_step(self, data, optim_wrapper):
        losses = self(data)
        optim_wrapper.update_params(losses['loss'])
        return losses


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


def config(work_dir, name, loader=None, by_epoch=True, **settings):
    """Return the settings of a run of 9 iterations, saved every second.

    ``loader`` is a DataLoader, or changes to ``train_dataloader``.
    """
    if not isinstance(loader, torch.utils.data.DataLoader):
        loader = dict(
            batch_size=3,
            num_workers=0,
            drop_last=True,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(type='NoiseDataset'),
            collate_fn=dict(type='default_collate'),
        ) | (loader or {})
    length = dict(max_epochs=3) if by_epoch else dict(max_iters=9)
    checkpoint = dict(type='CheckpointHook', interval=2, by_epoch=False)
    cfg = dict(
        default_scope='mmengine',
        model=dict(type='NoiseModel'),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=by_epoch, **length),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        default_hooks=dict(checkpoint=checkpoint),
        custom_hooks=[dict(type='repfusion_mm.ExactResumeHook')],
        custom_imports=dict(imports=['repfusion_mm']),
        randomness=dict(seed=0),
        log_level='ERROR',
        work_dir=str(work_dir),
        experiment_name=name,
    )
    cfg.update(settings)
    return cfg


def build(cfg):
    """Build a runner, of arguments if there is an object in them."""
    if isinstance(cfg['train_dataloader'], dict):
        return Runner.from_cfg(Config(cfg))
    cfg = {k: v for k, v in cfg.items() if k != 'custom_imports'}
    return Runner(**cfg)
