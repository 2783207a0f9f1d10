"""Classes that configs name."""

import re
from importlib import import_module

import pytest

from repfusion_mm import registry
from tests.helpers.launcher import ROOT

PACKAGES = {
    'MODELS': 'models',
    'HOOKS': 'engine.hooks',
    'DATASETS': 'datasets',
    'DATA_SAMPLERS': 'datasets',
    'TRANSFORMS': 'datasets',
    'OPTIM_WRAPPERS': 'engine.optimizers',
    'OPTIM_WRAPPER_CONSTRUCTORS': 'engine.optimizers',
    'WEIGHT_INITIALIZERS': 'engine.checkpoint',
}


@pytest.mark.parametrize('name', PACKAGES)
def test_registered_classes_can_be_imported_and_are_on_the_page(name):
    page = (ROOT / 'docs/classes.md').read_text()
    listed = {*re.findall(r'`(\w+)`', page)}
    found = getattr(registry, name)
    found.import_from_location()
    keys = {*found.module_dict, *getattr(found, 'modules', ())}
    assert keys <= registry.registered_names()
    package = import_module(f'repfusion_mm.{PACKAGES[name]}')
    for key in keys:
        cls = found.get(key)
        assert getattr(package, cls.__name__) is cls
        assert cls.__name__ in listed


def test_the_classes_on_the_page_exist():
    package = None
    text = (ROOT / 'docs/classes.md').read_text().partition('\n|')[2]
    for name in re.findall(r'`([\w.]+)`', text):
        module, _, cls = name.rpartition('.')
        if cls.islower():
            package = import_module(name)
        else:
            assert hasattr(import_module(module) if module else package, cls)
    assert package.__name__ == 'repfusion_mm.engine.checkpoint'


def test_an_unknown_dataset_is_not_found():
    """mmengine registers those of other packages by a function of theirs."""
    assert registry.DATASETS.get('repfusion_mm.NoSuchDataset') is None
