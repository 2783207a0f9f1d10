# A small DDPM of faces, shipped as projects/faces/ddpm_faces.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/training_hooks.py',
    '../_base_/datasets/faces.py',
    '../_base_/models/ddpm_64px.py',
    '../_base_/schedules/ddpm_small.py',
]

train_dataloader = dict(dataset=dict(datasets=[_base_.unlabeled]))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1000))
