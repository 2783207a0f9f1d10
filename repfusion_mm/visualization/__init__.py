"""Figures and their colors."""

from .policy_log import draw_records, plot_records, read_records

__all__ = ['draw_records', 'plot_records', 'read_records']
