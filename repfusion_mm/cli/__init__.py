"""What the command lines of tools/ and projects/ share."""

from .error_reporting import report_errors

with report_errors():  # of a package that is not installed
    from .config import enable_safe_loading, load_config, read_config
    from .parser import add_cfg_options, make_parser, script_parser
    from .train import build_runner

__all__ = [
    'add_cfg_options', 'build_runner', 'enable_safe_loading', 'load_config',
    'make_parser', 'read_config', 'report_errors', 'script_parser',
]  # fmt: skip
