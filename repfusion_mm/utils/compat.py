"""Known wounds of the stack, each healed in the narrowest way.

Everything here leaves a sound stack untouched.
"""

from __future__ import annotations

import contextlib
import importlib.util
import pickle
import sys
from importlib import metadata
from pathlib import Path
from typing import Callable, Dict, Iterator

import mmengine
import numpy as np
import torch
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version

#: Before torch 2.6 nothing lets single calls in checkpoints through.
READS_SAFELY = digit_version(torch.__version__) >= digit_version('2.6')
#: Before mmengine 0.10.3 a resumed loop of iterations drew from the start.
LOOPS_SKIP = digit_version(mmengine.__version__) >= digit_version('0.10.3')
STATISTICS = ('min', 'max', 'mean', 'current')


def apply_workarounds() -> None:
    """Apply every remedy that this environment needs."""
    allow_mmengine_checkpoints()
    find_configs_of_forks()
    if 'torchvision' not in sys.modules and not torchvision_ops_load():
        with without_missing_fakes('torchvision'):
            import torchvision  # noqa: F401


def allow_mmengine_checkpoints() -> None:
    """Let safe loading read the logs in mmengine's checkpoints.

    torch >= 2.6 loads with ``weights_only=True`` and then refuses the
    ``HistoryBuffer`` that mmengine stores beside the weights, so that nothing
    resumes, and the numpy arrays in what mmpose stores of its data set. The
    buffer holds its own four statistics as ``getattr(HistoryBuffer, name)``:
    that call alone is let through, and of arrays those of numbers.
    """
    if READS_SAFELY:
        found = [(thing, name) for name, thing in safe_globals().items()]
        torch.serialization.add_safe_globals(found)


def safe_globals() -> Dict[str, Callable]:
    """Return what mmengine's and mmpose's checkpoints name beside tensors.

    Returns:
        dict: Of each name, as it stands in the file, what to take for it.
    """
    array = np.zeros(1)
    reconstruct = array.__reduce__()[0]
    scalar = array[0].__reduce__()[0]
    found = {f'{HistoryBuffer.__module__}.HistoryBuffer': HistoryBuffer}
    found['builtins.getattr'] = history_statistic
    found['builtins.bytes'] = bytes  # the content of an empty array
    found['numpy.ndarray'] = np.ndarray
    found['numpy.dtype'] = np.dtype
    for core in ('numpy.core', 'numpy._core'):  # before and since numpy 2
        found[f'{core}.multiarray._reconstruct'] = reconstruct
        found[f'{core}.multiarray.scalar'] = scalar
    kinds = np.typecodes['AllInteger'] + np.typecodes['AllFloat'] + '?'
    for dtype in {type(np.dtype(kind)) for kind in kinds}:
        found[f'{dtype.__module__}.{dtype.__qualname__}'] = dtype
    return found


def history_statistic(owner: type, name: str) -> Callable:
    """Stand in for ``getattr`` in a checkpoint.

    Raises:
        UnpicklingError: It asks for anything but a statistic of mmengine's
            ``HistoryBuffer``.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise pickle.UnpicklingError(
            'expected a statistic of mmengine.logging.HistoryBuffer in the '
            f'checkpoint, got {name!r} of {owner!r}; do not trust this file'
        )
    return getattr(owner, name)


def find_configs_of_forks() -> None:
    """Let ``mmseg::`` in configs find a fork's configs.

    mmengine looks for a distribution called mmsegmentation, and failing that
    for a module of the same name. The fork's distribution is called
    onedl-mmsegmentation, its module still mmseg.
    """
    if importlib.util.find_spec('mmseg') is None:
        return
    try:
        metadata.distribution('mmsegmentation')
    except metadata.PackageNotFoundError:
        MODULE2PACKAGE['mmseg'] = 'mmseg'


def torchvision_ops_load() -> bool:
    """Say whether torchvision's compiled operators fit the installed torch.

    They do not where torch comes from another build (CPU-only beside CUDA).
    An environment without torchvision has nothing to heal and counts as
    sound.
    """
    spec = importlib.util.find_spec('torchvision')
    if spec is None or spec.origin is None:
        return True
    library = next(Path(spec.origin).parent.glob('_C.*'), None)
    if library is None:
        return False
    try:
        torch.ops.load_library(str(library))
    except (ImportError, OSError):
        return False
    return True


@contextlib.contextmanager
def without_missing_fakes(namespace: str) -> Iterator[None]:
    """Skip fake kernels of ``namespace``'s operators that are not there.

    ``torch.library.register_fake`` raises for an operator that was never
    registered. torchvision calls it unconditionally at import, so one library
    that does not load makes mmpretrain, mmpose and diffusers unimportable.
    All other registrations pass through.
    """
    register_fake = getattr(torch.library, 'register_fake', None)
    if register_fake is None:  # torch < 2.4: torchvision does not call it
        yield
        return

    def register_where_present(op, *args, **kwargs) -> Callable:
        missing = (
            isinstance(op, str)
            and op.startswith(f'{namespace}::')
            and not _is_registered(op)
        )
        if missing:
            return lambda function: function
        return register_fake(op, *args, **kwargs)

    torch.library.register_fake = register_where_present
    try:
        yield
    finally:
        torch.library.register_fake = register_fake


def _is_registered(op: str) -> bool:
    namespace, name = op.split('::')
    return hasattr(getattr(torch.ops, namespace), name)
