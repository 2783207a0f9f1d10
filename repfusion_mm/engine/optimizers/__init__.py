from .bfloat16_optim_wrapper import BFloat16OptimWrapper
from .joint_optim_wrapper import JointOptimWrapper, batches_per_update
from .multi_optim_wrapper_constructor import MultiOptimWrapperConstructor

__all__ = [
    'BFloat16OptimWrapper',
    'JointOptimWrapper',
    'MultiOptimWrapperConstructor',
    'batches_per_update',
]
