"""The wheel and the model index that mim reads."""

import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from mmengine.config import Config
from modelindex.load_model_index import load

from tests.helpers.launcher import ROOT, launch
from tests.unit.test_configs import DISTILL, FINETUNE

OWN_DATA = ('digits', 'custom')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the files in a fresh clone."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    source.mkdir()
    for name in (
        'setup.py', 'pyproject.toml', 'README.md', 'MANIFEST.in',
        'model-index.yml',
    ):  # fmt: skip
        shutil.copy(ROOT / name, source)
    for name in ('repfusion_mm', 'configs', 'tools'):
        shutil.copytree(ROOT / name, source / name, symlinks=True)
    launch(
        sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps',
        '--no-build-isolation', '--disable-pip-version-check', '.',
        '-w', folder, cwd=source, PYTHONPATH='',
    )  # fmt: skip
    return zipfile.ZipFile(next(folder.glob('*.whl')))


def test_the_wheel_holds_tools_and_configs_for_mim(wheel):
    in_wheel = {Path(name) for name in wheel.namelist()}
    for folder in ('configs', 'tools'):
        files = {
            Path('repfusion_mm/.mim') / path.relative_to(ROOT)
            for path in (ROOT / folder).rglob('*')
            if path.is_file()
            and not {'__pycache__', 'benchmarks'} & set(path.parts)
        }
        assert files
        assert files <= in_wheel
    assert Path('repfusion_mm/.mim/model-index.yml') in in_wheel
    folders = {part for path in in_wheel for part in path.parts}
    assert not folders & {'tests', 'benchmarks', 'projects'}


def test_a_config_inherits_from_one_of_the_wheel(wheel, tmp_path):
    wheel.extractall(tmp_path / 'site')
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = 'repfusion_mm::distill/repfusion_r18_cifar.py'")
    output = launch(
        sys.executable, '-c',
        'from repfusion_mm.cli.config import read_config\n'
        'from repfusion_mm.engine.settings.config_files import iter_files\n'
        "print(read_config('mine.py').model.type)\n"
        "print([file.path for file in iter_files('mine.py')][1])",
        cwd=tmp_path, PYTHONPATH=str(tmp_path / 'site'),
    )  # fmt: skip
    kind, base = output.split()[-2:]
    assert kind == 'repfusion_mm.RepFusion'
    assert base.startswith(str(tmp_path / 'site/repfusion_mm/.mim/configs'))


def test_the_wheel_holds_templates_and_type_information(wheel):
    names = set(wheel.namelist())
    assert 'repfusion_mm/analysis/report/page.html.jinja' in names
    assert 'repfusion_mm/py.typed' in names


def test_every_benchmark_is_in_the_model_index(monkeypatch):
    monkeypatch.chdir(ROOT)
    index = load('model-index.yml')
    index.build_models_with_collections()
    listed = {model.config: model for model in index.models}
    expected = {
        str(path.relative_to(ROOT))
        for path in [*DISTILL, *FINETUNE]
        if not path.stem.endswith(OWN_DATA)
    }
    assert set(listed) == expected
    for config, model in listed.items():
        assert model.name == Path(config).stem
        tasks = [result.task for result in model.results or ()]
        assert len({*tasks}) == len(tasks)
        assert bool(tasks) == ('finetune' in config)


def test_the_model_index_has_the_length_and_batch_size_of_the_runs(
    monkeypatch,
):
    monkeypatch.chdir(ROOT)
    for model in load('model-index.yml').models:
        cfg = Config.fromfile(model.config)
        listed = model.metadata.data
        for key, setting in (
            ('Epochs', 'max_epochs'),
            ('Iterations', 'max_iters'),
        ):
            assert listed.get(key) == cfg.train_cfg.get(setting), model.name
        if 'distill' in model.config:
            continue  # its number of GPUs is free
        # In the name, or 8 for a schedule 1x of mmdet.
        gpus = re.search(r'_(\d+)xb', model.name)
        gpus = int(gpus[1]) if gpus else 8
        size = gpus * cfg.train_dataloader.batch_size
        assert listed['Batch Size'] == size, model.name


def test_the_model_index_claims_no_unmeasured_result(monkeypatch):
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
