"""Hooks; configs/_base_/runtime and configs/teacher show their use."""

from .buffered_runtime_info_hook import BufferedRuntimeInfoHook
from .checkpoint_hook import SafeCheckpointHook
from .env_info_hook import EnvInfoHook
from .exact_resume_hook import ExactResumeHook
from .export_diffusers_hook import ExportDiffusersHook
from .export_student_hook import ExportStudentHook
from .finite_loss_hook import FiniteLossHook
from .preemption_hook import PreemptionHook
from .sample_images_hook import ReconstructImagesHook, SampleImagesHook
from .short_run_logger_hook import ShortRunLoggerHook
from .strict_load_hook import StrictLoadHook
from .timestep_policy_hook import TimestepPolicyHook
from .unused_settings_hook import UnusedSettingsHook

__all__ = [
    'BufferedRuntimeInfoHook',
    'EnvInfoHook',
    'ExactResumeHook',
    'ExportDiffusersHook',
    'ExportStudentHook',
    'FiniteLossHook',
    'PreemptionHook',
    'ReconstructImagesHook',
    'SafeCheckpointHook',
    'SampleImagesHook',
    'ShortRunLoggerHook',
    'StrictLoadHook',
    'TimestepPolicyHook',
    'UnusedSettingsHook',
]
