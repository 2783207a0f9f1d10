"""What a wheel holds, and what mim reads of it."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from modelindex.load_model_index import load

from tests.unit.test_configs import CONFIGS, ROOT

OWN_DATA = ('digits', 'custom')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Build the wheel from a copy, as it would be built from a clone."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    source.mkdir()
    for path in ('setup.py', 'README.md', 'MANIFEST.in', 'model-index.yml'):
        shutil.copy(ROOT / path, source)
    for path in ('repfusion_mm', 'configs', 'tools'):
        shutil.copytree(ROOT / path, source / path, symlinks=True)
    subprocess.run(
        [
            sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps',
            '--no-build-isolation', '--disable-pip-version-check', '.',
            '-w', str(folder),
        ],
        cwd=source,
        check=True,
    )  # fmt: skip
    return zipfile.ZipFile(next(folder.glob('*.whl')))


def test_the_wheel_holds_tools_and_configs_for_mim(wheel):
    inside = {Path(name) for name in wheel.namelist()}
    for folder in ('configs', 'tools'):
        files = {
            Path('repfusion_mm/.mim') / path.relative_to(ROOT)
            for path in (ROOT / folder).rglob('*')
            if path.is_file() and '__pycache__' not in path.parts
        }
        assert files
        assert files <= inside
    assert Path('repfusion_mm/.mim/model-index.yml') in inside
    assert not any('tests' in path.parts for path in inside)


def test_every_benchmark_is_in_the_model_index(monkeypatch):
    monkeypatch.chdir(ROOT)
    index = load('model-index.yml')
    index.build_models_with_collections()
    listed = {model.config: model for model in index.models}
    expected = {
        str(path.relative_to(ROOT))
        for path in CONFIGS
        if not path.stem.endswith(OWN_DATA)
    }
    assert set(listed) == expected
    for config, model in listed.items():
        assert model.name == Path(config).stem
        if 'finetune' in config:
            assert len(model.results) == 1


def test_no_result_is_claimed_that_was_not_measured(monkeypatch):
    monkeypatch.chdir(ROOT)
    index = load('model-index.yml')
    index.build_models_with_collections()
    values = [
        value
        for model in index.models
        for result in model.results or ()
        for value in result.metrics.values()
    ]
    assert values
    assert set(values) == {None}
