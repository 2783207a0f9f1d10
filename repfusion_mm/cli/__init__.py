"""What the command lines of tools/ and projects/ share."""

from .config import (
    enable_safe_loading,
    load_config,
    make_parser,
    script_parser,
)
from .error_reporting import report_errors
from .train import build_runner

__all__ = [
    'build_runner', 'enable_safe_loading', 'load_config', 'make_parser',
    'report_errors', 'script_parser',
]  # fmt: skip
