from .base import BaseNormalizer
from .layer_norm import LayerNormNormalizer
from .phi_s import PHISNormalizer
from .standardize import StandardizeNormalizer

__all__ = [
    'BaseNormalizer',
    'LayerNormNormalizer',
    'PHISNormalizer',
    'StandardizeNormalizer',
]
