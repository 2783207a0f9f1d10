from .base import Condition, DenoiserFamily, Grid, find_family
from .dit import DiTFamily
from .pixart import PixArtFamily
from .unet2d import UNet2DFamily
from .unet2d_condition import UNet2DConditionFamily

__all__ = [
    'Condition',
    'DenoiserFamily',
    'DiTFamily',
    'Grid',
    'PixArtFamily',
    'UNet2DConditionFamily',
    'UNet2DFamily',
    'find_family',
]
