from .compare import (
    compare_strides,
    conv_strides,
    find_incompatible_keys,
    shorten,
)
from .initializers import StrictPretrained
from .io import (
    find_loaded_path,
    load_from_address,
    load_from_local,
    read_checkpoint,
)

__all__ = [
    'StrictPretrained',
    'compare_strides',
    'conv_strides',
    'find_incompatible_keys',
    'find_loaded_path',
    'load_from_address',
    'load_from_local',
    'read_checkpoint',
    'shorten',
]
