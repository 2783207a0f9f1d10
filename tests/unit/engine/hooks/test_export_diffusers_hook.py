import json
import logging

import diffusers
import pytest
import torch
from mmengine.runner import Runner
from torch import nn

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.hooks import ExportDiffusersHook
from repfusion_mm.engine.utils import copy_to_cpu
from repfusion_mm.models import DiffusersTeacher
from tests.helpers.memory_run import teacher_config
from tests.helpers.toy import LAYER


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_trained_denoiser_is_a_teacher(tmp_path, dtype, caplog):
    logger = logging.getLogger('diffusers.models.modeling_utils')
    logger.addHandler(caplog.handler)
    hooks = [
        dict(type='EMAHook', momentum=0.5),
        dict(type='repfusion_mm.ExportDiffusersHook', dtype=dtype),
    ]
    runner = Runner.from_cfg(teacher_config(tmp_path, hooks))
    runner.train()
    logger.removeHandler(caplog.handler)
    assert not caplog.records  # such as a warning of the cast
    folder = tmp_path / 'teacher'
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1
    length = json.loads((folder / 'training.json').read_text())
    assert length == dict(iterations=runner.iter)
    unet = diffusers.UNet2DModel.from_pretrained(folder)
    checkpoint = load_from_local(tmp_path / 'epoch_1.pth')
    for key, value in unet.state_dict().items():
        averaged = checkpoint['state_dict'][f'denoiser.{key}']
        stored = averaged.to(getattr(torch, dtype)).float()
        assert torch.equal(value.float(), stored)
    raw = runner.model.denoiser.conv_in.weight
    assert not torch.equal(unet.conv_in.weight.float(), raw)
    teacher = DiffusersTeacher([LAYER], str(folder))
    assert teacher.num_timesteps == 1000
    feats = teacher(torch.rand(2, 3, 16, 16), torch.tensor([3, 999]))
    assert feats[LAYER].dtype == torch.float32


def test_end_of_the_run_says_where_the_model_is(tmp_path, log):
    hooks = [dict(type='repfusion_mm.ExportDiffusersHook')]
    runner = Runner.from_cfg(teacher_config(tmp_path, hooks))
    runner.logger.addHandler(log.handler)
    runner.train()
    assert f'the model is in {tmp_path / "teacher"}' in log.messages


def test_unknown_dtypes_are_refused():
    with pytest.raises(ValueError, match="got 'half'"):
        ExportDiffusersHook(dtype='half')


def test_the_model_is_not_copied_on_its_device(monkeypatch):
    """Its memory may not suffice for a second copy."""

    def refuse(tensor, memo):
        raise MemoryError

    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net.tied = net[0]
    net[0].bias.requires_grad_(False)
    monkeypatch.setattr(nn.Parameter, '__deepcopy__', refuse)
    monkeypatch.setattr(torch.Tensor, '__deepcopy__', refuse)
    copied = copy_to_cpu(net)
    assert copied.tied is copied[0]
    assert copied[0].weight.requires_grad
    assert not copied[0].bias.requires_grad
    for value, original in zip(
        copied.state_dict().values(), net.state_dict().values()
    ):
        assert torch.equal(value, original)
        assert value.data_ptr() != original.data_ptr()
