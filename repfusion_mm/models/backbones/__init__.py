"""Students that mmpretrain, mmseg and mmpose do not have."""

from importlib.util import find_spec

__all__: list = []

# Other backbones can be distilled without mmpretrain.
if find_spec('mmpretrain') is not None:
    from .mobilenet_v2_cifar import MobileNetV2_CIFAR  # noqa: F401

    __all__.append('MobileNetV2_CIFAR')
