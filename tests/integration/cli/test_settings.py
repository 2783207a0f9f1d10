"""Each setting is in effect in what the runner built, or is refused."""

import cv2
import numpy as np
import pytest
from mmengine.hooks import Hook

from repfusion_mm.cli import build_runner
from tests.helpers.bad_inputs import PARTS
from tests.helpers.launcher import ROOT
from tests.helpers.process_state import clear_instances, preserved_state

CONFIG = ROOT / 'configs/distill/repfusion_resnet18_digits.py'
UNIFORM = [
    'model.policy.type=repfusion_mm.UniformTimestepPolicy',
    'model.policy.low=50',
]


class Stop(Exception):
    """Ends a run before its first iteration."""


class StopHook(Hook):
    """Raise ``Stop`` after ``before_train`` of the other hooks."""

    priority = 'LOWEST'

    def before_train(self, runner):
        raise Stop


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'{i}.png'), pixels)
    lines = [f'{i}.png {i}\n' for i in range(8)]
    (folder / 'labels.txt').write_text(''.join(lines))
    return folder


@pytest.fixture
def start(site, teacher_folder, tmp_path):
    """Return a function that starts a run; it ends before an iteration."""

    def call(*options, config=CONFIG):
        argv = [
            str(config), '--work-dir', str(tmp_path / 'run'), '--cfg-options',
            *[f'{PARTS}.{i}.data_root={site}' for i in range(2)],
            *[f'{PARTS}.{i}.data_prefix=' for i in range(2)],
            f'{PARTS}.0.ann_file=labels.txt',
            f'model.teacher.pretrained={teacher_folder}',
            'model.student.stem_channels=4', 'model.student.base_channels=4',
            'train_dataloader.batch_size=4',
            'train_dataloader.sampler.num_samples=8', *options,
        ]  # fmt: skip
        runner = build_runner(argv)
        runner.register_hook(StopHook())
        with pytest.raises(Stop):
            runner.train()
        return runner

    with preserved_state():
        clear_instances()
        yield call


def test_settings_are_in_effect(start):
    runner = start(
        'optim_wrapper.student.optimizer.lr=0.3',
        'optim_wrapper.decoder.optimizer.type=SGD',
        'optim_wrapper.clip_grad.max_norm=2.0',
        'optim_wrapper.accumulative_counts=2',
        'optim_wrapper.student.paramwise_cfg.norm_decay_mult=0.0',
        'param_scheduler.student.eta_min=0.01',
        'model.data_preprocessor.mean=[1.,2.,3.]',
        'train_cfg.max_epochs=7', 'default_hooks.checkpoint.interval=2',
        'default_hooks.timestep_policy.entropy_decay=0.25',
        'randomness.seed=5', 'log_processor.window_size=3',
    )  # fmt: skip
    parts = dict(runner.optim_wrapper.items())
    groups = parts['student'].param_groups
    assert {group['initial_lr'] for group in groups} == {0.3}
    assert {group['weight_decay'] for group in groups} == {0.0, 1e-4}
    assert type(parts['decoder'].optimizer).__name__ == 'SGD'
    for part in parts.values():
        assert part.clip_grad_kwargs == dict(max_norm=2.0)
        assert part._accumulative_counts == 2
    schedules = runner.param_schedulers
    assert schedules['student'][0].eta_min == 0.01
    assert schedules['student'][0].end == 14  # in iterations
    mean = runner.model.data_preprocessor.mean.flatten()
    assert mean.tolist() == [1.0, 2.0, 3.0]
    assert (runner.max_epochs, runner.max_iters) == (7, 14)
    hooks = {type(hook).__name__: hook for hook in runner.hooks}
    assert hooks['SafeCheckpointHook'].interval == 2
    assert hooks['TimestepPolicyHook'].entropy_decay == 0.25
    assert runner.seed == 5
    assert runner.log_processor.window_size == 3


def test_a_schedule_without_parts_is_that_of_all_parts(start):
    options = ['_delete_=True', 'type=ConstantLR', 'factor=0.5', 'end=1']
    runner = start(*[f'param_scheduler.{option}' for option in options])
    assert {*runner.param_schedulers} == {'student', 'policy', 'decoder'}
    for schedules in runner.param_schedulers.values():
        assert [type(i).__name__ for i in schedules] == ['ConstantLR']


@pytest.mark.parametrize('option', ['', '.student'])
def test_none_is_no_schedule(start, option):
    runner = start(f'param_scheduler{option}=None')
    assert not any((runner.param_schedulers or {}).values())


#: Options, and fragments of the error.
REFUSED = {
    'optimizer of all parts': (
        ['optim_wrapper.optimizer.lr=0.005'],
        r"\['optimizer'\].*optim_wrapper\.student\.optimizer",
    ),
    'rate of all parts': (['optim_wrapper.lr=1'], r"\['lr'\].*which no part"),
    'rate outside the optimizer': (
        ['optim_wrapper.student.lr=1'],
        r'in optim_wrapper\.student\.optimizer',
    ),
    'type of an optimizer': (
        ['optim_wrapper.student.optimizer.type=SGDD'],
        r"optim_wrapper\.student\.optimizer .*'SGDD'",
    ),
    'argument of clipping': (
        ['optim_wrapper.student.clip_grad.max_nrom=1'],
        r"optim_wrapper\.student .*max_norm.*'max_nrom'",
    ),
    'key of paramwise_cfg': (
        ['optim_wrapper.paramwise_cfg.norm_decay_mul=0'],
        r"norm_decay_mult.*\['norm_decay_mul'\]",
    ),
    'parameters of no name': (
        ['optim_wrapper.student.paramwise_cfg.custom_keys.backbone.lr_mult=1'],
        r"student\.paramwise_cfg\.custom_keys .*\['backbone'\]",
    ),
    'optimizer of a fixed policy': (
        ['optim_wrapper.policy.optimizer.lr=1', *UNIFORM],
        'the policy has none',
    ),
    'milestones of all parts': (
        ['param_scheduler.milestones=[1,2]'],
        r'set param_scheduler\.student\.milestones',
    ),
    'schedule of all parts': (
        ['param_scheduler.type=StepLR'],
        '_delete_=True',
    ),
    'schedules of some parts': (
        ['param_scheduler._delete_=True', 'param_scheduler.student=[]'],
        r"parts \['student', .*got \['student'\]; add .*\.policy=\[\]",
    ),
    'schedule without a type': (
        ['param_scheduler.student=[3]'],
        r'param_scheduler\.student\.0=dict\(type=...\)',
    ),
    'key of a list': (
        ['param_scheduler.policy.factor=3'],
        r'fit .*, got param_scheduler\.policy\.factor: list indices',
    ),
    'no hook for the schedule': (
        ['default_hooks.param_scheduler=None'],
        r'default_hooks\.param_scheduler=dict',
    ),
    'validation': (
        ['train_cfg.val_interval=5'],
        r'train_cfg\.val_interval.*no validation',
    ),
    'best checkpoint': (
        ['default_hooks.checkpoint.save_best=auto'],
        r'default_hooks\.checkpoint\.save_best.*without validation',
    ),
    'preprocessor': (
        ['data_preprocessor.mean=[1,2,3]'],
        r'set model\.data_preprocessor\.mean',
    ),
    'variable': (
        ['data_root=x'],
        r'train_dataloader\.dataset\.datasets\.0\.data_root',
    ),
    'old name': (['lr_config.policy=step'], 'set param_scheduler'),
    'short name': (['lr=1'], r'optim_wrapper\.student\.optimizer\.lr'),
    'launcher': (['launcher=pytorch'], 'the option --launcher'),
    'iterations': (['train_cfg.max_iters=3'], r"'train_cfg\.max_iters'"),
    'batch scaling': (['auto_scale_lr.enabled=True'], "mean 'enable'"),
    'processes': (['env_cfg.mp_cfg.start_method=fork'], 'mp_start_method'),
    'seed': (['randomness.sed=3'], "mean 'seed'"),
    'no epochs': (['train_cfg.max_epochs=0'], 'max_epochs to be 1 or more'),
    'epochs': (['train_cfg.max_epochs=abc'], "max_epochs .*'abc'"),
    'workers': (['train_dataloader.num_workers=abc'], "num_workers .*'abc'"),
    'checkpoints': (
        ['default_hooks.checkpoint.interval=abc'],
        r"'abc'; correct default_hooks\.checkpoint\.interval",
    ),
    'no checkpoints': (['default_hooks.checkpoint.interval=0'], 'got 0'),
    'hooks': (['custom_hooks=3'], r'custom_hooks=\[dict'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_settings_that_would_not_be_in_effect_are_refused(start, name):
    options, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        start(*options)


def write(folder, text):
    path = folder / 'mine.py'
    path.write_text(f"_base_ = ['{CONFIG}']\n{text}")
    return path


LOOP = 'train_cfg = dict(_delete_=True, by_epoch=False, max_iters=6)\n'
BY_ITER = 'dict(_delete_=True, type="StepLR", step_size=2, by_epoch=False)'


def test_settings_in_epochs_are_refused_in_a_run_by_iterations(
    start, tmp_path
):
    with pytest.raises(ValueError) as error:
        start(config=write(tmp_path, LOOP))
    for fragment in (
        'param_scheduler.student.by_epoch=False (without convert_to_iter',
        'default_hooks.checkpoint.by_epoch=False',
    ):
        assert fragment in str(error.value)
    text = LOOP + (
        'default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2))\n'
        f'param_scheduler = dict(student={BY_ITER})\n'
    )
    with pytest.raises(ValueError, match=r'custom_hooks\.0\.begin_iter'):
        start(
            config=write(
                tmp_path,
                f"{text}custom_hooks = [dict(type='EMAHook', begin_epoch=1)]",
            )
        )
    assert start(config=write(tmp_path, text)).max_iters == 6
    converted = 'param_scheduler = dict(student=dict(end=2))\n'
    text = text.replace('param_scheduler =', 'unused =')
    runner = start(config=write(tmp_path, f'{text}{converted}unused = None'))
    assert runner.param_schedulers['student'][0].end == 4


@pytest.mark.parametrize(
    'setting', ['interval=40', 'begin_iter=40', 'begin_epoch=20']
)
def test_an_average_of_the_first_weights_is_refused(start, tmp_path, setting):
    config = write(
        tmp_path, f'custom_hooks = [dict(type="EMAHook", {setting})]'
    )
    with pytest.raises(ValueError, match=r'expected custom_hooks\.0 to avera'):
        start(config=config)


def test_the_share_of_the_first_weights_in_an_average_is_logged(
    start, tmp_path
):
    hook = 'custom_hooks = [dict(type="EMAHook", momentum={})]'
    for momentum, is_logged in ((0.1, False), (0.001, True)):
        start(config=write(tmp_path, hook.format(momentum)))
        paths = sorted(tmp_path.glob('run/*/*.log'))
        assert ('96% of the average' in paths[-1].read_text()) == is_logged


def test_of_two_hooks_of_a_class_the_wrong_one_is_named(start, tmp_path):
    hooks = [
        dict(type='CheckpointHook', interval=i, out_dir='run')
        for i in (2, 'x')
    ]
    with pytest.raises(TypeError, match=r'custom_hooks\.1\.interval to be'):
        start(config=write(tmp_path, f'custom_hooks = {hooks}'))


def test_a_run_that_writes_no_student_is_logged(start, tmp_path):
    start('default_hooks.checkpoint.save_last=False',
          'default_hooks.checkpoint.interval=100')  # fmt: skip
    text = next(tmp_path.glob('run/*/*.log')).read_text()
    assert 'student.pth will not be written' in text
    assert 'default_hooks.checkpoint.save_last=True' in text


def test_missing_hooks_are_logged(start, tmp_path):
    start('default_hooks.export_student=None',
          'default_hooks.timestep_policy=None',
          'train_cfg.max_epochs=200')  # fmt: skip
    text = next(tmp_path.glob('run/*/*.log')).read_text()
    assert "the hooks ['ExportStudentHook', 'TimestepPolicyHook']" in text
    assert 'distill_hooks.py' in text


def test_a_normal_run_logs_no_such_warning(start, tmp_path):
    options = ['model.normalizer=none']  # the run is shorter than statistics
    start(*options)
    start(*options, *UNIFORM, 'optim_wrapper.policy=None',
          'model.decoder=None', 'optim_wrapper.decoder=None')  # fmt: skip
    for path in tmp_path.glob('run/*/*.log'):
        lines = path.read_text().splitlines()
        warnings = [line for line in lines if 'WARNING' in line]
        assert all('FileClient' in line for line in warnings), warnings
