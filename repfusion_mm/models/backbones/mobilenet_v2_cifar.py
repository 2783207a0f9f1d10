"""MobileNetV2 for images of 32 to 64 pixels."""

from mmpretrain.models.backbones import MobileNetV2

from repfusion_mm.registry import MODELS


@MODELS.register_module()
class MobileNetV2_CIFAR(MobileNetV2):
    """MobileNetV2 (arXiv 1801.04381) that reduces 32 pixels to 4, not to 1.

    The stem and the third stage keep the grid. Arguments and keys are those
    of ``mmpretrain.MobileNetV2``, and so are all shapes of weights: strides
    do not show in a checkpoint, so do not finetune one as the other.
    """

    # Expansion, channels, blocks and stride of each stage.
    arch_settings = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 1],
                     [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2],
                     [6, 320, 1, 1]]  # fmt: skip

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.conv1.conv.stride = (1, 1)
