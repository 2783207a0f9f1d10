"""Checkpoints with weights that are not finite are not written."""

import math
from types import SimpleNamespace

import pytest
import torch

from repfusion_mm.engine.hooks import FiniteLossHook


@pytest.mark.parametrize('part', ['state_dict', 'ema_state_dict'])
def test_averages_do_not_hide_weights_that_are_not_finite(tmp_path, part):
    """An EMAHook puts the weights themselves into ema_state_dict."""
    model = torch.nn.Linear(1, 1)
    model.register_buffer('mask', torch.tensor(-math.inf))
    runner = SimpleNamespace(
        model=model, iter=0, max_iters=9, work_dir=str(tmp_path)
    )
    hook = FiniteLossHook()
    hook.before_train(runner)
    weights = model.state_dict()
    average = {f'module.{k}': v.clone() for k, v in weights.items()}
    checkpoint = dict(
        state_dict=weights, ema_state_dict=dict(average, steps=3)
    )
    hook.before_save_checkpoint(runner, checkpoint)
    for name, value in checkpoint[part].items():
        if name.endswith('weight'):
            value.fill_(math.nan)
    with pytest.raises(FloatingPointError, match=r'got 1 tensors \(weight,'):
        hook.before_save_checkpoint(runner, checkpoint)
