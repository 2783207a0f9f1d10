"""Scripts in new processes."""

import os
import sys
from pathlib import Path

import pytest

from tests.helpers.launcher import ROOT, SCRIPTS, launch

#: One of each folder; tests/integration/tools/test_scripts.py calls all.
FIRST = {str(Path(script).parent): script for script in reversed(SCRIPTS)}


@pytest.mark.parametrize('script', sorted(FIRST.values()))
def test_a_script_runs_from_another_folder(script, tmp_path):
    output = launch(sys.executable, ROOT / script, '--help', cwd=tmp_path)
    assert output.startswith('usage: ')


@pytest.mark.parametrize(
    'script', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test']
)
def test_cluster_scripts_print_their_usage(script):
    output = launch(f'tools/{script}.sh', expect=2)
    assert f'tools/{script}.sh' in output
    assert 'set -euo' not in output


@pytest.mark.parametrize('script', ['dist_train', 'dist_test'])
def test_several_nodes_need_a_rank_and_a_master(script):
    """Otherwise they would wait for each other silently."""
    arguments = ['c.py', 1] if script == 'dist_train' else ['c.py', 'p', 1]
    output = launch(
        f'tools/{script}.sh', *arguments, expect=2, NNODES='2', NODE_RANK='1'
    )
    assert "NODE_RANK='1' MASTER_ADDR=''" in output


def test_slurm_scripts_pass_all_arguments_on(tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nfor a in "$@"; do echo "<$a>"; done\n')
    srun.chmod(0o755)
    output = launch(
        'tools/slurm_train.sh', 'part', 'my job', 'c.py', 'a dir',
        '--cfg-options', 'a=1', PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS='4', SRUN_ARGS='--time 10',
    )  # fmt: skip
    for argument in (
        '<--job-name=my job>', '<--gres=gpu:4>', '<--ntasks=4>', '<--time>',
        '<10>', '<c.py>', '<a dir>', '<slurm>', '<a=1>',
    ):  # fmt: skip
        assert argument in output
