"""Mixed precision with bfloat16, on the device of the weights."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from repfusion_mm.engine.optimizers import BFloat16OptimWrapper
from tests.helpers.toy import batch, distiller_config

CONFIG = dict(
    constructor='repfusion_mm.MultiOptimWrapperConstructor',
    student=dict(optimizer=dict(type='SGD', lr=0.1)),
    policy=dict(optimizer=dict(type='Adam', lr=1e-3)),
    decoder=dict(optimizer=dict(type='Adam', lr=1e-2)),
)


def run_step(**overrides):
    """Return the model, its losses and the dtypes of its parts' outputs."""
    torch.manual_seed(0)
    model = MODELS.build(distiller_config())
    wrapper = build_optim_wrapper(model, {**CONFIG, **overrides})
    dtypes = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) or name == 'decoder':
            module.register_forward_hook(
                lambda module, args, output, name=name: dtypes.update(
                    {name: output.dtype}
                )
            )
    torch.manual_seed(1)
    with wrapper.optim_context(model):
        losses = model(**model.data_preprocessor(batch(), True), mode='loss')
        loss, _ = model.parse_losses(losses)
    wrapper.backward(loss)
    return model, losses, dtypes


def test_only_the_trained_networks_compute_in_bfloat16():
    _, losses, dtypes = run_step(type='repfusion_mm.BFloat16OptimWrapper')
    for name, dtype in dtypes.items():
        low = name.startswith(('student', 'connectors', 'decoder.'))
        assert dtype == (torch.bfloat16 if low else torch.float32), name
    parts = {name.split('.')[0] for name in dtypes}
    assert parts == {'student', 'connectors', 'decoder', 'policy'}
    for name, value in losses.items():
        assert value.dtype == torch.float32, name


def test_gradients_equal_those_of_float32_up_to_rounding():
    exact, _, _ = run_step()
    model, _, _ = run_step(type='repfusion_mm.BFloat16OptimWrapper')
    for part in ('student', 'policy', 'decoder'):
        ours, theirs = (
            torch.cat(
                [
                    p.grad.flatten()
                    for p in m.optim_parts()[part].parameters()
                    if p.grad is not None
                ]
            )
            for m in (model, exact)
        )
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, theirs)
        assert torch.cosine_similarity(ours, theirs, 0) > 0.9, part


def test_loss_scaling_is_refused():
    with pytest.raises(ValueError, match='loss_scale'):
        run_step(type=BFloat16OptimWrapper, loss_scale='dynamic')
