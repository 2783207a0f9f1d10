# ResNet-18 from four layers of the unconditional ADM of ImageNet at 256 pixels
# on the images of COCO, through a feature pyramid, no labels.
_base_ = ['./repfusion-regressor_resnet50_coco.py']

model = dict(student=dict(depth=18))
