from . import backbones
from .connectors import ConvConnector, FeatureRegressor
from .data_preprocessors import BatchDataPreprocessor
from .decoders import ClsDecoder, KeypointDecoder, SegDecoder
from .diffusion import AutoencoderTraining, DenoisingDiffusion
from .distillers import RepFusion
from .losses import AttentionTransferLoss, HintLoss, RelationalLoss
from .normalizers import (
    LayerNormNormalizer,
    PHISNormalizer,
    StandardizeNormalizer,
)
from .policies import (
    FixedTimestepPolicy,
    LearnedTimestepPolicy,
    UniformTimestepPolicy,
)
from .teachers import DiffusersTeacher, TimmTeacher

__all__ = [
    'AttentionTransferLoss',
    'AutoencoderTraining',
    'BatchDataPreprocessor',
    'ClsDecoder',
    'ConvConnector',
    'DenoisingDiffusion',
    'DiffusersTeacher',
    'FeatureRegressor',
    'FixedTimestepPolicy',
    'HintLoss',
    'KeypointDecoder',
    'LayerNormNormalizer',
    'LearnedTimestepPolicy',
    'PHISNormalizer',
    'RelationalLoss',
    'RepFusion',
    'SegDecoder',
    'StandardizeNormalizer',
    'TimmTeacher',
    'UniformTimestepPolicy',
]

if backbones.__all__:  # mmpretrain is installed
    from .backbones import MobileNetV2_CIFAR  # noqa: F401

    __all__.append('MobileNetV2_CIFAR')
