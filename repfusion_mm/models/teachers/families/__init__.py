from .base import Condition, DenoiserFamily, Grid, find_family
from .dit import DiTFamily
from .flux import FluxFamily, PackedFamily
from .pixart import PixArtFamily
from .qwen_image import QwenImageFamily
from .sana import SanaFamily
from .sd3 import SD3Family
from .unet2d import UNet2DFamily
from .unet2d_condition import UNet2DConditionFamily

__all__ = [
    'Condition',
    'DenoiserFamily',
    'DiTFamily',
    'FluxFamily',
    'Grid',
    'PackedFamily',
    'PixArtFamily',
    'QwenImageFamily',
    'SD3Family',
    'SanaFamily',
    'UNet2DConditionFamily',
    'UNet2DFamily',
    'find_family',
]
