# The hooks of a distillation: those of training_hooks.py and two more. They
# are keys of default_hooks, so that the custom_hooks of a child config do not
# replace them.
default_hooks = dict(
    runtime_info=dict(type='repfusion_mm.BufferedRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='repfusion_mm.ShortRunLoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='repfusion_mm.SafeCheckpointHook', interval=10, max_keep_ckpts=3
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    strict_load=dict(type='repfusion_mm.StrictLoadHook'),
    exact_resume=dict(type='repfusion_mm.ExactResumeHook'),
    preemption=dict(type='repfusion_mm.PreemptionHook'),
    finite_loss=dict(type='repfusion_mm.FiniteLossHook'),
    env_info=dict(type='repfusion_mm.EnvInfoHook'),
    unused_settings=dict(type='repfusion_mm.UnusedSettingsHook'),
    # Checks the data, anneals the entropy weight, writes policy.jsonl.
    timestep_policy=dict(type='repfusion_mm.TimestepPolicyHook'),
    # Writes student.pth with every checkpoint.
    export_student=dict(type='repfusion_mm.ExportStudentHook'),
)
