# ResNet-18 from the class-conditional ADM of ImageNet at 64 pixels, hint loss.
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/tiny_imagenet.py',
    '../_base_/schedules/distill_200e.py',
]

# By tools/model_converters/guided_diffusion_to_diffusers.py.
teacher_folder = 'data/teachers/imagenet64'

model = dict(
    type='repfusion_mm.RepFusion',
    data_preprocessor=_base_.data_preprocessor,
    # With the stem for small images, as its finetuning has it.
    student=dict(type='mmpretrain.ResNet_CIFAR', depth=18),
    teacher=dict(
        type='repfusion_mm.DiffusersTeacher',
        pretrained=teacher_folder,
        layers=['middle_block.2.out_layers.3'],
    ),
    policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
    decoder=dict(
        type='repfusion_mm.ClsDecoder',
        num_classes=200,
        hidden_channels=(384, 384),
    ),
    distill_loss=dict(type='repfusion_mm.HintLoss'),
)
# Mixed precision needs a GPU; elsewhere optim_wrapper.type=OptimWrapper. The
# loss scale is dynamic; the public code's is 512.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    student=dict(optimizer=dict(nesterov=True)),
)
