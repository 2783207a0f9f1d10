"""Values at the top level of a config are of the type that mmengine takes."""

import inspect

import pytest
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import FlexibleRunner, Runner

from repfusion_mm.engine.settings import check_types, check_values

#: Arguments for which any value is in effect, or that are checked elsewhere.
OTHERS = {'self', 'cfg', 'experiment_name', 'log_level'}
#: Settings that may be of these types.
ACCEPTED = {
    str: {'work_dir', 'load_from', 'launcher', 'default_scope'},
    bool: {'resume', 'compile'},
    list: {'custom_hooks', 'param_scheduler', 'val_evaluator'}
    | {'test_evaluator'},
}
NOT_DICTS = {*ACCEPTED[str], 'resume', 'custom_hooks'}


def arguments(runner):
    return {*inspect.signature(runner.__init__).parameters} - OTHERS


@pytest.mark.parametrize('value', ['x', 3, 0.5, True, [], {}])
def test_settings_of_a_wrong_type_are_refused(value):
    for name in arguments(Runner):
        accepted = name in ACCEPTED.get(type(value), ())
        if isinstance(value, dict):
            accepted = name not in NOT_DICTS
        if accepted:
            check_types(Config({name: value}))
        else:
            with pytest.raises(ValueError, match=f'^expected {name}=.*, got '):
                check_types(Config({name: value}))


@pytest.mark.parametrize('runner', [Runner, FlexibleRunner])
def test_the_defaults_of_runners_are_accepted(runner):
    defaults = {
        name: argument.default
        for name, argument in inspect.signature(
            runner.__init__
        ).parameters.items()
        if argument.default is not argument.empty
    }
    check_values(Config({**defaults, 'runner_type': runner.__name__}))


def test_the_runner_decides_which_types_are_taken():
    setting = dict(resume='a.pth')
    check_types(Config(dict(setting, runner_type='FlexibleRunner')))
    with pytest.raises(ValueError, match='name the checkpoint in load_from'):
        check_types(Config(setting))


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(custom_hooks=[3]), r'custom_hooks=\[dict\(...\), ...\], got'),
        (dict(env_cfg=None), r'env_cfg=dict'),
        (dict(env_cfg=dict(mp_cfg=None)), r'env_cfg\.mp_cfg=dict'),
        (
            dict(env_cfg=dict(dist_cfg=dict(timeoutt=3))),
            "'env_cfg.dist_cfg.timeoutt', which nothing .*mean 'timeout'",
        ),
        (
            dict(model_wrapper_cfg=dict(type=MMDistributedDataParallel, b=3)),
            "'model_wrapper_cfg.b', which nothing would read",
        ),
        (dict(randomness=dict(deterministic=True)), r'randomness\.seed'),
        (dict(randomness=dict(seed=-1)), r'randomness\.seed'),
        (
            dict(randomness=dict(seed=1, deterministic='no')),
            r'randomness\.deterministic=True or False',
        ),
        (
            dict(env_cfg=dict(cudnn_benchmark='no')),
            r'env_cfg\.cudnn_benchmark=True or False',
        ),
        (
            dict(env_cfg=dict(mp_cfg=dict(opencv_num_threads='0'))),
            r'env_cfg\.mp_cfg\.opencv_num_threads=an integer',
        ),
        (dict(sync_bn='syncbn'), "sync_bn='torch' or 'mmcv', got"),
        (dict(auto_scale_lr=dict(enable=True)), r'auto_scale_lr\.base_batch'),
        (dict(train_cfg=dict(by_epoch=True)), r'train_cfg\.max_epochs'),
        (dict(train_cfg={}), r'train_cfg\.by_epoch'),
        (dict(optim_wrapper={}), r'optim_wrapper\.optimizer'),
        (dict(model=dict(a=1)), r'model\.type'),
        (dict(visualizer=dict(a=1)), r'visualizer\.type'),
        (dict(log_level=None), 'log_level'),
        (dict(log_level=['INFO']), 'log_level'),
        (dict(env_cfg=dict(resource_limit='x')), r'env_cfg\.resource_limit='),
        (
            dict(log_processor=dict(window_size='x')),
            r'log_processor\.window_size to be 1 or more',
        ),
        (
            dict(train_dataloader=dict(sampler=[0], shuffle=True)),
            r'train_dataloader\.sampler, got .*\.shuffle=True; set',
        ),
        (
            dict(val_dataloader=dict(batch_sampler=dict(a=1), drop_last=True)),
            r'val_dataloader\.batch_sampler, got .*\.drop_last=True; set',
        ),
        (dict(compile=dict(mode='nonsense')), "compile .*mode=nonsense"),
        (dict(compile=dict(modes='default')), "compile .*'modes'"),
    ],
)  # fmt: skip
def test_values_that_are_ignored_or_cannot_be_used_are_refused(settings, said):
    with pytest.raises(ValueError, match=f'^expected .*{said}'):
        check_values(Config(settings))


class Annotated:
    """A runner that imports the type of an argument for checkers only."""

    def __init__(self, model: 'Missing'):  # noqa: F821
        pass


class Newer:
    """A runner with a type that this version of a library lacks."""

    def __init__(self, model: 'inspect.Missing'):
        pass


@pytest.mark.parametrize(
    'settings',
    [
        {},
        dict(custom_hooks=(), log_level=20, experiment_name=3, resume=1),
        dict(env_cfg=dict(dist_cfg=dict(backend='gloo', timeout=9, port=1))),
        dict(env_cfg=dict(dist_cfg=dict(init_backend='deepspeed', a=1))),
        dict(model_wrapper_cfg=None, compile=dict(mode='default')),
        dict(runner_type='FlexibleRunner', compile=dict(target='forward')),
        dict(runner_type=Annotated),
        dict(runner_type=Newer),
        dict(train_dataloader=dict(sampler=[0], drop_last=True)),
        dict(val_dataloader=dict(sampler=None, shuffle=True)),
        dict(test_dataloader=dict(batch_sampler=[[0]], drop_last=False)),
    ],
)
def test_values_that_are_used_are_accepted(settings):
    check_values(Config(settings))
