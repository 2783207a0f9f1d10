"""MobileNetV2 for images of 32 to 64 pixels."""

from mmpretrain.models.backbones import MobileNetV2

from repfusion_mm.registry import MODELS


@MODELS.register_module()
class MobileNetV2_CIFAR(MobileNetV2):
    """MobileNetV2 (arXiv 1801.04381) that reduces 32 pixels to 4 instead of 1.

    The stem and the third stage have stride 1. Arguments, keys and weight
    shapes equal those of ``mmpretrain.MobileNetV2``, but the strides differ.
    Shapes do not reveal this: do not load a checkpoint of one class into the
    other.
    """

    # Expansion, channels, number of blocks and stride of each stage.
    arch_settings = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 1],
                     [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2],
                     [6, 320, 1, 1]]  # fmt: skip

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.conv1.conv.stride = (1, 1)
