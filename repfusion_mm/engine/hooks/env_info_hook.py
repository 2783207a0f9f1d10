"""Write down what a run was made with."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Dict, Optional

from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from repfusion_mm.registry import HOOKS

FILENAME = 'env_info.json'
PACKAGES = (
    'repfusion_mm', 'torch', 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain',
    'mmsegmentation', 'mmpose', 'onedl-mmengine', 'onedl-mmcv',
    'onedl-mmpretrain', 'onedl-mmsegmentation', 'diffusers', 'numpy',
    'scikit-learn',
)  # fmt: skip


@HOOKS.register_module()
class EnvInfoHook(Hook):
    """Write versions, commits and seed into the run's log directory.

    ``env_info.json`` is read by tools/analysis_tools/report.py. The tools of
    this package add the hook to every config.
    """

    def before_run(self, runner) -> None:
        """Write the file, on the main process."""
        if runner.rank == 0:
            entry = dict(
                packages=find_versions(),
                commits=dict(
                    repfusion_mm=find_commit(Path(__file__).parent),
                    project=find_commit(Path.cwd()),
                ),
                config=runner.cfg.filename,
                seed=runner.seed,
                processes=get_world_size(),
            )
            text = json.dumps(entry, indent=2) + '\n'
            Path(runner.log_dir, FILENAME).write_text(text)


def find_versions() -> Dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def find_commit(folder: Path) -> Optional[str]:
    """Return the commit of a folder, '+' where files differ from it.

    Returns:
        None where the folder is in no git repository, or there is no git.
    """
    command = ['describe', '--always', '--dirty=+', '--exclude=*']
    try:
        done = subprocess.run(
            ['git', '-C', str(folder), *command],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
