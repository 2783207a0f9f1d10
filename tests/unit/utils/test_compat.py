import importlib.util
import os
import pickle
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import HistoryBuffer

from repfusion_mm.utils import compat

ROOT = Path(__file__).parents[3]

needs_exceptions = pytest.mark.skipif(
    not compat.READS_SAFELY, reason='see test_safe_pickle'
)

needs_fakes = pytest.mark.skipif(
    not hasattr(torch.library, 'register_fake'),
    reason='torch < 2.4 has no register_fake',
)


def python(code, *arguments, **environ):
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environ},
    )
    return done.stdout.strip(), done.stderr


@needs_exceptions
def test_logs_in_checkpoints_load_safely(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    content = dict(log=buffer, numbers=[np.float64(2), np.int64(3)])
    torch.save(content, tmp_path / 'epoch_1.pth')
    loaded = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert loaded['log'].mean() == 1.5
    assert loaded['numbers'] == [2, 3]


@needs_exceptions
@pytest.mark.parametrize('kind', ['u1', 'i2', 'f2', 'f8', '?'])
def test_arrays_of_numbers_load_safely(kind, tmp_path):
    """mmpose stores its skeleton's colors in every checkpoint."""
    torch.save(np.ones(3, dtype=kind), tmp_path / 'epoch_1.pth')
    loaded = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert loaded.dtype == kind
    assert loaded.tolist() == [1, 1, 1]


@needs_exceptions
def test_empty_arrays_load_safely(tmp_path):
    torch.save(np.zeros((0, 3)), tmp_path / 'epoch_1.pth')
    loaded = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert loaded.shape == (0, 3)


@needs_exceptions
def test_arrays_of_objects_are_refused(tmp_path):
    torch.save(np.array([{}], dtype=object), tmp_path / 'epoch_1.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'epoch_1.pth', weights_only=True)


@pytest.mark.slow
@needs_exceptions
def test_logs_are_refused_without_the_workaround(tmp_path):
    torch.save(HistoryBuffer([1.0], [1]), tmp_path / 'log.pth')
    code = f"import torch; torch.load('{tmp_path / 'log.pth'}')"
    _, error = python(code)
    assert 'weights_only' in error


class Reach:
    """Pickles a getattr that is not a statistic of mmengine's buffer."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


@needs_exceptions
def test_other_attributes_are_refused(tmp_path):
    torch.save(Reach(), tmp_path / 'evil.pth')
    with pytest.raises(pickle.UnpicklingError, match='do not trust this file'):
        torch.load(tmp_path / 'evil.pth', weights_only=True)
    with pytest.raises(pickle.UnpicklingError):
        compat.history_statistic(dict, 'mean')


@pytest.mark.slow
def test_torchvision_imports_after_this_package():
    code = 'import repfusion_mm, torchvision, diffusers, mmpretrain; print(1)'
    out, error = python(code)
    assert out.endswith('1'), error


@needs_fakes
def test_missing_operators_are_skipped_and_others_registered():
    register_fake = torch.library.register_fake
    torch.library.define('repfusion_test::there', '(Tensor x) -> Tensor')
    calls = []

    def fake(x):
        calls.append(x)
        return x

    with compat.without_missing_fakes('repfusion_test'):
        assert torch.library.register_fake is not register_fake
        missing = torch.library.register_fake('repfusion_test::missing')
        assert missing(fake) is fake
        torch.library.register_fake('repfusion_test::there')(fake)
        with pytest.raises(RuntimeError):
            torch.library.register_fake('other::missing')(fake)
    assert torch.library.register_fake is register_fake
    torch.ops.repfusion_test.there(torch.empty(1, device='meta'))
    assert len(calls) == 1


@pytest.fixture
def fresh_torchvision(monkeypatch, tmp_path):
    """Provide a torchvision that records torch's ``register_fake``."""
    package = tmp_path / 'torchvision'
    package.mkdir()
    (package / '__init__.py').write_text(
        'import torch\nregister_fake = torch.library.register_fake\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in [*sys.modules]:
        if name.partition('.')[0] == 'torchvision':
            monkeypatch.delitem(sys.modules, name)


@needs_fakes
@pytest.mark.parametrize('works', [False, True])
def test_torchvision_skips_fakes_only_if_it_is_broken(
    works, monkeypatch, fresh_torchvision
):
    compat.apply_workarounds()
    assert 'torchvision' not in sys.modules
    monkeypatch.setattr(compat, 'torchvision_ops_load', lambda: works)
    register_fake = torch.library.register_fake
    torchvision = importlib.import_module('torchvision')
    assert (torchvision.register_fake is register_fake) == works
    assert torch.library.register_fake is register_fake
    assert isinstance(torchvision.__loader__, compat.TorchvisionLoader)


@needs_exceptions
@pytest.mark.slow
def test_torch_allows_logs_in_checkpoints_when_it_is_imported_later(tmp_path):
    torch.save(HistoryBuffer([1.0], [1]), tmp_path / 'log.pth')
    out, error = python(
        'import sys, repfusion_mm\n'
        'print("torch" in sys.modules)\n'
        'import torch\n'
        f'print(torch.load({str(tmp_path / "log.pth")!r}).mean())'
    )
    assert out.split() == ['False', '1.0'], error


def test_torchvision_works_if_its_operators_load(monkeypatch, tmp_path):
    package = tmp_path / 'torchvision'
    package.mkdir()
    (package / '__init__.py').touch()
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    monkeypatch.delitem(sys.modules, 'torchvision', raising=False)
    assert not compat.torchvision_ops_load()
    (package / '_C.so').write_bytes(b'not a library')
    assert not compat.torchvision_ops_load()
    monkeypatch.setattr(torch.ops, 'load_library', lambda path: None)
    assert compat.torchvision_ops_load()
    (package / '__init__.py').unlink()
    (package / '_C.so').unlink()
    package.rmdir()
    assert compat.torchvision_ops_load()  # without torchvision


@pytest.fixture
def installed_transformers(monkeypatch, tmp_path):
    """Return a function that installs a transformers with some names."""
    monkeypatch.syspath_prepend(tmp_path)
    for module in list(sys.modules):
        if module.partition('.')[0] == 'transformers':
            monkeypatch.delitem(sys.modules, module)

    def install(names):
        for module, name in names:
            folder = tmp_path.joinpath(*module.split('.'))
            for package in [folder, *folder.parents]:
                if package == tmp_path:
                    break
                package.mkdir(parents=True, exist_ok=True)
                (package / '__init__.py').touch()
            with (folder / '__init__.py').open('a') as file:
                file.write(f'{name} = object\n')

    yield install
    for module in list(sys.modules):
        if module.partition('.')[0] == 'transformers':
            del sys.modules[module]


def multimodal_names():
    models = Path(importlib.util.find_spec('mmpretrain').origin).parent
    files = sorted(models.glob('models/**/*.py'))
    names = {n for f in files for n in compat.imports(f, 'transformers')}
    return sorted(names)


def test_multimodal_models_stay_where_transformers_has_their_names(
    installed_transformers,
):
    names = multimodal_names()
    assert ('transformers.modeling_utils', 'PreTrainedModel') in names
    installed_transformers(names)
    assert compat.multimodal_models_import()


@pytest.mark.parametrize(
    'missing', ['apply_chunking_to_forward', 'GenerationMixin', 'BertConfig']
)
def test_multimodal_models_are_off_where_a_name_is_missing(
    installed_transformers, missing
):
    names = multimodal_names()
    kept = [pair for pair in names if pair[1] != missing]
    assert len(kept) == len(names) - 1
    installed_transformers(kept)
    assert not compat.multimodal_models_import()


def test_a_broken_transformers_does_not_break_mmpretrain(
    installed_transformers, tmp_path
):
    installed_transformers([('transformers', 'AutoConfig')])
    (tmp_path / 'transformers/__init__.py').write_text('1 / 0')
    assert not compat.multimodal_models_import()


@pytest.mark.slow
def test_mmpretrain_imports_next_to_transformers_5(tmp_path):
    package = tmp_path / 'transformers'
    package.mkdir()
    (package / '__init__.py').touch()
    info = tmp_path / 'transformers-5.24.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Name: transformers\nVersion: 5.24.0\n')
    out, error = python(
        'import sys; sys.path.insert(0, sys.argv[1])\n'
        'import repfusion_mm, mmpretrain.utils.dependency as dependency\n'
        'dependency.WITH_MULTIMODAL = True  # also without pycocotools\n'
        'print("mmpretrain.models" in sys.modules)\n'
        'from mmpretrain.models import ResNet\n'
        'print(dependency.satisfy_requirement("transformers>=4.28.0"))\n'
        'print(dependency.WITH_MULTIMODAL, ResNet.__name__)',
        str(tmp_path),
    )
    assert out.split() == ['False', 'True', 'False', 'ResNet'], error


def test_imports_of_functions_are_not_needed(tmp_path):
    (tmp_path / 'module.py').write_text(
        'import a\n'
        'from a.b import (c, d as e)\n'
        'from ab import f\n'
        'from .a import g\n'
        'try:\n    from a import h\nexcept ImportError:\n    h = None\n'
        'def function():\n    from a import i\n'
    )
    found = list(compat.imports(tmp_path / 'module.py', 'a'))
    assert found == [('a.b', 'c'), ('a.b', 'd'), ('a', 'h')]


@pytest.mark.parametrize(
    'finder', [compat.MULTIMODAL_SWITCH, compat.TORCH_FINDER]
)
def test_a_finder_is_added_once(finder):
    compat.apply_workarounds()
    compat.apply_workarounds()
    assert sys.meta_path.count(finder) == 1


def test_configs_of_a_fork_are_found(monkeypatch):
    """The distribution onedl-mmsegmentation contains the module mmseg."""

    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setitem(MODULE2PACKAGE, 'mmseg', 'mmsegmentation')
    with monkeypatch.context() as patch:
        patch.setattr(compat.metadata, 'distribution', not_installed)
        compat.find_configs_of_forks()
    assert MODULE2PACKAGE['mmseg'] == 'mmseg'
    folder = ROOT / 'configs/finetune/mmseg'
    config = Config.fromfile(next(folder.glob('bisenetv1_r18-d32-scratch*')))
    assert config.model.decode_head.num_classes == 19
