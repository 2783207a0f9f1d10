# ResNet-18 from the unconditional ADM of ImageNet at 256 pixels on the images
# of COCO, dense hint, no labels.
_base_ = ['./repfusion_resnet50_coco.py']

model = dict(student=dict(depth=18))
