"""Parsers of command lines."""

import argparse
import codecs
import os
import re
import sys
from typing import Any

from mmengine.config import DictAction

from repfusion_mm.cli.home import expand_argument

#: Spaces within a value. mmengine removes all spaces, not only those after
#: commas.
SPACES = re.compile(r'(?<=[^\s,(\[=]) +(?=[^\s,)\]])')


class OptionsAction(DictAction):
    """Parse ``key=value`` options, and refuse options of another form.

    Unlike mmengine's action, it keeps spaces within values, such as in paths.
    """

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for value in values:
            if '=' not in value:
                parser.error(
                    f'expected key=value after {option_string}, got {value!r}'
                )
        marked = [
            SPACES.sub(lambda match: '\0' * len(match[0]), value)
            for value in values
        ]
        try:
            super().__call__(parser, namespace, marked, option_string)
        except RecursionError:  # mmengine's, for a dict in a list
            parser.error(
                'expected numbers, strings, lists and tuples after '
                f'{option_string}, got {" ".join(values)!r}; set the keys of '
                'a dict one by one (a.b=1 c.0.type=NAME), or edit the config'
            )
        options = _restore_spaces(getattr(namespace, self.dest))
        setattr(namespace, self.dest, options)


def _restore_spaces(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace('\0', ' ')
    if isinstance(value, dict):
        return {key: _restore_spaces(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_restore_spaces, value))
    return value


class PathParser(argparse.ArgumentParser):
    """Expand ``~`` where the shell does not, as in ``--work-dir=~/runs``.

    The process is restarted in Python's UTF-8 mode if its locale is ASCII.
    """

    def parse_known_args(self, args=None, namespace=None):
        """Parse the arguments."""
        if args is None:
            use_utf8()
            args = sys.argv[1:]
        args = [expand_argument(str(arg)) for arg in args]
        return super().parse_known_args(args, namespace)


def use_utf8() -> None:
    """Restart this process in Python's UTF-8 mode if its locale is ASCII.

    Otherwise, mmengine cannot write other characters into logs and configs.
    """
    name = codecs.lookup(sys.getfilesystemencoding()).name
    if name == 'ascii' and os.environ.get('PYTHONUTF8') != '1':
        os.environ['PYTHONUTF8'] = '1'
        sys.stdout.flush()
        command = getattr(sys, 'orig_argv', ['', *sys.argv])  # Python 3.10
        os.execv(sys.executable, [sys.executable, *command[1:]])


def script_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser whose help keeps the line breaks of the description."""
    return PathParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        help='override settings of the config: key=value ..., lists as '
        'key="[a,b]" without spaces',
    )


def config_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of a config and its options, for one process."""
    parser = script_parser(description)
    parser.add_argument('config', help='path of the config')
    add_cfg_options(parser)
    parser.set_defaults(work_dir=None, launcher='none', local_rank=0)
    return parser


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options of all tools that run a config."""
    parser = config_parser(description)
    parser.add_argument(
        '--work-dir', help='folder for logs, checkpoints and exported weights'
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='launcher that started several processes',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser
