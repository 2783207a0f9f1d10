"""What the command lines of tools/ and projects/ share.

Nothing here imports torch, so that help and errors in options may print at
once.
"""

from .error_reporting import report_errors
from .parser import (
    add_cfg_options,
    config_parser,
    make_parser,
    script_parser,
)
from .train import build_runner

__all__ = [
    'add_cfg_options', 'build_runner', 'config_parser', 'make_parser',
    'report_errors', 'script_parser',
]  # fmt: skip
