from .base import TaskDecoder
from .cls_decoder import ClsDecoder
from .det_decoder import DetDecoder
from .keypoint_decoder import KeypointDecoder
from .seg_decoder import SegDecoder

__all__ = [
    'ClsDecoder', 'DetDecoder', 'KeypointDecoder', 'SegDecoder', 'TaskDecoder',
]  # fmt: skip
