"""Run the project's command lines as a user would."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def launch(*command, expect=0, cwd=ROOT, **environ):
    """Run a command in the checkout, or in ``cwd``; return its output."""
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
