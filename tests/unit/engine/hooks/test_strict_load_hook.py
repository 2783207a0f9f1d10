import pytest
import torch
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmengine.runner import Runner

from tests.helpers.memory_run import config
from tests.helpers.toy import distiller_config


@pytest.mark.parametrize('resume', [True, False])
def test_checkpoints_of_another_architecture_are_refused(tmp_path, resume):
    hook = dict(type='repfusion_mm.StrictLoadHook')
    written = Runner.from_cfg(config(tmp_path / 'a', [hook], max_epochs=1))
    written.train()
    path = str(tmp_path / 'a' / 'epoch_1.pth')
    for name, width, fits in (('b', 8, True), ('c', 16, False)):
        student = distiller_config()['student']
        cfg = config(
            tmp_path / name,
            [hook],
            student=dict(student, base_channels=width),
        )
        cfg.load_from, cfg.resume = path, resume
        runner = Runner.from_cfg(cfg)
        if fits:
            runner.load_or_resume()
            continue
        with pytest.raises(ValueError, match='of RepFusion, got') as error:
            runner.train()
        text = str(error.value)
        assert 'student.layer1.0.conv1.weight: expected (16,' in text
        assert f"expected '{path}' to fit" in text
        assert ('to start training from' in text) is not resume
        assert runner.iter == 0


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('tta', [False, True])
def test_checkpoints_are_compared_as_they_are_loaded(tmp_path, prefix, tta):
    """mmengine unwraps the model of --tta, and removes "module."."""
    hook = dict(type='repfusion_mm.StrictLoadHook')
    runner = Runner.from_cfg(config(tmp_path, [hook]))
    model = runner.model
    weights = {prefix + key: v for key, v in model.state_dict().items()}
    path = str(tmp_path / 'weights.pth')
    torch.save(dict(state_dict=weights, meta={}), path)
    if tta:
        runner.model = Averaged(model)
    runner.load_checkpoint(path)
    runner.model = model
    (key, *_) = weights
    torch.save(dict(state_dict={key: weights[key]}, meta={}), path)
    with pytest.raises(ValueError, match='not in the checkpoint'):
        runner.load_checkpoint(path)


def test_averages_start_from_weights_without_a_state_dict(tmp_path):
    hooks = [dict(type='repfusion_mm.StrictLoadHook'), dict(type='EMAHook')]
    runner = Runner.from_cfg(config(tmp_path, hooks))
    weights = runner.model.state_dict()
    key = 'student.layer1.0.conv1.weight'
    weights[key] = weights[key] + 1
    torch.save(weights, tmp_path / 'weights.pth')
    runner.call_hook('before_run')
    runner.load_checkpoint(str(tmp_path / 'weights.pth'))
    assert torch.equal(runner.model.state_dict()[key], weights[key])


def test_names_that_mmengine_changes_are_refused(tmp_path):
    """Its pattern '^module.' matches 'modules', too."""
    hook = dict(type='repfusion_mm.StrictLoadHook')
    runner = Runner.from_cfg(config(tmp_path, [hook]))
    runner.model.module_list = torch.nn.ModuleList([torch.nn.Linear(1, 1)])
    path = str(tmp_path / 'weights.pth')
    torch.save(dict(state_dict=runner.model.state_dict(), meta={}), path)
    with pytest.raises(ValueError, match=r'module_list\.0\.weight: not in'):
        runner.load_checkpoint(path)


class Averaged(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return data_samples_list[0]


def test_weights_that_init_weights_changed_are_loaded_before_training(
    tmp_path,
):
    """An init_cfg that is a list does not stop zero_init_residual."""
    student = distiller_config()['student']
    path = str(tmp_path / 'student.pth')
    state = MODELS.build(student).state_dict()
    torch.save(state, path)
    init_cfg = [
        dict(type='Pretrained', _scope_='repfusion_mm', checkpoint=path)
    ]
    hook = dict(type='repfusion_mm.StrictLoadHook')
    runner = Runner.from_cfg(
        config(tmp_path, [hook], student=dict(student, init_cfg=init_cfg))
    )
    (strict,) = [
        h for h in runner.hooks if type(h).__name__ == 'StrictLoadHook'
    ]

    def changed():
        found = runner.model.student.state_dict()
        return [k for k, v in found.items() if not torch.equal(v, state[k])]

    strict.before_run(runner)
    runner.model.init_weights()
    assert changed()
    strict.before_train(runner)
    assert not changed()


@pytest.mark.parametrize('resume', [False, True])
def test_a_load_from_that_replaces_a_student_is_refused(tmp_path, resume):
    hook = dict(type='repfusion_mm.StrictLoadHook')
    student = distiller_config()['student']
    path = str(tmp_path / 'student.pth')
    torch.save(MODELS.build(student).state_dict(), path)
    Runner.from_cfg(config(tmp_path / 'a', [hook], max_epochs=1)).train()
    init_cfg = dict(type='Pretrained', _scope_='repfusion_mm', checkpoint=path)
    cfg = config(
        tmp_path / 'b', [hook], student=dict(student, init_cfg=init_cfg)
    )
    cfg.load_from, cfg.resume = str(tmp_path / 'a/epoch_1.pth'), resume
    runner = Runner.from_cfg(cfg)
    if resume:
        runner.train()
        return
    with pytest.raises(
        ValueError, match=r'or model\.student\.init_cfg to None'
    ):
        runner.train()
    assert runner.iter == 0


def swallow(self, init_cfg):
    """Keep the path only, as mmdet's DetectoRS_ResNet does."""
    self.init_cfg = None


def mark_as_initialized(self, init_cfg):
    """Skip init_weights, as mmpretrain's TIMMBackbone(pretrained=True)."""
    self._is_init = True


@pytest.mark.parametrize('change', [swallow, mark_as_initialized])
def test_a_backbone_that_ignores_its_init_cfg_is_refused(
    tmp_path, monkeypatch, change
):
    student = distiller_config()['student']
    path = str(tmp_path / 'student.pth')
    torch.save(MODELS.build(student).state_dict(), path)
    backbone = MODELS.get(student['type'])
    original = backbone.__init__

    def init(self, *args, init_cfg=None, **kwargs):
        original(self, *args, init_cfg=init_cfg, **kwargs)
        if init_cfg:
            change(self, init_cfg)

    monkeypatch.setattr(backbone, '__init__', init)
    init_cfg = dict(type='Pretrained', _scope_='repfusion_mm', checkpoint=path)
    cfg = config(tmp_path, [dict(type='repfusion_mm.StrictLoadHook')])
    cfg.model = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(student, init_cfg=init_cfg),
    )
    runner = Runner.from_cfg(cfg)
    (strict,) = [
        h for h in runner.hooks if type(h).__name__ == 'StrictLoadHook'
    ]
    strict.before_run(runner)
    runner.model.init_weights()
    with pytest.raises(
        ValueError, match=r'of model\.backbone\.init_cfg to be'
    ):
        strict.before_train(runner)


@pytest.mark.parametrize('frozen_stages', [1, -1])
def test_frozen_layers_of_a_loaded_student_are_warned_of(
    tmp_path, frozen_stages, log
):
    backbone = dict(distiller_config()['student'], frozen_stages=frozen_stages)
    path = str(tmp_path / 'student.pth')
    weights = {
        key: value + 1 if key.endswith('running_mean') else value
        for key, value in MODELS.build(backbone).state_dict().items()
    }
    torch.save(weights, path)
    init_cfg = dict(type='Pretrained', _scope_='repfusion_mm', checkpoint=path)
    cfg = config(tmp_path, [dict(type='repfusion_mm.StrictLoadHook')])
    cfg.model = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(backbone, init_cfg=init_cfg),
    )
    runner = Runner.from_cfg(cfg)
    runner.logger.addHandler(log.handler)
    (strict,) = [
        h for h in runner.hooks if type(h).__name__ == 'StrictLoadHook'
    ]
    strict.before_run(runner)
    runner.model.init_weights()
    strict.before_train(runner)
    warned = 'keep the statistics of the distillation' in log.text
    assert warned == (frozen_stages == 1)
    assert 'is not checked' not in log.text


def test_mmengines_initializer_is_warned_of(tmp_path, log):
    backbone = distiller_config()['student']
    path = str(tmp_path / 'student.pth')
    torch.save({}, path)
    cfg = config(tmp_path, [dict(type='repfusion_mm.StrictLoadHook')])
    cfg.model = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            backbone, init_cfg=dict(type='Pretrained', checkpoint=path)
        ),
    )
    runner = Runner.from_cfg(cfg)
    runner.logger.addHandler(log.handler)
    runner.call_hook('before_run')
    assert f'loads what fits of {path!r} and ignores the rest' in log.text
    assert "set model.backbone.init_cfg._scope_='repfusion_mm'" in log.text
