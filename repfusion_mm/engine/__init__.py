from .checkpoint_hook import SafeCheckpointHook
from .exact_resume_hook import ExactResumeHook
from .export_hooks import ExportDenoiserHook, ExportStudentHook
from .finite_loss_hook import FiniteLossHook
from .initializers import StrictPretrained
from .lazy_info_hook import LazyRuntimeInfoHook
from .optim import JointOptimWrapper, PartwiseOptimWrapperConstructor
from .policy_hook import TimestepPolicyHook
from .preemption_hook import PreemptionHook
from .sample_hook import SampleImagesHook
from .strict_hook import StrictLoadHook
from .versions_hook import VersionsHook

__all__ = [
    'ExactResumeHook',
    'ExportDenoiserHook',
    'ExportStudentHook',
    'FiniteLossHook',
    'JointOptimWrapper',
    'LazyRuntimeInfoHook',
    'PartwiseOptimWrapperConstructor',
    'PreemptionHook',
    'SafeCheckpointHook',
    'SampleImagesHook',
    'StrictLoadHook',
    'StrictPretrained',
    'TimestepPolicyHook',
    'VersionsHook',
]
