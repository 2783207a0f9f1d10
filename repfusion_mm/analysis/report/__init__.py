"""Write an HTML page about teachers, distillations and finetunings."""

from .page import write_report
from .runs import read_run

__all__ = ['read_run', 'write_report']
