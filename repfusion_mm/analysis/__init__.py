"""Libraries that measure teachers and runs, for tools/ and projects/."""

__all__ = ['flops', 'intervals', 'memory', 'probe', 'report', 'timing']
