"""Runs that are killed, preempted or out of disk space."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.equal import assert_equal
from tests.helpers.launcher import ROOT, free_port
from tests.system import kill_runs

CHECKPOINT = 'default_hooks.checkpoint'
#: Seconds within which a run must have started, or ended.
BOUND = 90


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    return kill_runs.prepare(tmp_path_factory.mktemp('kills'), num_epochs=2)


def start(config, work_dir, *options):
    work_dir.mkdir(exist_ok=True)
    arguments = [*kill_runs.command(config, work_dir), *options]
    return kill_runs.start(arguments, work_dir / 'log.txt')


def run(config, work_dir, *options):
    """Return the exit status of a run."""
    return kill_runs.wait(start(config, work_dir, *options), BOUND)


def wait_for(work_dir, text):
    """Wait until the log of a run holds ``text``."""
    end = time.monotonic() + BOUND
    while text not in (work_dir / 'log.txt').read_text():
        assert time.monotonic() < end, (work_dir / 'log.txt').read_text()
        time.sleep(0.01)


@pytest.fixture(scope='module')
def reference(config, tmp_path_factory):
    """The work directory of a run that keeps two checkpoints."""
    work_dir = tmp_path_factory.mktemp('reference')
    assert run(config, work_dir, f'{CHECKPOINT}.max_keep_ckpts=2') == 0
    return work_dir


def test_killed_runs_equal_an_uninterrupted_one(capsys):
    """A short run of ``tests/system/kill_runs.py``."""
    result = kill_runs.main(['--kills', '3', '--epochs', '2'])
    assert result['kills'] == 3
    assert result['differ'] == []


def test_sigterm_saves_and_exits_with_status_75(config, reference, tmp_path):
    """Launchers send it twice, and to the workers too."""
    preempted = tmp_path / 'preempted'
    process = start(config, preempted, 'train_dataloader.num_workers=2')
    wait_for(preempted, 'Saving checkpoint at 10 iterations')
    for _ in range(2):
        os.killpg(process.pid, signal.SIGTERM)
    assert kill_runs.wait(process, BOUND) == 75
    log = (preempted / 'log.txt').read_text()
    assert 'Got SIGTERM: saved' in log
    assert (
        (preempted / 'last_checkpoint').read_text().endswith('preempted.pth')
    )
    done = load_from_local(preempted / 'preempted.pth')['meta']
    assert 10 <= done['iter'] < 40
    assert run(config, preempted) == 0
    assert f'iter: {done["iter"]}' in (preempted / 'log.txt').read_text()
    assert kill_runs.find_differences(reference, preempted) == []


@pytest.mark.parametrize('name', ['the checkpoint', 'student.pth'])
def test_a_full_disk_leaves_the_last_good_checkpoint(config, tmp_path, name):
    options = [f'{CHECKPOINT}.max_keep_ckpts=1']
    process = start(config, tmp_path, *options)
    wait_for(tmp_path, 'Saving checkpoint at 10 iterations')
    process.kill()
    process.join()
    good = Path((tmp_path / 'last_checkpoint').read_text()).name
    before = (tmp_path / good).read_bytes()
    if name == 'the checkpoint':
        name = f'iter_{int(good[5:-4]) + 5}.pth'  # the next one
    # Writing to /dev/full fails with 'No space left on device'.
    (tmp_path / f'{name}.tmp').unlink(missing_ok=True)
    (tmp_path / f'{name}.tmp').symlink_to('/dev/full')
    assert run(config, tmp_path, *options) == 1
    last = (tmp_path / 'log.txt').read_text().strip().splitlines()[-1]
    assert 'got No space left on device' in last
    assert f'the last good checkpoint is {tmp_path}/{good}' in last
    assert (tmp_path / good).read_bytes() == before
    assert not list(tmp_path.glob(f'{name}.tmp'))
    assert run(config, tmp_path) == 0  # with space again


def test_a_process_ends_when_another_is_killed(config, tmp_path):
    script = ROOT / 'tools/dist_train.sh'
    _, *options = kill_runs.command(config, tmp_path)
    options.append('train_cfg.max_epochs=1000')
    port = str(free_port())
    env = dict(os.environ, PYTHON=sys.executable, PORT=port)
    with (tmp_path / 'log.txt').open('w') as log:
        launcher = subprocess.Popen(
            [str(script), str(config), '2', *options],
            cwd=ROOT, env={**env, 'OMP_NUM_THREADS': '1'},
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(tmp_path, 'Saving checkpoint at 5 iterations')
        victim = next(
            pid
            for pid in processes(port)
            if environ_of(pid).get('RANK') == '1'
        )
        os.kill(victim, signal.SIGKILL)
        assert launcher.wait(BOUND) != 0
    finally:
        launcher.kill()
    assert not any('RANK' in environ_of(pid) for pid in processes(port))


def processes(port):
    """Return the processes of the test above."""
    return [
        int(entry.name)
        for entry in Path('/proc').iterdir()
        if entry.name.isdigit()
        and environ_of(entry.name).get('MASTER_PORT') == port
    ]


def environ_of(pid):
    try:
        content = Path(f'/proc/{pid}/environ').read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return {}
    return dict(i.split('=', 1) for i in content.split('\0') if '=' in i)


def test_two_complete_checkpoints_are_kept(reference):
    names = sorted(path.name for path in reference.glob('iter_*'))
    assert names == ['iter_35.pth', 'iter_40.pth']
    content = load_from_local(reference / 'iter_40.pth')
    info = content['message_hub']['runtime_info']
    assert_equal(info['keep_ckpt_ids'], [35, 40])
