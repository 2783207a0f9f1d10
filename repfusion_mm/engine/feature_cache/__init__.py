from .checks import check_cacheable, check_cached_features
from .writing import write_feature_caches

__all__ = [
    'check_cacheable',
    'check_cached_features',
    'write_feature_caches',
]
