"""Run the project's command lines, in this process or in a new one."""

import contextlib
import functools
import importlib.util
import io
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Optional

from tests.helpers.process_state import clear_instances, preserved_state

ROOT = Path(__file__).parents[2]
#: All scripts of the project, relative to the checkout.
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in ('tools', 'projects')
    for path in (ROOT / folder).rglob('*.py')
    if "__name__ == '__main__'" in path.read_text()
)
#: Stays open, because handlers of loggers may keep it.
CAPTURED = io.TextIOWrapper(
    tempfile.TemporaryFile(buffering=0),  # noqa: SIM115
    encoding='utf-8',
    errors='backslashreplace',
    write_through=True,
)


class Result(NamedTuple):
    """Exit status, stdout and stderr of a command line."""

    status: int
    output: str

    @property
    def last_line(self) -> str:
        lines = self.output.strip().splitlines()
        return lines[-1] if lines else ''


def launch(*command, expect=0, cwd=ROOT, **environ) -> str:
    """Run a command in a new process; return its output.

    Args:
        command: The executable and its arguments.
        expect: 0 where the command must succeed, another number where it
            must fail.
        cwd: The directory to run it in.
        environ: Environment variables to set.
    """
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHON': sys.executable}
    env['OMP_NUM_THREADS'] = '1'
    env['PYTHONWARNINGS'] = 'ignore'
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**env, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (done.returncode == 0) == (expect == 0), done.stdout[-6000:]
    return done.stdout


def load_script(path) -> ModuleType:
    """Import a script by its path, once; return the module.

    The script's folder is on the import path meanwhile, as it is when Python
    runs the script.
    """
    return _load(Path(ROOT, path).resolve())


def run_main(
    script, *argv, expect: Optional[int] = 0, cwd=None, **environ
) -> Result:
    """Call ``main(argv)`` of a script in this process.

    The call starts without mmengine's global instances, and what it changes
    in the process is restored. Status and output are those of a process.

    Args:
        script: The path of a script, relative to the checkout, or a module.
        argv: The arguments.
        expect: The exit status that is required; None accepts any.
        cwd: The directory to run in; by default the present one.
        environ: Environment variables to set.
    """
    if not isinstance(script, ModuleType):
        script = load_script(script)
    argv = [str(part) for part in argv]
    with preserved_state(), captured() as read:
        clear_instances()
        sys.argv[:] = [script.__file__, *argv]
        sys.path.insert(0, str(Path(script.__file__).parent))
        os.environ.update(environ)
        os.chdir(cwd or '.')
        status = _status_of(script.main, argv)
        result = Result(status, read())
    assert expect in (None, status), (
        f'expected status {expect}, got {status}:\n{result.output[-6000:]}'
    )
    return result


@contextlib.contextmanager
def captured():
    """Redirect stdout and stderr, children's too; yield a reading function."""
    file = CAPTURED.buffer
    file.seek(0)
    file.truncate()

    def read() -> str:
        CAPTURED.flush()
        return os.pread(file.fileno(), 1 << 30, 0).decode(errors='replace')

    kept = [os.dup(1), os.dup(2)]
    try:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        out = contextlib.redirect_stdout(CAPTURED)
        with out, contextlib.redirect_stderr(CAPTURED):
            yield read
    finally:
        for number, original in zip((1, 2), kept):
            os.dup2(original, number)
            os.close(original)


def free_port() -> int:
    """Return a TCP port that no process listens on."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


@functools.lru_cache(maxsize=None)
def _load(path: Path) -> ModuleType:
    # In sys.modules, so that other processes can unpickle its functions.
    name = '_'.join(path.with_suffix('').parts[1:])
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


def _status_of(main, argv) -> int:
    """Call ``main``; print and return what a process would end with."""
    try:
        code = main(argv)
    except SystemExit as error:
        code = error.code
    except Exception:
        traceback.print_exc()
        return 1
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1
