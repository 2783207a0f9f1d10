# The hooks of a training run.
default_hooks = dict(
    # mmengine's own synchronizes with the device in every iteration.
    runtime_info=dict(type='repfusion_mm.BufferedRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    # At least 20 lines, also in a run of less than 1,000 iterations.
    logger=dict(type='repfusion_mm.ShortRunLoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Writes atomically.
    checkpoint=dict(
        type='repfusion_mm.SafeCheckpointHook', interval=10, max_keep_ckpts=3
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Refuses a checkpoint that does not fit the model.
    strict_load=dict(type='repfusion_mm.StrictLoadHook'),
    # Makes a resumed run bit-identical to an uninterrupted one on a CPU.
    exact_resume=dict(type='repfusion_mm.ExactResumeHook'),
    # Writes a checkpoint on SIGTERM.
    preemption=dict(type='repfusion_mm.PreemptionHook'),
    # Stops when a loss or a weight is NaN or Inf.
    finite_loss=dict(type='repfusion_mm.FiniteLossHook'),
    # Writes env_info.json: versions, commits, seed.
    env_info=dict(type='repfusion_mm.EnvInfoHook'),
    # Refuses settings that the run would not use.
    unused_settings=dict(type='repfusion_mm.UnusedSettingsHook'),
)
