"""Run the miniature distiller by mmengine's runner, with data in memory."""

from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from tests.helpers.toy import DENOISER, SCHEDULER, batch, distiller_config

LABELS = [0, 1, None, 3, 4, 5, None, 7]


@DATASETS.register_module()
class MemoryDataset(BaseDataset):
    """Random images, some of them unlabeled."""

    def __init__(self, labels):
        self.labels = list(labels)
        self.items = batch(len(self.labels), self.labels)
        super().__init__()

    def load_data_list(self):
        return [
            {} if label is None else dict(gt_label=label)
            for label in self.labels
        ]

    def prepare_data(self, idx):
        return {key: values[idx] for key, values in self.items.items()}


def optim_wrapper():
    return dict(
        constructor='repfusion_mm.MultiOptimWrapperConstructor',
        student=dict(optimizer=dict(type='SGD', lr=0.1)),
        policy=dict(optimizer=dict(type='Adam', lr=1e-3)),
        decoder=dict(optimizer=dict(type='Adam', lr=1e-3)),
    )


def config(work_dir, hooks, labels=LABELS, max_epochs=4, **model):
    return Config(
        dict(
            default_scope='mmpretrain',
            model=distiller_config(**model),
            work_dir=str(work_dir),
            train_dataloader=dict(
                batch_size=4,
                sampler=dict(type='DefaultSampler', shuffle=True),
                batch_sampler=dict(type='repfusion_mm.SeededBatchSampler'),
                dataset=dict(
                    type='repfusion_mm.SeededConcatDataset',
                    datasets=[dict(type='MemoryDataset', labels=labels)],
                ),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
            optim_wrapper=optim_wrapper(),
            custom_hooks=hooks,
            visualizer=dict(
                type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
            ),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
            randomness=dict(seed=0),
            experiment_name=Path(work_dir).name,
        )
    )


def teacher_config(work_dir, hooks):
    cfg = config(work_dir, hooks, max_epochs=1)
    cfg.model = dict(
        type='repfusion_mm.DenoisingDiffusion',
        denoiser=DENOISER,
        scheduler=SCHEDULER,
        data_preprocessor=cfg.model.data_preprocessor,
    )
    cfg.optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
    return cfg
