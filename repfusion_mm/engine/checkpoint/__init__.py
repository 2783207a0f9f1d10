from .initializers import StrictPretrained
from .io import load_from_address, load_from_local, read_checkpoint

__all__ = [
    'StrictPretrained',
    'load_from_address',
    'load_from_local',
    'read_checkpoint',
]
