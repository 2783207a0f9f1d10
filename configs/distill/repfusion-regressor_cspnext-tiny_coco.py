# The backbone of RTMDet-tiny and RTMPose-t from three layers of the
# unconditional ADM of ImageNet at 256 pixels on the images of COCO, through a
# feature pyramid, no labels.
_base_ = ['./repfusion-regressor_resnet50_coco.py']

model = dict(
    # BGR images, as in the configs of RTMDet.
    data_preprocessor=dict(
        mean=[103.53, 116.28, 123.675],
        std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False,
    ),
    channel_order='bgr',
    student=dict(
        _delete_=True,
        type='mmdet.CSPNeXt',
        deepen_factor=0.167,
        widen_factor=0.375,
        # The default has another eps than the SyncBN of RTMDet.
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='SiLU', inplace=True),
    ),
    # The three stages that the neck of RTMDet reads, and the layers with maps
    # of their sizes: 32, 16 and 8 pixels a side.
    student_indices=(0, 1, 2),
    teacher=dict(layers=['up_blocks.1', 'up_blocks.0', 'mid_block']),
)
# The init_cfg of RTMDet and RTMPose has this prefix.
default_hooks = dict(export_student=dict(prefix='backbone.'))
