"""The shell scripts refuse arguments in the wrong place."""

import subprocess

import pytest

from tests.helpers.launcher import ROOT


@pytest.mark.parametrize(
    ('command', 'fragment'),
    [
        (['dist_train.sh'], 'CONFIG GPUS'),
        (['dist_train.sh', 'a.py'], 'CONFIG GPUS'),
        (['dist_train.sh', 'a.py', '--resume'], "GPUS, 1 or more, got '--re"),
        (['dist_train.sh', 'a.py', '0'], "GPUS, 1 or more, got '0'"),
        (['dist_test.sh', 'a.py', 'b.pth'], 'CONFIG CHECKPOINT GPUS'),
        (['dist_test.sh', 'a.py', '2', 'b.pth'], "got 'b.pth'"),
        (['slurm_train.sh', 'p', 'job', 'a.py'], 'WORK_DIR'),
        (['slurm_train.sh', 'p', 'job', 'a.py', '--resume'], 'WORK_DIR'),
        (['slurm_test.sh', 'p', 'job', 'a.py', '--x'], 'CHECKPOINT'),
    ],
    ids=str,
)
def test_wrong_arguments_are_explained(command, fragment):
    name, *arguments = command
    done = subprocess.run(
        ['bash', str(ROOT / 'tools' / name), *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert fragment in done.stdout + done.stderr
