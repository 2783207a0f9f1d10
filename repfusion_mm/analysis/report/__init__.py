"""Write an HTML page about distillations and finetunings."""

from .checks import Check, run_checks
from .groups import Group, group_runs
from .page import write_report
from .runs import Run, read_run

__all__ = [
    'Check',
    'Group',
    'Run',
    'group_runs',
    'read_run',
    'run_checks',
    'write_report',
]
