import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from mmengine.runner import Runner

import repfusion_mm
from repfusion_mm.engine.hooks.env_info_hook import find_commit
from tests.helpers.memory_run import config


def test_versions_commits_and_seed_are_written(tmp_path, monkeypatch):
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    hook = dict(type='repfusion_mm.EnvInfoHook')
    runner = Runner.from_cfg(config(tmp_path, [hook], max_epochs=1))
    runner.train()
    entry = json.loads(Path(runner.log_dir, 'env_info.json').read_text())
    assert entry['packages']['torch'] == version('torch')
    assert entry['packages']['repfusion_mm'] == repfusion_mm.__version__
    assert 'mmcv-lite' not in entry['packages']
    assert (entry['seed'], entry['processes']) == (0, 1)
    assert entry['commits']['project'] is None


def test_commits_show_changed_files(tmp_path):
    def git(*arguments):
        name = ['-c', 'user.name=a', '-c', 'user.email=a@b']
        subprocess.run(['git', *name, *arguments], cwd=tmp_path, check=True)

    assert find_commit(tmp_path) is None
    git('init', '-q')
    (tmp_path / 'file').write_text('one')
    git('add', 'file')
    git('commit', '-qm', 'one')
    commit = find_commit(tmp_path)
    assert re.fullmatch('[0-9a-f]{7,}', commit)
    assert find_commit(tmp_path / 'file') == commit
    # As a package in the virtual environment of a project.
    (tmp_path / 'untracked').touch()
    assert find_commit(tmp_path / 'untracked') is None
    (tmp_path / 'file').write_text('two')
    assert find_commit(tmp_path) == commit + '+'
    assert find_commit(tmp_path / 'file') == commit + '+'
