"""Students that mmpretrain, mmseg and mmpose lack."""

from importlib.util import find_spec

__all__ = []

# A project without mmpretrain distils its own backbones all the same.
if find_spec('mmpretrain') is not None:
    from .mobilenet_v2_cifar import MobileNetV2_CIFAR  # noqa: F401

    __all__.append('MobileNetV2_CIFAR')
