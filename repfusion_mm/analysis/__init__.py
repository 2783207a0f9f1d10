"""Libraries that measure teachers and runs: probe, report, FLOP and time.

The scripts of tools/analysis_tools/ call them. Modules are imported one by
one, as they need packages that the rest of repfusion_mm does not.
"""

__all__ = [
    'dumped_config',
    'flops',
    'intervals',
    'memory',
    'probe',
    'reference_step',
    'report',
    'synthetic_data',
    'teacher_presets',
    'timing',
]
