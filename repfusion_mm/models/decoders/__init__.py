from .base import TaskDecoder
from .cls_decoder import ClsDecoder
from .keypoint_decoder import KeypointDecoder
from .seg_decoder import SegDecoder

__all__ = ['ClsDecoder', 'KeypointDecoder', 'SegDecoder', 'TaskDecoder']
