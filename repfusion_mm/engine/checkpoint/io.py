"""Read checkpoints without running code from them."""

from __future__ import annotations

import logging
import os.path as osp
import re
from pathlib import Path
from typing import Dict, Optional, Tuple
from urllib.parse import urlparse

import torch
from filelock import FileLock
from mmengine.fileio import get_local_path
from mmengine.logging import print_log
from mmengine.runner import find_latest_checkpoint
from safetensors.torch import load_file

from repfusion_mm.engine.checkpoint import safe_pickle
from repfusion_mm.utils.compat import READS_SAFELY
from repfusion_mm.utils.messages import find_reason

StateDict = Dict[str, torch.Tensor]
#: The end of the names of published files.
HASH = re.compile(r'-[0-9a-f]{8,}\.\w+$')


def read_checkpoint(checkpoint: str, hint: str) -> Tuple[StateDict, dict]:
    """Read the weights of a checkpoint and their ``meta``.

    Args:
        checkpoint: A path, or any address that ``mmengine.fileio`` reads.
        hint: Advice for the error if the file is missing.

    Raises:
        ValueError: ``checkpoint`` is empty, or not a checkpoint.
        FileNotFoundError: There is no such file.
    """
    if not checkpoint:
        raise ValueError(
            f'expected the path of a checkpoint, got {checkpoint!r}; {hint}'
        )
    try:
        content = load_from_address(checkpoint)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise FileNotFoundError(
            f'expected a checkpoint at {checkpoint!r}, got no such file; '
            + hint
        ) from error
    meta: dict = {}
    if isinstance(content, dict) and 'state_dict' in content:
        meta = content.get('meta') or {}
        content = content['state_dict']
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f'expected a state dict in {checkpoint!r}, got '
            f'{type(content).__name__}; give a file that holds weights'
        )
    others = [k for k, v in content.items() if not torch.is_tensor(v)]
    if others:
        raise ValueError(
            f'expected a state dict in {checkpoint!r}, got a dict with '
            f'{others[:5]}, which are not tensors; save only the weights, '
            'or save them as its "state_dict"'
        )
    return content, meta


def load_from_local(
    path: str, map_location: str = 'cpu', name: Optional[str] = None
) -> object:
    """Read a local file written by ``torch.save``, or of safetensors.

    ``name`` replaces ``path`` in errors.

    Raises:
        FileNotFoundError, IsADirectoryError: There is no such file.
        ValueError: It is damaged, or holds more than weights and logs.
    """
    if osp.basename(str(name or path)) == 'last_checkpoint':
        raise ValueError(
            f'expected a checkpoint, got {str(name or path)!r}, a text file '
            'that names one; give the path in it, or use --resume without a '
            'path'
        )
    try:
        file = osp.expanduser(path)
        if str(name or path).endswith('.safetensors'):
            return load_file(file, map_location)
        if READS_SAFELY:
            return torch.load(file, map_location, weights_only=True)
        return safe_pickle.load_file(file, map_location)
    except (FileNotFoundError, IsADirectoryError):
        raise
    except Exception as error:
        raise ValueError(
            f'expected a checkpoint of weights at {str(name or path)!r}, got '
            f'a file that cannot be read safely ({find_reason(error)}): it is '
            'damaged, or holds more than weights; write it again, or get '
            'another one'
        ) from error


def load_from_address(filename: str, map_location: str = 'cpu') -> object:
    """Read a checkpoint from any address that ``mmengine.fileio`` reads.

    Raises:
        ValueError: No backend of mmengine reads such addresses.
    """
    try:
        with get_local_path(find_in_cache(filename)) as path:
            content = load_from_local(path, map_location, name=filename)
            remove_config(content)
            return content
    except KeyError as error:
        raise ValueError(
            f'expected the path of a checkpoint, or an address that '
            f'mmengine.fileio reads, got {filename!r}; give its path'
        ) from error


def find_in_cache(address: str) -> str:
    """Return the path in torch's cache of a published file on the web.

    As with mmengine, it is downloaded there once. One process of a machine
    does so, and others wait. The content of files whose names do not end in a
    hash may change, so that their address is returned, to be read again.
    """
    name = osp.basename(urlparse(str(address)).path)
    if not re.match('https?://', str(address)) or not HASH.search(name):
        return address
    path = Path(torch.hub.get_dir(), 'checkpoints', name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{path}.lock'):
        if not path.exists():
            torch.hub.download_url_to_file(address, str(path), progress=False)
    return str(path)


def remove_config(checkpoint: object) -> None:
    """Remove a config that is stored as text in a checkpoint.

    mmengine's ``resume`` would run it as Python.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict) and meta.pop('config', None) is not None:
        print_log(
            'ignored the config in the checkpoint: a config is Python code, '
            'which a checkpoint must not bring along',
            logger='current',
            level=logging.WARNING,
        )


def find_loaded_path(runner) -> str:
    """Return the path of the checkpoint that a runner loads."""
    return runner._load_from or find_latest_checkpoint(runner.work_dir)
