from .checks import check_cacheable, check_cached_features
from .writing import wrap_in_latents, write_feature_caches

__all__ = [
    'check_cacheable',
    'check_cached_features',
    'wrap_in_latents',
    'write_feature_caches',
]
