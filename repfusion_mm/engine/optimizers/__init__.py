from .joint_optim_wrapper import JointOptimWrapper, batches_per_update
from .multi_optim_wrapper_constructor import MultiOptimWrapperConstructor

__all__ = [
    'JointOptimWrapper',
    'MultiOptimWrapperConstructor',
    'batches_per_update',
]
