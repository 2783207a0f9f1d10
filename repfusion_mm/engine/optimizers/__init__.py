from .joint_optim_wrapper import (
    JointOptimWrapper,
    MultiOptimWrapperConstructor,
)

__all__ = ['JointOptimWrapper', 'MultiOptimWrapperConstructor']
