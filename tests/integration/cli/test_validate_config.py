"""Settings that mmengine would ignore are refused."""

import ast
import importlib
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from repfusion_mm.cli import make_parser
from repfusion_mm.cli.config import load_config
from repfusion_mm.cli.home import expand_argument
from repfusion_mm.cli.validate_config import check_schedules
from repfusion_mm.engine.settings import check_names
from tests.helpers.launcher import ROOT

TEXT = """
data_root = 'data'
train_dataloader = dict(batch_size=4, dataset=dict(data_root=data_root))
"""


def load(tmp_path, text, *options):
    path = tmp_path / 'mine.py'
    path.write_text(text)
    options = ['--cfg-options', *options] if options else []
    return load_config(make_parser('').parse_args([str(path), *options]))


@pytest.mark.parametrize(
    ('name', 'meant'),
    [
        ('train_dataloder', 'train_dataloader'),
        ('custom_hook', 'custom_hooks'),
        ('models', 'model'),  # in a config of mmsegmentation 1.2.2
    ],
)
def test_a_name_that_is_nearly_a_setting_is_refused(tmp_path, name, meant):
    with pytest.raises(ValueError, match=f"'{name}', .* mean '{meant}'"):
        load(tmp_path, f'{name} = dict(a=1)')


def test_variables_and_settings_are_accepted(tmp_path):
    text = TEXT + 'train_pipeline = []\nconv_cfg = None\ntta_model = dict()'
    cfg = load(tmp_path, text, 'train_dataloader.batch_size=3', 'compile=True')
    assert cfg.train_dataloader.batch_size == 3
    assert cfg.compile is True


@pytest.mark.parametrize(
    ('option', 'said'),
    [
        ('data_root=/mine', 'a variable of .*mine.py'),
        ('train_dataloder.batch_size=3', 'mean train_dataloader'),
        ('xyz=1', 'which nothing would read'),
    ],
)
def test_an_option_that_nothing_reads_is_refused(tmp_path, option, said):
    with pytest.raises(ValueError, match=said):
        load(tmp_path, TEXT, option)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('randomness = dict(seed="abc")', "randomness.seed .*'abc'"),
        ('log_level = "LOUD"', "log_level .*'LOUD'"),
        ('train_dataloader = "abc"', r"train_dataloader=dict\(...\), .*'abc'"),
        ('default_hooks = "abc"', r"default_hooks=dict\(...\), got 'abc'"),
        ('env_cfg = "abc"', r"env_cfg=dict\(...\), got 'abc'"),
        ('randomness = 7', r'randomness=dict\(...\), got 7'),
        (
            'train_dataloader = dict(batch_size=0)',
            'train_dataloader.batch_size .*got 0',
        ),
        (
            'env_cfg = dict(cudnn_benchmak=True)',
            "'env_cfg.cudnn_benchmak', which nothing would read",
        ),
        (
            'default_hooks = dict(timer=dict(interval=3))',
            "'default_hooks.timer', got .*give it one",
        ),
        (
            'default_hooks = dict(chekpoint=dict(interval=3))',
            "'default_hooks.chekpoint'.*mean 'checkpoint'",
        ),
    ],
)
def test_a_value_that_mmengine_cannot_use_is_refused(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        load(tmp_path, text)


def test_modules_of_an_option_are_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'imported_by_an_option.py').touch()
    load(tmp_path, TEXT, 'custom_imports.imports=imported_by_an_option')
    assert 'imported_by_an_option' in sys.modules
    with pytest.raises(ImportError, match='no_such_module'):
        load(tmp_path, TEXT, 'custom_imports.imports=[no_such_module]')


def test_hooks_may_be_removed_or_added(tmp_path):
    hooks = 'default_hooks = dict(logger=None, mine=dict(type="Mine"))'
    assert load(tmp_path, hooks + '\nenv_cfg = dict(mp_cfg=dict())')


def test_configs_of_the_projects_are_accepted():
    """All but one, whose ``models`` nothing reads (BiSeNetV2)."""
    folders = [ROOT / 'configs']
    for project in ('mmpretrain', 'mmseg', 'mmpose'):
        module = importlib.import_module(project)
        folders.append(Path(module.__file__).parent / '.mim/configs')
    refused, tried = [], 0
    for path in (path for folder in folders for path in folder.rglob('*.py')):
        body = ast.parse(path.read_text()).body
        targets = [i.targets[0] for i in body if isinstance(i, ast.Assign)]
        names = [i.id for i in targets if isinstance(i, ast.Name)]
        tried += 1
        try:
            check_names(Config(dict.fromkeys(names)))
        except ValueError:
            refused.append(path.stem)
    assert tried > 1000
    assert refused == ['bisenetv2_fcn_4xb4-ohem-160k_cityscapes-1024x1024']


def test_a_part_that_is_not_trained_may_have_a_schedule():
    """``UnusedSettingsHook`` warns of it."""
    wrapper = dict(student=dict(optimizer=dict(type='SGD')), policy=None)
    step = dict(type='StepLR', step_size=1)
    schedules = dict(student=step, policy=step)
    check_schedules(
        Config(dict(optim_wrapper=wrapper, param_scheduler=schedules))
    )
    schedules = dict(student=step, other=step)
    with pytest.raises(ValueError, match=r"got \['other'\]"):
        check_schedules(
            Config(dict(optim_wrapper=wrapper, param_scheduler=schedules))
        )


def test_a_home_directory_may_have_backslashes(monkeypatch):
    monkeypatch.setattr('os.path.expanduser', lambda path: r'C:\Users\me')
    assert expand_argument('--foo') == '--foo'
    assert expand_argument('a=~/b') == r'a=C:\Users\me/b'
