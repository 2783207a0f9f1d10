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
    runner = Runner.from_cfg(config(tmp_path, hooks, max_epochs=2))
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
    for part in ('state_dict', 'ema_state_dict'):
        roots = {key.split('.')[0] for key in checkpoint[part]}
        if part == 'ema_state_dict':
            roots = {k.split('.')[1] for k in checkpoint[part] if '.' in k}
        assert roots == {'student', 'connectors', 'policy', 'decoder'}


def test_students_of_oblong_images_are_exported(tmp_path):
    hooks = [dict(type='repfusion_mm.ExportStudentHook')]
    teacher = dict(distiller_config()['teacher'], input_size=(16, 24))
    cfg = config(tmp_path, hooks, max_epochs=1, teacher=teacher)
    Runner.from_cfg(cfg).train()
    meta = load_from_local(tmp_path / 'student.pth')['meta']
    assert list(meta['behavior']['size']) == [16, 24]


def test_normalizers_are_saved_and_described(tmp_path, caplog):
    hooks = [dict(type='repfusion_mm.ExportStudentHook')]
    for name in ('none', 'phi_s'):
        cfg = config(tmp_path, hooks, max_epochs=1, normalizer=name)
        runner = Runner.from_cfg(cfg)
        runner.logger.addHandler(caplog.handler)
        runner.train()
        # 8 images of 1024.
        assert ('lower num_images' in caplog.text) == (name == 'phi_s')
        checkpoint = load_from_local(tmp_path / 'epoch_1.pth')['state_dict']
        meta = load_from_local(tmp_path / 'student.pth')['meta']
        states = select_prefix(checkpoint, 'normalizers.')
        if name == 'none':
            assert not states and not meta['normalizer']
    found = meta['normalizer'][LAYER]
    assert found['type'] == 'PHISNormalizer'
    assert (found['num_images'], found['complete']) == (8, False)
    assert torch.equal(found['mean'], states['0.mean'])
    assert found['scale'] == pytest.approx(float(states['0.scale']))


@pytest.mark.parametrize('filename', ['', '.', '..', '../x', '/x'])
@pytest.mark.parametrize('hook', ['ExportStudentHook', 'ExportDiffusersHook'])
def test_files_outside_the_work_directory_are_not_replaced(
    tmp_path, hook, filename
):
    hook = dict(type=f'repfusion_mm.{hook}', filename=filename)
    runner = Runner.from_cfg(config(tmp_path, [hook], max_epochs=1))
    with pytest.raises(ValueError, match=f'filename={filename!r}; correct'):
        runner.train()


@pytest.mark.parametrize('scope', ['repfusion_mm', None])
def test_a_student_with_a_prefix_loads_with_this_prefix_only(tmp_path, scope):
    """Configs of RTMDet and RTMPose set ``prefix='backbone.'``."""
    hook = dict(type='repfusion_mm.ExportStudentHook', prefix='backbone.')
    runner = Runner.from_cfg(config(tmp_path, [hook], max_epochs=1))
    runner.train()
    path = str(tmp_path / 'student.pth')
    trained = runner.model.student.state_dict()
    content = load_from_local(path)
    assert [*content['state_dict']] == [f'backbone.{k}' for k in trained]
    assert 'error' not in content['meta']['behavior']

    def load_with(**kwargs):
        init_cfg = dict(type='Pretrained', checkpoint=path, **kwargs)
        if scope:
            init_cfg['_scope_'] = scope
        student = MODELS.build(
            dict(distiller_config()['student'], init_cfg=init_cfg)
        )
        student.init_weights()
        return student.state_dict()

    for prefix in ('backbone.', 'backbone'):  # mmengine adds the dot
        for key, value in load_with(prefix=prefix).items():
            assert torch.equal(value, trained[key]), key
    for wrong in (dict(), dict(prefix=''), dict(prefix='student.')):
        if scope:
            with pytest.raises(ValueError, match=r"prefix='backbone\.' for"):
                load_with(**wrong)


@pytest.mark.parametrize('prefix', ['backbone', '.a', None, 1])
def test_a_prefix_without_a_dot_at_its_end_is_refused(prefix):
    with pytest.raises(ValueError, match=rf"end in '\.', .* got {prefix!r}"):
        ExportStudentHook(prefix=prefix)
