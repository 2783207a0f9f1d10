# ResNet-50 from three layers of Stable Diffusion 2.1 on the images of COCO,
# through a feature pyramid, no labels. Encoding the empty prompt needs
# transformers, or teacher.prompt_file: see "Text" in docs/teachers.md.
_base_ = [
    '../_base_/runtime/default_runtime.py',
    '../_base_/runtime/distill_hooks.py',
    '../_base_/datasets/coco.py',
    '../_base_/models/repfusion_regressor.py',
    '../_base_/teachers/sd21.py',
    '../_base_/schedules/distill_200e.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    student=dict(out_indices=(1, 2, 3)),
    student_indices=(0, 1, 2),
    # Maps of 32, 16 and 8 pixels a side, as those of the student. Its first
    # stage has 64, and is left out: latents of 256-pixel images have 32.
    teacher=dict(
        _base_.teacher,
        layers=['up_blocks.2', 'up_blocks.1', 'up_blocks.0'],
    ),
    # Without labels there is no reward for a policy.
    policy=dict(type='repfusion_mm.UniformTimestepPolicy', **_base_.timesteps),
)
# Mixed precision needs a GPU; on a CPU set optim_wrapper.type=OptimWrapper.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    # Nothing to train.
    policy=None,
    decoder=None,
)
