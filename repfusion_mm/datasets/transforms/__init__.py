from .boxes_to_mask import BoxesToMask
from .loading import LoadImage

__all__ = ['BoxesToMask', 'LoadImage']
