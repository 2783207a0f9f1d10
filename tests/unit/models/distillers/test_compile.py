"""The student through torch.compile."""

import copy

import pytest
import torch
from mmengine.registry import MODELS

from tests.helpers.toy import batch, distiller_config

STUDENT = dict(
    type='mmpretrain.ResNet',
    depth=18,
    stem_channels=4,
    base_channels=4,
    out_indices=(0,),
)


def build(**overrides):
    torch.manual_seed(0)
    model = MODELS.build(distiller_config(student=STUDENT, **overrides))
    model.init_weights()
    return model.train()


def losses_of(model, data):
    torch.manual_seed(0)
    data = model.data_preprocessor(copy.deepcopy(data), True)
    losses = model(**data, mode='loss')
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    return losses['loss_distill'].detach()


def gradients(model):
    return {
        name: p.grad
        for name, p in model.student.named_parameters()
        if p.grad is not None
    }


@pytest.mark.compile
@pytest.mark.slow
def test_a_compiled_student_learns_the_same(fresh_compiler, log):
    plain, compiled = build(), build(compile=True)
    data = batch(4)
    torch.testing.assert_close(
        losses_of(compiled, data), losses_of(plain, data)
    )
    found, expected = gradients(compiled), gradients(plain)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict())
    assert compiled.run_student.compiled is not None
    assert 'compile failed' not in log.text
    # A copy runs its own student.
    copied = copy.deepcopy(compiled)
    copied.student.conv1.weight.data.zero_()
    assert losses_of(copied, data) != losses_of(compiled, data)


@pytest.mark.compile
@pytest.mark.slow
def test_without_a_compiler_the_student_runs_uncompiled(no_compiler, log):
    plain, compiled = build(), build(compile=True)
    for _ in range(2):
        data = batch(4)
        torch.testing.assert_close(
            losses_of(compiled, data), losses_of(plain, data)
        )
    torch.testing.assert_close(gradients(compiled), gradients(plain))
    assert log.text.count('the student runs uncompiled') == 1
