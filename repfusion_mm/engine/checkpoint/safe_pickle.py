"""Read checkpoints without running code from them, before torch 2.6.

Older versions of ``weights_only=True`` take no exceptions, so that they cannot
read the logs in mmengine's checkpoints. This module is passed to
``torch.load`` as its ``pickle_module``.
"""

from __future__ import annotations

import _codecs
import functools
import os
import pickle
import sys
import tarfile
from collections import Counter, OrderedDict
from typing import BinaryIO, Dict

import torch

from repfusion_mm.utils import compat

#: Makes every ``torch.load`` use ``weights_only=True``.
FORCED = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
FORBIDDEN = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
REBUILDERS = (
    '_rebuild_parameter',
    '_rebuild_tensor',
    '_rebuild_tensor_v2',
    '_rebuild_sparse_tensor',
)


class Unpickler(pickle.Unpickler):
    """Find only what tensors, numbers, arrays and mmengine's logs need."""

    def find_class(self, module: str, name: str) -> object:
        """Return the object of this name, or refuse it."""
        if module == '__builtin__':  # its name in pickle protocol 2
            module = 'builtins'
        found = allowed_globals().get(f'{module}.{name}')
        if found is None:
            raise pickle.UnpicklingError(
                f'WeightsUnpickler error: GLOBAL {module}.{name} is not '
                'allowed'
            )
        return found


def load_file(path: str, map_location: str = 'cpu') -> object:
    """Read a file written by ``torch.save``.

    TorchScript and tar archives, which ``torch.load`` would run or unpack, are
    refused.
    """
    with open(path, 'rb') as file:
        is_zip = file.read(4) == b'PK\x03\x04'
    if is_zip:
        records = torch._C.PyTorchFileReader(path).get_all_records()
        if 'constants.pkl' in records:
            raise ValueError('a TorchScript archive, which is a program')
    elif tarfile.is_tarfile(path):
        raise ValueError('a tar archive')
    # torch refuses a pickle_module while this variable is set.
    forced = os.environ.pop(FORCED, None)
    try:
        return torch.load(
            path,
            map_location=map_location,
            pickle_module=sys.modules[__name__],
            weights_only=False,
        )
    finally:
        if forced is not None:
            os.environ[FORCED] = forced


def load(file: BinaryIO, **kwargs) -> object:
    """Read one object, as ``pickle.load`` does."""
    return Unpickler(file, **kwargs).load()


@functools.lru_cache(maxsize=1)
def allowed_globals() -> Dict[str, object]:
    """Return the objects that a checkpoint may name, by name."""
    found: Dict[str, object] = {
        f'{thing.__module__}.{thing.__qualname__}': thing
        for thing in (
            Counter,  # the milestones of MultiStepLR
            OrderedDict,
            set,
            torch.Size,
            torch.Tensor,
            torch.device,
            torch.nn.Parameter,
            torch._tensor._rebuild_from_type_v2,
            *[getattr(torch._utils, name) for name in REBUILDERS],
        )
    }
    dtypes = [i for i in vars(torch).values() if isinstance(i, torch.dtype)]
    found.update({str(dtype): dtype for dtype in dtypes})
    found.update(compat.safe_globals())
    # Pickle protocol 2, which torch writes, stores bytes as encoded text.
    found['_codecs.encode'] = _encode_bytes
    return found


def _encode_bytes(text: str, encoding: str) -> bytes:
    if encoding != 'latin1':
        raise pickle.UnpicklingError(
            f'expected bytes as latin1 in the checkpoint, got {encoding!r}; '
            'do not trust this file'
        )
    return _codecs.encode(text, encoding)
