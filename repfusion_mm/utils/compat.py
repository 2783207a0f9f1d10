"""Workarounds for known bugs of dependencies.

Each is as narrow as possible and does nothing where the bug is absent.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import pickle
import sys
from importlib import import_module, metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Callable, Dict, Iterator, Optional, Tuple

import mmengine
import numpy as np
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version

#: Since torch 2.6, single functions in checkpoints can be allowed.
READS_SAFELY = digit_version(metadata.version('torch')) >= digit_version('2.6')
#: Since mmengine 0.10.3, a resumed IterBasedTrainLoop skips past batches.
LOOPS_SKIP = digit_version(mmengine.__version__) >= digit_version('0.10.3')
STATISTICS = ('min', 'max', 'mean', 'current')


def apply_workarounds() -> None:
    """Apply every workaround that this environment needs.

    Those of torch and torchvision are applied when these are imported, which
    takes seconds.
    """
    find_own_configs()
    find_configs_of_forks()
    for finder in (MULTIMODAL_SWITCH, TORCH_FINDER):
        if finder not in sys.meta_path:
            sys.meta_path.insert(0, finder)
    if 'torch' in sys.modules:
        allow_mmengine_checkpoints()


def allow_mmengine_checkpoints() -> None:
    """Allow the contents of mmengine's checkpoints in safe loading.

    torch >= 2.6 loads with ``weights_only=True`` and refuses the
    ``HistoryBuffer`` that mmengine stores next to the weights, so that no run
    resumes, and the numpy arrays that mmpose stores about its dataset. A
    buffer refers to its four statistics as ``getattr(HistoryBuffer, name)``.
    Only these calls and numeric arrays are allowed.
    """
    import torch

    if READS_SAFELY:
        torch.serialization.add_safe_globals(
            [(value, name) for name, value in safe_globals().items()]
        )


def safe_globals() -> Dict[str, Callable]:
    """Return the globals in mmengine's and mmpose's checkpoints by name."""
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
    """Replace ``getattr`` in a checkpoint."""
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise pickle.UnpicklingError(
            'expected a statistic of mmengine.logging.HistoryBuffer in the '
            f'checkpoint, got {name!r} of {owner!r}; do not trust this file'
        )
    return getattr(owner, name)


def find_own_configs() -> None:
    """Resolve ``repfusion_mm::`` in configs to the configs of this package.

    mmengine knows only the packages in ``MODULE2PACKAGE``. It looks for the
    files next to the metadata of a distribution, where an editable install
    has none, but finds the folder of a name that is only a module.
    """
    MODULE2PACKAGE['repfusion_mm'] = 'repfusion_mm.version'


def find_configs_of_forks() -> None:
    """Resolve ``mmseg::`` in configs to the configs of a fork.

    mmengine looks for a distribution named mmsegmentation, then for a module
    of that name. The fork's distribution is named onedl-mmsegmentation, and
    its module mmseg.
    """
    if importlib.util.find_spec('mmseg') is None:
        return
    try:
        metadata.distribution('mmsegmentation')
    except metadata.PackageNotFoundError:
        MODULE2PACKAGE['mmseg'] = 'mmseg'


def torchvision_ops_load() -> bool:
    """Return whether torchvision's compiled operators load.

    They do not if torch comes from another build, such as CPU-only torch with
    a CUDA build of torchvision.
    """
    import torch

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
    """Skip fake kernels of operators in ``namespace`` that are missing.

    ``torch.library.register_fake`` raises for operators that are not
    registered. torchvision calls it unconditionally at import, so that a
    library that does not load prevents importing mmpretrain, mmpose and
    diffusers.
    """
    import torch

    register_fake = getattr(torch.library, 'register_fake', None)
    if register_fake is None:  # torch < 2.4: torchvision does not call it
        yield
        return

    def register_where_present(op, *args, **kwargs) -> Callable:
        owner, _, name = str(op).partition('::')
        if owner == namespace and not hasattr(getattr(torch.ops, owner), name):
            return lambda function: function
        return register_fake(op, *args, **kwargs)

    torch.library.register_fake = register_where_present
    try:
        yield
    finally:
        torch.library.register_fake = register_fake


class TorchLoader(SourceFileLoader):
    """Import torch, and allow mmengine's checkpoints."""

    def exec_module(self, module: ModuleType) -> None:
        """Import the module."""
        super().exec_module(module)
        allow_mmengine_checkpoints()


class TorchvisionLoader(SourceFileLoader):
    """Import torchvision, also if its operators do not load."""

    def exec_module(self, module: ModuleType) -> None:
        """Import the module."""
        if torchvision_ops_load():
            super().exec_module(module)
            return
        with without_missing_fakes('torchvision'):
            super().exec_module(module)


class TorchFinder(MetaPathFinder):
    """Find torch and torchvision, and import them with their workarounds."""

    LOADERS = dict(torch=TorchLoader, torchvision=TorchvisionLoader)

    def find_spec(
        self, name: str, path=None, target=None
    ) -> Optional[ModuleSpec]:
        """Return what the other finders find, with another loader."""
        if name not in self.LOADERS:
            return None
        for finder in sys.meta_path:
            spec = finder is not self and finder.find_spec(name, path, target)
            if spec:
                if spec.origin and isinstance(spec.loader, SourceFileLoader):
                    spec.loader = self.LOADERS[name](name, spec.origin)
                return spec
        return None


TORCH_FINDER = TorchFinder()


class MultimodalSwitch(MetaPathFinder):
    """Switch off mmpretrain's multimodal models if they do not import.

    mmpretrain 1.2.0 imports them if any transformers >= 4.28 is installed.
    They need names that transformers 5 removed, so that ``import
    mmpretrain.models`` raises. This finder finds nothing: it acts just before
    that import, because the check imports transformers, which takes seconds.
    """

    def find_spec(self, name: str, path=None, target=None) -> None:
        """Set mmpretrain's flag before its models are imported."""
        if name == 'mmpretrain.models':
            flags = vars(import_module('mmpretrain.utils.dependency'))
            if flags.get('WITH_MULTIMODAL'):
                flags['WITH_MULTIMODAL'] = multimodal_models_import()


MULTIMODAL_SWITCH = MultimodalSwitch()


def multimodal_models_import() -> bool:
    """Return whether transformers has all names that mmpretrain imports."""
    spec = importlib.util.find_spec('mmpretrain')
    models = Path(spec.origin).parent / 'models'  # type: ignore
    files = [*models.glob('multimodal/**/*.py'), *models.glob('utils/*.py')]
    names = {pair for file in files for pair in imports(file, 'transformers')}
    try:
        for module, name in names:
            getattr(__import__(module, fromlist=[name]), name)
    except Exception:  # transformers raises errors of several kinds
        return False
    return True


def imports(file: Path, package: str) -> Iterator[Tuple[str, str]]:
    """Yield module and name of the imports that run when a file is imported.

    Args:
        file: A Python file.
        package: Yield only imports of the form ``from PACKAGE... import``.
    """
    text = file.read_text(encoding='utf-8')
    if package not in text:
        return
    for statement in ast.parse(text).body:
        block = statement.body if isinstance(statement, ast.Try) else []
        for node in [statement, *block]:
            if isinstance(node, ast.ImportFrom) and not node.level:
                module = node.module or ''
                if module.partition('.')[0] == package:
                    yield from ((module, name.name) for name in node.names)
