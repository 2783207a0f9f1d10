import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner
from safetensors.torch import load, save

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.hooks import ExportStudentHook
from repfusion_mm.engine.utils import select_prefix
from tests.helpers.levels import REGRESSOR, levels_config
from tests.helpers.memory_run import config
from tests.helpers.toy import LAYER, distiller_config


@pytest.mark.parametrize('averaged', [False, True])
def test_exported_student_is_that_of_the_checkpoint(tmp_path, averaged):
    hooks = [dict(type='repfusion_mm.ExportStudentHook')]
    if averaged:
        hooks.append(dict(type='EMAHook', momentum=0.1))
    student = dict(
        type='mmpretrain.ResNet_CIFAR', depth=18,
        stem_channels=16, base_channels=16,
    )  # fmt: skip
    runner = Runner.from_cfg(
        config(tmp_path, hooks, max_epochs=2, student=student)
    )
    runner.train()
    student = load_from_local(tmp_path / 'student.pth')
    checkpoint = load_from_local(tmp_path / 'epoch_2.pth')
    weights = student['state_dict']
    assert set(weights) == set(runner.model.student.state_dict())
    for key, value in weights.items():
        assert torch.equal(value, checkpoint['state_dict'][f'student.{key}'])
    # Channels last maps: safetensors refuses weights in this format.
    assert runner.model.memory_format == torch.channels_last
    assert load(save(weights)).keys() == weights.keys()
    trained = runner.model.student.state_dict()
    is_raw = torch.equal(weights['conv1.weight'], trained['conv1.weight'])
    assert is_raw != averaged
    assert student['meta']['averaged'] == averaged
    assert student['meta']['epoch'] == 2
    assert 'DiffusersTeacher' in student['meta']['teacher']
    assert not (tmp_path / 'student.pth.tmp').exists()


def test_the_feature_regressor_is_not_exported(tmp_path):
    hooks = [dict(type='repfusion_mm.ExportStudentHook')]
    model = levels_config(
        connector=dict(REGRESSOR, pool_scales=(1, 2)),
        teacher=dict(levels_config()['teacher'], input_size=None),
        input_size=16,
    )
    cfg = config(tmp_path, hooks, max_epochs=1, **model)
    runner = Runner.from_cfg(cfg)
    runner.train()
    weights = load_from_local(tmp_path / 'student.pth')['state_dict']
    assert set(weights) == set(runner.model.student.state_dict())
    checkpoint = load_from_local(tmp_path / 'epoch_1.pth')['state_dict']
    assert 'connectors.bottleneck.conv.weight' in checkpoint


def test_end_of_the_run_says_where_the_student_is(tmp_path, log):
    hooks = [dict(type='repfusion_mm.ExportStudentHook')]
    runner = Runner.from_cfg(config(tmp_path, hooks, max_epochs=1))
    runner.logger.addHandler(log.handler)
    runner.train()
    assert f'the student is in {tmp_path / "student.pth"}' in log.messages


def test_checkpoints_do_not_contain_the_teacher(tmp_path):
    hooks = [dict(type='EMAHook', momentum=0.1)]
    runner = Runner.from_cfg(config(tmp_path, hooks, max_epochs=1))
    runner.train()
    checkpoint = load_from_local(tmp_path / 'epoch_1.pth')
    parts = {'student', 'connectors', 'policy', 'decoder'}
    keys = [*checkpoint['state_dict']]
    assert {key.split('.')[0] for key in keys} == parts
    averaged = [*checkpoint['ema_state_dict']]
    averaged.remove('steps')  # the other keys begin with "module."
    assert {key.split('.')[1] for key in averaged} == parts


def test_students_of_oblong_images_are_exported(tmp_path):
    hooks = [dict(type='repfusion_mm.ExportStudentHook')]
    teacher = dict(distiller_config()['teacher'], input_size=(16, 24))
    cfg = config(tmp_path, hooks, max_epochs=1, teacher=teacher)
    Runner.from_cfg(cfg).train()
    meta = load_from_local(tmp_path / 'student.pth')['meta']
    assert list(meta['behavior']['size']) == [16, 24]


def test_normalizers_are_saved_and_described(tmp_path, log):
    hooks = [dict(type='repfusion_mm.ExportStudentHook')]
    cfg = config(tmp_path, hooks, max_epochs=1, normalizer='phi_s')
    runner = Runner.from_cfg(cfg)
    runner.logger.addHandler(log.handler)
    runner.train()
    assert 'lower num_images' in log.text  # 8 images of 1024
    checkpoint = load_from_local(tmp_path / 'epoch_1.pth')['state_dict']
    states = select_prefix(checkpoint, 'normalizers.')
    meta = load_from_local(tmp_path / 'student.pth')['meta']
    found = meta['normalizer'][LAYER]
    assert found['type'] == 'PHISNormalizer'
    assert (found['num_images'], found['complete']) == (8, False)
    assert torch.equal(found['mean'], states['0.mean'])
    assert found['scale'] == pytest.approx(float(states['0.scale']))


def test_nothing_is_described_without_a_normalizer(tmp_path, log):
    hooks = [dict(type='repfusion_mm.ExportStudentHook')]
    cfg = config(tmp_path, hooks, max_epochs=1, normalizer='none')
    runner = Runner.from_cfg(cfg)
    runner.logger.addHandler(log.handler)
    runner.train()
    assert 'lower num_images' not in log.text
    checkpoint = load_from_local(tmp_path / 'epoch_1.pth')['state_dict']
    assert not select_prefix(checkpoint, 'normalizers.')
    meta = load_from_local(tmp_path / 'student.pth')['meta']
    assert not meta['normalizer']


@pytest.mark.parametrize('filename', ['', '.', '..', '../x', '/x'])
@pytest.mark.parametrize('hook', ['ExportStudentHook', 'ExportDiffusersHook'])
def test_files_outside_the_work_directory_are_not_replaced(
    tmp_path, hook, filename
):
    hook = dict(type=f'repfusion_mm.{hook}', filename=filename)
    runner = Runner.from_cfg(config(tmp_path, [hook], max_epochs=1))
    with pytest.raises(ValueError, match=f'filename={filename!r}; correct'):
        runner.train()


@pytest.fixture
def with_prefix(tmp_path):
    """Return a trained student, and the config that loads its file.

    Configs of RTMDet and RTMPose set ``prefix='backbone.'``.
    """
    hook = dict(type='repfusion_mm.ExportStudentHook', prefix='backbone.')
    runner = Runner.from_cfg(config(tmp_path, [hook], max_epochs=1))
    runner.train()
    path = str(tmp_path / 'student.pth')
    return runner.model.student, dict(type='Pretrained', checkpoint=path)


def test_keys_of_a_student_have_the_prefix(with_prefix):
    student, init_cfg = with_prefix
    content = load_from_local(init_cfg['checkpoint'])
    keys = [f'backbone.{key}' for key in student.state_dict()]
    assert [*content['state_dict']] == keys
    assert 'error' not in content['meta']['behavior']


@pytest.mark.parametrize('scope', [dict(_scope_='repfusion_mm'), {}])
@pytest.mark.parametrize('prefix', ['backbone.', 'backbone'])
def test_a_student_is_loaded_with_its_prefix(with_prefix, scope, prefix):
    """Also by mmengine's own initializer, which adds the dot."""
    trained, init_cfg = with_prefix
    init_cfg.update(scope, prefix=prefix)
    student = MODELS.build(
        dict(distiller_config()['student'], init_cfg=init_cfg)
    )
    student.init_weights()
    for key, value in trained.state_dict().items():
        assert torch.equal(student.state_dict()[key], value), key


@pytest.mark.parametrize('wrong', [{}, dict(prefix=''), dict(prefix='a.')])
def test_another_prefix_is_refused(with_prefix, wrong):
    _, init_cfg = with_prefix
    init_cfg.update(wrong, _scope_='repfusion_mm')
    student = MODELS.build(
        dict(distiller_config()['student'], init_cfg=init_cfg)
    )
    with pytest.raises(ValueError, match=r"prefix='backbone\.' for"):
        student.init_weights()


@pytest.mark.parametrize('prefix', ['backbone', '.a', None, 1])
def test_a_prefix_without_a_dot_at_its_end_is_refused(prefix):
    with pytest.raises(ValueError, match=rf"end in '\.', .* got {prefix!r}"):
        ExportStudentHook(prefix=prefix)
