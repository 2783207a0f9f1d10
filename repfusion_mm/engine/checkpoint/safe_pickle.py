"""Read checkpoints without running code from them, before torch 2.6.

There ``weights_only=True`` takes no exceptions, so that mmengine's checkpoints
with their logs could only be read without restriction. This module is the
``pickle_module`` that ``torch.load`` takes.
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

#: Lets ``torch.load`` read safely, whatever it is called with.
FORCED = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
REBUILDERS = (
    '_rebuild_parameter',
    '_rebuild_tensor',
    '_rebuild_tensor_v2',
    '_rebuild_sparse_tensor',
)


class Unpickler(pickle.Unpickler):
    """Find what tensors, numbers, arrays and mmengine's logs need."""

    def find_class(self, module: str, name: str) -> object:
        """Return the object of this name, if it is one of those.

        Raises:
            UnpicklingError: It is another one.
        """
        if module == '__builtin__':  # so the second protocol calls it
            module = 'builtins'
        try:
            return allowed()[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(
                f'WeightsUnpickler error: GLOBAL {module}.{name} is not let '
                'through'
            ) from None


def load_file(path: str, map_location: str = 'cpu') -> object:
    """Read a file of ``torch.save``.

    Raises:
        UnpicklingError: It names anything but tensors, numbers, arrays and
            mmengine's logs.
        ValueError: It is a program or an archive of older formats, which
            ``torch.load`` would run or unpack.
    """
    with open(path, 'rb') as file:
        is_zip = file.read(4) == b'PK\x03\x04'
    if is_zip:
        records = torch._C.PyTorchFileReader(path).get_all_records()
        if 'constants.pkl' in records:
            raise ValueError('a TorchScript archive, which is a program')
    elif tarfile.is_tarfile(path):
        raise ValueError('a tar archive')
    # This wish for safety is ours already, and torch would refuse the module.
    wish = os.environ.pop(FORCED, None)
    try:
        return torch.load(
            path,
            map_location=map_location,
            pickle_module=sys.modules[__name__],
            weights_only=False,
        )
    finally:
        if wish is not None:
            os.environ[FORCED] = wish


def load(file: BinaryIO, **kwargs) -> object:
    """Read one object, as ``pickle.load`` does."""
    return Unpickler(file, **kwargs).load()


@functools.lru_cache(maxsize=1)
def allowed() -> Dict[str, object]:
    """Return what a checkpoint may name, by that name."""
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
    # How the second protocol, which torch writes, stores bytes.
    found['_codecs.encode'] = _as_bytes
    return found


def _as_bytes(text: str, encoding: str) -> bytes:
    if encoding != 'latin1':
        raise pickle.UnpicklingError(
            f'expected bytes as latin1 in the checkpoint, got {encoding!r}'
        )
    return _codecs.encode(text, encoding)
