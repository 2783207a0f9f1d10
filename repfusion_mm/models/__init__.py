from importlib import import_module

from repfusion_mm.registry import MODELS

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


def __getattr__(name: str) -> object:
    """Import a backbone when it is used, as it needs mmpretrain."""
    if name not in MODELS.modules:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(MODELS.modules[name]), name)
