"""Write the software environment of a run into its log directory."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Dict, Optional

from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from repfusion_mm.registry import HOOKS

FILENAME = 'env_info.json'
PACKAGES = (
    'repfusion_mm', 'torch', 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain',
    'mmsegmentation', 'mmpose', 'mmdet', 'onedl-mmengine', 'onedl-mmcv',
    'onedl-mmpretrain', 'onedl-mmsegmentation', 'onedl-mmdetection',
    'diffusers', 'transformers', 'huggingface_hub', 'torchvision', 'timm',
    'kornia', 'numpy', 'opencv-python', 'opencv-python-headless',
    'opencv-contrib-python', 'opencv-contrib-python-headless', 'pillow',
    'scikit-learn', 'setuptools',
)  # fmt: skip


@HOOKS.register_module()
class EnvInfoHook(Hook):
    """Write versions, commits and the seed into ``env_info.json``.

    The report of runs (``tools/analysis_tools/report.py``) reads the file.
    """

    def before_run(self, runner) -> None:
        """Write the file, on the main process."""
        if runner.rank == 0:
            entry = dict(
                packages=find_versions(),
                commits=dict(
                    repfusion_mm=find_commit(Path(__file__)),
                    project=find_commit(Path.cwd()),
                ),
                config=runner.cfg.filename,
                seed=runner.seed,
                processes=get_world_size(),
            )
            text = json.dumps(entry, indent=2) + '\n'
            Path(runner.log_dir, FILENAME).write_text(text, encoding='utf-8')


def find_versions() -> Dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def find_commit(path: Path) -> Optional[str]:
    """Return the commit of a git repository, with '+' after changes.

    Only changes of files that git tracks are found.

    Args:
        path: A folder of the repository, or a file that git tracks: a package
            in the virtual environment of a project is not part of the
            project's repository.
    """
    folder = path
    try:
        if path.is_file():
            folder = path.parent
            _run_git(folder, 'ls-files', '--error-unmatch', path.name)
        return _run_git(
            folder, 'describe', '--always', '--dirty=+', '--exclude=*'
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _run_git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ['git', '-C', str(folder), *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()
