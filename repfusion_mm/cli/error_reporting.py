"""End a command line with one line that says what is wrong."""

from __future__ import annotations

import contextlib
import re
import traceback
from typing import Iterator

#: What to do about errors of other packages, which do not say.
ADVICE = {
    r'unexpected keyword argument': 'correct the name in the config or in '
    '--cfg-options, or leave it out',
    r'missing \d+ required': 'add it to the config',
    r'is not in the .*registry': "correct the config's type",
    r'Found no valid file|Found 0 files': 'put images there, or correct '
    'data_root and data_prefix',
    r'No such file|Not a directory|Is a directory': 'correct the path',
    r'end should be larger than begin': 'correct the length of the run '
    '(train_cfg.max_epochs or max_iters) or of its schedules',
    r'not enough values to unpack': 'if it came from --cfg-options, write '
    'each as key=value',
    r'num_workers option': 'correct num_workers of the dataloader',
    r'Cannot find valid image': 'every image of a data set is damaged; the '
    'log names them, or correct its data_root',
    r'Permission denied|Read-only file system': 'choose another folder, as '
    'by --work-dir',
    r'No space left': 'make room, or choose another --work-dir',
    r'File exists': 'remove it, or choose another --work-dir',
    r'`epoch_length` must be': 'there are fewer images than a batch takes: '
    'lower train_dataloader.batch_size',
    r'batch_size should be': 'correct train_dataloader.batch_size',
    r'out of memory': 'lower train_dataloader.batch_size',
    r'equal size': 'let the pipeline bring all images to one size',
    r'exceeds the length of list': 'correct the number in --cfg-options',
    r'urlopen error|HTTP Error': 'correct the address, or fetch the file '
    'yourself and give its path',
    r"can't decode": 'a file that should be text is none; write it again in '
    'UTF-8',
    r'File too large|quota exceeded': 'make room, or choose another folder',
    r'^AssertionError': 'a value of the config is not what is asked for there',
    r'cannot find context': 'set env_cfg.mp_cfg.mp_start_method to fork, '
    'spawn or forkserver',
    r'cfg should be a dict': 'a part of the config that should be '
    'dict(type=...) is not',
}
#: The same where a data set was reading its annotations.
ADVICE_ON_LISTS = {
    r'invalid literal for int|not enough values to unpack': 'in a list of '
    'labels each line is "path label", and labels are integers from 0',
    r'need at least one array': 'it lists nothing',
    r"codec can't decode": 'it is no text; write it again in UTF-8',
}
#: Characters of an error of which the last line is made.
LONGEST = 1000


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Print an error's traceback, and end with what is wrong in one line.

    Raises:
        SystemExit: With status 1, instead of any other exception; with 130
            after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(
            '\nstopped by hand; tools/train.py --resume goes on from the last '
            'checkpoint'
        )
        raise SystemExit(130) from None
    except Exception as error:
        traceback.print_exc()
        raise SystemExit('\n' + describe(error)) from None


def describe(error: Exception) -> str:
    """Say in one line what is wrong, and what to do."""
    lines = [line.strip() for line in str(error).splitlines()]
    if not lines:  # of an assertion
        lines = [_code_of(error)]
    text = f'{type(error).__name__}: ' + '; '.join(filter(None, lines))
    text = text.replace(':; ', ': ')
    if len(text) > LONGEST:
        text = f'{text[:LONGEST]} ...'
    if re.search(r'(^|\] )expected ', str(error)):  # it says so itself
        return text
    path = annotations_of(error)
    if path and path not in text:
        text = f'{text} in {path}'
    advices = {**ADVICE_ON_LISTS, **ADVICE} if path else ADVICE
    for pattern, advice in advices.items():
        if re.search(pattern, text):
            return f'{text}; {advice}'
    return text


def annotations_of(error: BaseException | None) -> str | None:
    """Return the file that a data set was reading when it failed, if any.

    The errors of Python's own functions, as of int(), do not say.
    """
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_name in ('load_data_list', 'full_init'):
                reader = frame.f_locals.get('self')
                if getattr(reader, 'ann_file', None):
                    return reader.ann_file
        error = error.__context__
    return None


def _code_of(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f'{frames[-1].line} in {frames[-1].filename}' if frames else ''
