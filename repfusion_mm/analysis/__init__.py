"""Libraries that measure teachers and runs: probe, FLOP counter, report.

The scripts of tools/analysis_tools/ call them. Modules are imported one by
one, as they need packages that the rest of repfusion_mm does not.
"""

__all__ = [
    'dumped_config',
    'flops',
    'intervals',
    'probe',
    'report',
    'teacher_presets',
]
