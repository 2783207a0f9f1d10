"""Configs in one's own folder that inherit from those of this package."""

import pytest

from repfusion_mm.cli import config
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.process_state import preserved_state


def read_config(path):
    """Read a config as the tools do, without an effect on this process."""
    with preserved_state():
        return config.read_config(str(path))


def copy_of(path, bases):
    """Return the text of a config with other paths of its bases."""
    return (ROOT / 'configs' / path).read_text().replace("'../", f"'{bases}")


@pytest.mark.parametrize(
    'name',
    [
        'distill/repfusion_r18_cifar.py',
        'distill/repfusion_custom.py',
        # Types without a scope, and a scope that is needed.
        'finetune/mmpretrain/resnet18-repfusion_digits.py',
        'finetune/mmseg/'
        'bisenetv1_r18-d32-repfusion_2xb8-160k_celebamask-hq-448x448.py',
    ],
)
def test_a_base_of_this_package_is_read_in_any_folder(tmp_path, name):
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = ['repfusion_mm::{name}']")
    found = read_config(path).to_dict()
    assert found == read_config(ROOT / 'configs' / name).to_dict()


def test_a_copy_is_read_in_any_folder(tmp_path):
    name, path = 'distill/repfusion_custom.py', tmp_path / 'mine.py'
    texts = [copy_of(name, base) for base in ('repfusion_mm::', '../')]
    assert texts[0] != texts[1]
    path.write_text(texts[0])
    found = read_config(path).to_dict()
    assert found == read_config(ROOT / 'configs' / name).to_dict()


def test_types_without_a_scope_are_those_of_default_scope(tmp_path):
    """Also inside of a dict that a base of this package has."""
    path = tmp_path / 'mine.py'
    path.write_text(
        "_base_ = ['repfusion_mm::distill/repfusion_resnet18_digits.py']\n"
        'train_dataloader = dict(dataset=dict(datasets=[\n'
        "    dict(type='CustomDataset', pipeline=[dict(type='PackInputs')])\n"
        ']), sampler=dict(proportions=[1]))\n'
    )
    assert '_scope_' not in read_config(path).train_dataloader.dataset


def test_a_variable_of_an_installed_base_is_changed_in_a_copy(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        "_base_ = ['repfusion_mm::distill/repfusion_custom.py']\n"
        'image_size = 32'
    )
    with pytest.raises(ValueError, match=r'copy of .*/\.mim/configs/') as info:
        read_config(path)
    for text in ('bases begin with repfusion_mm:: ', 'another image_size'):
        assert text in str(info.value)


def test_tools_take_such_a_config(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = ['repfusion_mm::distill/repfusion_missing.py']")
    result = run_main('tools/train.py', path, expect=1, cwd=tmp_path)
    assert 'configs/distill/repfusion_missing.py' in result.last_line
