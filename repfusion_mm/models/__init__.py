from . import backbones
from .connectors import ConvConnector, FeatureRegressor
from .data_preprocessors import BatchDataPreprocessor
from .decoders import ClsDecoder, DetDecoder, KeypointDecoder, SegDecoder
from .diffusion import AutoencoderTraining, DenoisingDiffusion
from .distillers import RepFusion
from .losses import (
    AttentionTransferLoss,
    CosineHintLoss,
    HintLoss,
    RelationalLoss,
    SumLoss,
    TokenRelationLoss,
)
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
    'CosineHintLoss',
    'DenoisingDiffusion',
    'DetDecoder',
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
    'SumLoss',
    'TimmTeacher',
    'TokenRelationLoss',
    'UniformTimestepPolicy',
]

if backbones.__all__:  # mmpretrain is installed
    from .backbones import MobileNetV2_CIFAR  # noqa: F401

    __all__.append('MobileNetV2_CIFAR')
