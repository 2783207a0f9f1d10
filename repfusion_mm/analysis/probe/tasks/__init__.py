"""What a linear model predicts from features, for each kind of label."""

from .base import Grid, Task
from .classification import ClassTask
from .keypoints import KeypointTask
from .masks import MaskTask
from .ridge import LeaveOneOutRidge

__all__ = [
    'ClassTask', 'Grid', 'KeypointTask', 'LeaveOneOutRidge', 'MaskTask',
    'Task',
]  # fmt: skip
