# ResNet-18 from the DDPM of CelebA-HQ at 256 pixels, dense hint, no labels.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/distill_hooks.py',
    '../_base_/datasets/celebahq.py',
    '../_base_/models/repfusion_dense.py',
    '../_base_/teachers/ddpm_celebahq.py',
    '../_base_/schedules/distill_200e.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    teacher=_base_.teacher,
    # As in the paper's reference implementation. Without labels there is no
    # reward for a policy.
    policy=dict(type='repfusion_mm.FixedTimestepPolicy', timestep=0),
)
optim_wrapper = dict(policy=None, decoder=None)  # nothing to train
