"""Names at the top level of a config that nothing reads."""

import json
import re

import pytest
from mmengine.config import Config

from repfusion_mm.cli.validate_config import check_options
from repfusion_mm.engine.settings import check_names
from repfusion_mm.engine.settings.names import find_unused
from tests.helpers.launcher import ROOT

BASE = ROOT / 'configs/distill/repfusion_resnet18_digits.py'


def check(folder, text, base=BASE, name='mine.py'):
    path = folder / name
    path.write_text(f'_base_ = [{str(base)!r}]\n{text}' if base else text)
    check_names(Config.fromfile(path))


@pytest.mark.parametrize(
    ('text', 'works'),
    [
        # Variables of the base config, which has evaluated them.
        ("data_root = 'x'", r'train_dataloader\.dataset\.datasets\.0\.data_r'),
        ('image_size = 32', r'a copy of .*digits\.py in its folder with ano'),
        ("vis_backends = [dict(type='x')]", r'visualizer\.vis_backends'),
        ('data_preprocessor = dict(mean=[1])', r'model\.data_preprocessor'),
        # Settings of no runner.
        ('batch_size = 8', r'train_dataloader\.batch_size'),
        ('max_epochs = 3', r'train_cfg\.max_epochs'),
        ('lr = 0.1', r'optim_wrapper\.student\.optimizer\.lr'),
        # Settings of OpenMMLab 1.x.
        ('optimizer = dict(lr=1)', r'optim_wrapper\.student\.optimizer'),
        ("lr_config = dict(policy='step')", 'set param_scheduler'),
        ('total_epochs = 3', r'train_cfg\.max_epochs'),
        ("runner = dict(type='EpochBasedRunner')", 'set train_cfg'),
        ('data = dict(samples_per_gpu=3)', 'set train_dataloader'),
        ("resume_from = 'x'", r'\(--resume CHECKPOINT\)'),
        ("fp16 = dict(loss_scale='dynamic')", 'AmpOptimWrapper'),
        ('seed = 0', r'randomness\.seed'),
        ('cudnn_benchmark = True', r'env_cfg\.cudnn_benchmark'),
        ("workflow = [('train', 1)]", 'val_interval'),
        ('checkpoint_config = dict(interval=1)', r'default_hooks\.checkpoi'),
    ],
)
def test_a_name_that_is_not_used_is_refused(tmp_path, text, works):
    name = text.split(' ')[0]
    with pytest.raises(ValueError, match=f"'{name}', which .*{works}"):
        check(tmp_path, text)


@pytest.mark.parametrize(
    'text',
    [
        'n = 4\ntrain_dataloader = dict(batch_size=n)',
        "hook = dict(type='EMAHook')\ncustom_hooks = [hook]",
        "tta_model = dict(type='x')\nmine = None",
        'optimizer = dict(lr=1)\noptim_wrapper = dict(student=optimizer)',
        # Other names of parts of a setting, which change it.
        'parts = _base_.train_dataloader.dataset.datasets\n'
        'for data in parts:\n    data["lazy_init"] = True\n'
        'train_dataloader = dict(dataset=dict(datasets=parts))',
        'loader = _base_.train_dataloader\nbatch_size = loader.sampler\n'
        'batch_size.update(seed=1)\ntrain_dataloader = loader',
        'data_preprocessor = dict(std=[127.5] * 3)',  # as in the model
    ],
)
def test_variables_that_are_used_are_accepted(tmp_path, text):
    check(tmp_path, text)


@pytest.mark.parametrize(
    ('text', 'advice'),
    [
        # Items of a list cannot be set in a child config.
        (
            "data_root = 'x'",
            r'; give --cfg-options probe_dataset\.data_root=\.\.\. '
            r'train_dataloader\.dataset\.datasets\.0\.data_root=\.\.\., or '
            r'use a copy of .*repfusion_custom\.py .* with another data_root',
        ),
        ('student = dict(depth=34)', r'; set model\.student, or use a copy'),
        ('teacher = dict(dtype=1)', r'; set model\.teacher, or use a copy'),
        ('image_size = 32', r'; use a copy of .*custom\.py'),
    ],
)
def test_all_settings_that_a_variable_has_become_are_named(
    tmp_path, text, advice
):
    base = ROOT / 'configs/distill/repfusion_custom.py'
    with pytest.raises(ValueError, match=advice):
        check(tmp_path, text, base)
    with pytest.raises(ValueError, match=advice):
        check_options(Config.fromfile(base), [text.split(' ')[0]])


@pytest.mark.parametrize(
    'text',
    [
        'labels = None',
        "data_root = ''",
        'timesteps = dict(low=0)',
        '_base_.labels = None',
        "_base_['labels'] = 'folders'",
        '_base_.timesteps.low = 0',
        '_base_.timesteps.update(low=0)',
        'batch_size = _base_.batch_size\nbatch_size += 8',
        '_base_.batch_size *= 2',
        "_base_.labels = 'x'\nwork_dir = _base_.data_root",
    ],
)
def test_no_form_of_a_change_of_a_variable_is_missed(tmp_path, text):
    base = ROOT / 'configs/distill/repfusion_custom.py'
    name = re.search(r'(?:_base_\W+)?(\w+)', text)[1]
    error = f'{name!r}, which .* a copy of .*custom\\.py'
    with pytest.raises(ValueError, match=error):
        check(tmp_path, text, base)
    # Nor in a child of a child, which changes no variable itself.
    (tmp_path / 'middle.py').write_text(f'_base_ = [{str(base)!r}]')
    with pytest.raises(ValueError, match=error):
        check(tmp_path, text, 'middle.py')


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('mine.json', '{{"_base_": "{}", "labels": null}}'),
        ('mine.yml', '_base_: {}\nlabels:\n'),
        ('mine.yaml', "_base_: {}\nlabels: ''\n"),
    ],
)
def test_changes_to_nothing_in_other_formats_are_refused(tmp_path, name, text):
    base = ROOT / 'configs/distill/repfusion_custom.py'
    with pytest.raises(ValueError, match=f"{name}, got 'labels', which"):
        check(tmp_path, text.format(base), base=None, name=name)


def test_settings_that_are_edited_in_a_base_are_accepted(tmp_path):
    text = (
        "_base_.model.student.depth = 34\n_base_['train_cfg'].max_epochs = 2"
    )
    check(tmp_path, text)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert (cfg.model.student.depth, cfg.train_cfg.max_epochs) == (34, 2)


def actions(folder, middle, text, base=BASE):
    """Return the actions for the names of a config with an intermediate."""
    (folder / 'middle.py').write_text(f'_base_ = [{str(base)!r}]\n{middle}')
    path = folder / 'mine.py'
    path.write_text(f"_base_ = 'mid' + 'dle.py'\n{text}")
    found = find_unused(Config.fromfile(path))
    return {name: action for _, name, action in found}


def test_names_of_an_inherited_file_that_its_child_reads_are_accepted(
    tmp_path,
):
    child = "randomness = dict(seed=_base_.seed)\nwork_dir = '{{_base_.lr}}'"
    assert actions(tmp_path, 'seed = 3\nlr = 1\n_mine = 2', child) == {}
    assert actions(tmp_path, 'seed = 3', '') == {'seed': 'warning'}
    # A base that offers variables: not all that inherit from it use all.
    child = 'work_dir = _base_.folder'
    assert actions(tmp_path, "folder = 'x'\nnote = 1", child) == {}


def test_variables_that_an_inherited_file_changes_are_refused(tmp_path):
    middle = 'data_root = 2\nimage_size = 32\nnote = 1\nlr_config = 1'
    assert actions(tmp_path, middle, '') == {
        'data_root': 'error',
        'image_size': 'warning',
        'note': 'warning',
        'lr_config': 'warning',
    }


def test_names_without_a_setting_are_logged(tmp_path):
    assert actions(tmp_path, '', 'run_note = 1\n_own = 2') == {
        'run_note': 'warning'
    }


def test_names_like_settings_are_refused_if_they_are_not_used(tmp_path):
    assert actions(tmp_path, '', 'models = 1') == {'models': 'error'}
    assert actions(tmp_path, '', 'models = 1\nwork_dir = str(models)') == {}


def test_names_like_variables_of_a_base_are_refused(tmp_path):
    assert actions(tmp_path, 'image_size = 32', 'image_sise = 16') == {
        'image_size': 'warning',
        'image_sise': 'error',
    }


def test_edited_variables_of_dumped_configs_are_logged(tmp_path):
    """Not refused: --cfg-options sets other values than the variables."""
    text = Config.fromfile(BASE).pretty_text
    path = tmp_path / 'dumped.py'
    path.write_text(text)
    assert [*find_unused(Config.fromfile(path))] == []
    path = tmp_path / 'edited.py'
    path.write_text(re.sub(r'\n(data_root ?= ?).*', r'\n\g<1>1', text))
    assert [*find_unused(Config.fromfile(path))] == [
        (str(path), 'data_root', 'warning')
    ]


@pytest.mark.parametrize(
    ('text', 'error'),
    [
        ('data.update(n=2)', r"mine\.py, got 'data'"),
        ("data['n'] = 2", r"mine\.py, got 'data'"),
        ('steps.append(1)', r"mine\.py, got 'steps'"),
        ('data.n = 2\ntrain_dataloader.dataset = data', None),
        ('train_dataloader.dataset.n = 2', None),
    ],
)
def test_imported_dicts_that_are_edited_after_their_use_are_refused(
    tmp_path, text, error
):
    (tmp_path / 'base.py').write_text(
        'data = dict(n=1)\nsteps = []\nclip = dict(steps=steps)\n'
        'train_dataloader = dict(dataset=data)\n'
    )
    text = (
        'from mmengine.config import read_base\n'
        f'with read_base():\n    from .base import *\n{text}\n'
    )
    if error is None:
        return check(tmp_path, text, base=None)
    with pytest.raises(ValueError, match=error):
        check(tmp_path, text, base=None)


def test_warnings_are_logged_once(tmp_path, log):
    path = tmp_path / 'mine.py'
    path.write_text(f'_base_ = [{str(BASE)!r}]\nonly_here = 1')
    for _ in range(2):
        check_names(Config.fromfile(path))
    assert log.text.count("got 'only_here'") == 1


def test_names_in_other_formats_are_found(tmp_path):
    text = json.dumps({'_base_': str(BASE), 'data_root': 'x'})
    with pytest.raises(ValueError, match=r"mine\.json, got 'data_root'"):
        check(tmp_path, text, base=None, name='mine.json')


@pytest.mark.parametrize(
    'name',
    [
        'distill/repfusion_resnet18_digits',
        'distill/repfusion_resnet18_on-device_cifar10',
        'finetune/mmseg/'
        'bisenetv1_r18-d32-repfusion_2xb8-160k_celebamask-hq-448x448',
    ],
)
def test_dumped_configs_are_accepted(tmp_path, name):
    text = Config.fromfile(ROOT / f'configs/{name}.py').pretty_text
    check(tmp_path, text, base=None)
    with pytest.raises(ValueError, match="got 'lr_config'"):
        check(tmp_path, f'{text}\nlr_config = dict()\n'.replace(
            'lr_config = dict()', "lr_config = dict(policy='x')"
        ), base=None)  # fmt: skip
