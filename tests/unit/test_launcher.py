"""A command line behaves the same in process and in its own process."""

import os
import signal
import sys

import pytest
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

from tests.helpers.launcher import launch, load_script, run_main

SCRIPT = """
import logging, os, signal, subprocess, sys
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

def main(argv=None):
    ending = (argv or sys.argv[1:])[0]
    print('started', os.path.basename(sys.argv[0]), flush=True)
    subprocess.run(['echo', 'from a child'])
    MMLogger.get_instance('run').info('logged')
    if ending == 'state':
        os.environ['A'] = 'b'
        os.chdir('/')
        sys.path.append('nowhere')
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        CheckpointLoader.register_scheme('mine://', print, force=True)
        assert not DefaultScope._instance_dict
        DefaultScope.get_instance('mine', scope_name='mmseg')
    if ending == 'message':
        raise SystemExit('expected a, got b')
    if ending == 'status':
        raise SystemExit(3)
    if ending == 'error':
        raise ValueError('expected a, got b')
    return 0

if __name__ == '__main__':
    sys.exit(main())
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / 'script.py'
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize('ending', ['return', 'message', 'status', 'error'])
def test_status_and_output_are_returned(script, ending):
    result = run_main(script, ending, expect=None)
    assert result.output.startswith('started script.py\nfrom a child\n')
    assert 'logged' in result.output
    status = {'return': 0, 'message': 1, 'status': 3, 'error': 1}[ending]
    assert result.status == status


@pytest.mark.slow
@pytest.mark.parametrize('ending', ['message', 'error'])
def test_the_last_line_is_that_of_a_process(script, ending):
    output = launch(sys.executable, script, ending, expect=1)
    last_line = run_main(script, ending, expect=1).last_line
    assert last_line.endswith('expected a, got b')
    assert output.splitlines()[-1] == last_line


def test_the_state_of_the_process_is_restored(script):
    before = (
        os.getcwd(), dict(os.environ), list(sys.path), list(sys.argv),
        signal.getsignal(signal.SIGTERM), dict(CheckpointLoader._schemes),
        DefaultScope.get_current_instance().scope_name,
        MMLogger.check_instance_created('run'),
    )  # fmt: skip
    run_main(script, 'state')
    assert before == (
        os.getcwd(), dict(os.environ), list(sys.path), list(sys.argv),
        signal.getsignal(signal.SIGTERM), dict(CheckpointLoader._schemes),
        DefaultScope.get_current_instance().scope_name,
        MMLogger.check_instance_created('run'),
    )  # fmt: skip


def test_an_unexpected_status_fails_and_shows_the_output(script):
    with pytest.raises(AssertionError, match='got 3:\nstarted'):
        run_main(script, 'status')


def test_a_script_is_loaded_once(script):
    assert load_script(script) is load_script(script)
