"""Types are compared as classes."""

import pytest
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.registry import HOOKS, MODELS

from repfusion_mm.engine.hooks import SafeCheckpointHook
from repfusion_mm.models import RepFusion
from repfusion_mm.utils.types import init_arguments, is_type, resolve_type


@pytest.mark.parametrize(
    'name',
    [
        'SafeCheckpointHook',
        'repfusion_mm.SafeCheckpointHook',
        'repfusion_mm.engine.hooks.SafeCheckpointHook',
        'repfusion_mm.engine.hooks.checkpoint_hook.SafeCheckpointHook',
        SafeCheckpointHook,
    ],
)
def test_a_class_has_many_names(name):
    config = dict(type=name)
    assert resolve_type(config, HOOKS, 'repfusion_mm') is SafeCheckpointHook
    assert is_type(config, CheckpointHook, HOOKS, 'repfusion_mm')
    assert not is_type(config, LoggerHook, HOOKS, 'repfusion_mm')


@pytest.mark.parametrize(
    'config', [None, {}, [], dict(type='nowhere.Nothing'), dict(type='No')]
)
def test_what_names_no_class_is_of_no_type(config):
    assert resolve_type(config, HOOKS) is None
    assert not is_type(config, object, HOOKS)


def test_functions_are_no_classes():
    assert not is_type(dict(type=print), object, MODELS)
    assert is_type(dict(type='repfusion_mm.RepFusion'), RepFusion, MODELS)


def test_arguments_of_a_class_contain_those_of_its_bases():
    class Base:
        def __init__(self, base, *args, **kwargs):
            pass

    class Derived(Base):
        def __init__(self, own, **kwargs):
            pass

    assert init_arguments(Derived) == {'base', 'own'}
