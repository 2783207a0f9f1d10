# ResNet-18 from the unconditional ADM of ImageNet at 256 pixels, hint loss.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/distill_200e.py',
]

# By tools/model_converters/guided_diffusion_to_diffusers.py.
teacher_folder = 'data/teachers/imagenet256-uncond'

model = dict(
    type='repfusion_mm.RepFusion',
    data_preprocessor=_base_.data_preprocessor,
    student=dict(type='mmpretrain.ResNet', depth=18),
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained=teacher_folder,
        layers=['middle_block.2.out_layers.3'],
    ),
    policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
    # Half the teacher's channels, as for Tiny-ImageNet.
    decoder=dict(
        type='repfusion_mm.ClsDecoder',
        num_classes=1000,
        hidden_channels=(512, 512),
    ),
    distill_loss=dict(type='repfusion_mm.HintLoss'),
)
# Mixed precision needs a GPU; elsewhere optim_wrapper.type=OptimWrapper.
optim_wrapper = dict(type='AmpOptimWrapper')
