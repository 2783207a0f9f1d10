from .export_hooks import ExportDenoiserHook, ExportStudentHook
from .initializers import StrictPretrained
from .lazy_info_hook import LazyRuntimeInfoHook
from .optim import JointOptimWrapper, PartwiseOptimWrapperConstructor
from .policy_hook import TimestepPolicyHook
from .sample_hook import SampleImagesHook
from .strict_hook import StrictLoadHook
from .versions_hook import VersionsHook

__all__ = [
    'ExportDenoiserHook',
    'ExportStudentHook',
    'JointOptimWrapper',
    'LazyRuntimeInfoHook',
    'PartwiseOptimWrapperConstructor',
    'SampleImagesHook',
    'StrictLoadHook',
    'StrictPretrained',
    'TimestepPolicyHook',
    'VersionsHook',
]
