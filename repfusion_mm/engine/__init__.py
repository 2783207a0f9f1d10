from .checkpoint.initializers import StrictPretrained
from .hooks import (
    BufferedRuntimeInfoHook,
    EnvInfoHook,
    ExactResumeHook,
    ExportDenoiserHook,
    ExportStudentHook,
    FiniteLossHook,
    PreemptionHook,
    SafeCheckpointHook,
    SampleImagesHook,
    StrictLoadHook,
    TimestepPolicyHook,
)
from .optimizers import JointOptimWrapper, MultiOptimWrapperConstructor

__all__ = [
    'BufferedRuntimeInfoHook',
    'EnvInfoHook',
    'ExactResumeHook',
    'ExportDenoiserHook',
    'ExportStudentHook',
    'FiniteLossHook',
    'JointOptimWrapper',
    'MultiOptimWrapperConstructor',
    'PreemptionHook',
    'SafeCheckpointHook',
    'SampleImagesHook',
    'StrictLoadHook',
    'StrictPretrained',
    'TimestepPolicyHook',
]
