import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import (
    AmpOptimWrapper,
    OptimWrapper,
    build_optim_wrapper,
)
from mmengine.registry import MODELS

from repfusion_mm.engine.optimizers.joint_optim_wrapper import check_update
from tests.helpers.toy import batch, distiller_config


def config(**overrides):
    return {
        'constructor': 'repfusion_mm.MultiOptimWrapperConstructor',
        'student': dict(
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
            clip_grad=dict(max_norm=0.5),
        ),
        'policy': dict(optimizer=dict(type='Adam', lr=1e-3)),
        'decoder': dict(optimizer=dict(type='Adam', lr=1e-2)),
        **overrides,
    }


def build(**overrides):
    torch.manual_seed(0)  # for the teacher's weights
    return MODELS.build(distiller_config(**overrides))


def test_one_backward_equals_three():
    joint, plain = build(), build()
    plain.load_state_dict(joint.state_dict())
    wrapper = build_optim_wrapper(joint, config())
    student, policy, decoder = (
        list(part.parameters()) for part in plain.optim_parts().values()
    )
    optimizers = dict(
        loss_distill=torch.optim.SGD(student, lr=0.1, momentum=0.9),
        loss_policy=torch.optim.Adam(policy, lr=1e-3),
        loss_decoder=torch.optim.Adam(decoder, lr=1e-2),
    )
    for step in range(3):
        data = batch()
        torch.manual_seed(step)
        joint.train_step(copy.deepcopy(data), wrapper)
        torch.manual_seed(step)
        losses = plain(**plain.data_preprocessor(data, True), mode='loss')
        for name, optimizer in optimizers.items():
            optimizer.zero_grad()
            losses[name].backward()
        torch.nn.utils.clip_grad_norm_(student, 0.5)
        for optimizer in optimizers.values():
            optimizer.step()
    for ours, theirs in zip(joint.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, theirs)


class OwnUpdate(OptimWrapper):
    def update_params(self, *args, **kwargs):
        pass


class OwnAmpStep(AmpOptimWrapper):
    def step(self, **kwargs):
        pass


@pytest.mark.parametrize('kind', [OwnUpdate, OwnAmpStep])
def test_an_update_that_would_not_be_called_is_refused(kind):
    wrapper = object.__new__(kind)  # AmpOptimWrapper needs a GPU
    with pytest.raises(ValueError, match=f'got {kind.__name__}, whose own'):
        check_update(wrapper)


def test_gradients_accumulate_over_all_parts():
    model = build()
    wrapper = build_optim_wrapper(model, config(accumulative_counts=2))
    before = [p.clone() for p in model.parameters()]
    model.train_step(batch(), wrapper)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    model.train_step(batch(), wrapper)
    for part in model.optim_parts().values():
        assert all(p.grad is None for p in part.parameters())
    changed = [
        not torch.equal(a, b) for a, b in zip(before, model.parameters())
    ]
    assert sum(changed) > 0.9 * len(changed)


@pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'), reason='scales losses on a GPU only'
)
def test_amp_scales_once_for_all_parts(monkeypatch):
    """On a CPU: mmengine's wrapper refuses one, torch's scaler does not."""
    target = 'mmengine.optim.optimizer.amp_optimizer_wrapper'
    monkeypatch.setattr(f'{target}.is_cuda_available', lambda: True)
    models, scalers = [], []
    for scale in (1.0, 1024.0):
        monkeypatch.setattr(
            f'{target}.GradScaler',
            lambda scale=scale: torch.amp.GradScaler('cpu', init_scale=scale),
        )
        model = build()
        wrapper = build_optim_wrapper(
            model, config(type='AmpOptimWrapper', dtype='bfloat16')
        )
        assert all(isinstance(w, AmpOptimWrapper) for w in wrapper.values())
        for step in range(2):
            torch.manual_seed(step)
            model.train_step(batch(), wrapper)
        models.append(model)
        scalers.append({w.loss_scaler for w in wrapper.values()})
    assert [len(s) for s in scalers] == [1, 1]
    for ours, theirs in zip(*(m.parameters() for m in models)):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'), reason='scales losses on a GPU only'
)
def test_amp_skips_a_step_that_overflows(monkeypatch):
    target = 'mmengine.optim.optimizer.amp_optimizer_wrapper'
    monkeypatch.setattr(f'{target}.is_cuda_available', lambda: True)
    monkeypatch.setattr(
        f'{target}.GradScaler', lambda: torch.amp.GradScaler('cpu')
    )
    model = build()
    wrapper = build_optim_wrapper(
        model, config(type='AmpOptimWrapper', dtype='bfloat16')
    )
    before = [p.clone() for p in model.parameters()]
    scaler = wrapper['student'].loss_scaler
    loss = sum(p.sum() for p in model.parameters()) * float('inf')
    scale = scaler.get_scale()
    wrapper.update_params(loss)
    assert scaler.get_scale() == scale / 2
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))


def test_the_state_of_each_part_is_resumed():
    model = build()
    wrapper = build_optim_wrapper(model, config())
    model.train_step(batch(), wrapper)
    state = copy.deepcopy(wrapper.state_dict())
    fresh = build_optim_wrapper(model, config())
    fresh.load_state_dict(state)
    steps = fresh['policy'].optimizer.state_dict()['state'][0]['step']
    assert steps == 1
    state.pop('policy')
    with pytest.raises(ValueError, match=r"got \['decoder', 'student'\]"):
        fresh.load_state_dict(state)


def test_gradient_norms_are_logged_by_part():
    model = build()
    clip_grad = dict(max_norm=0.5)
    wrapper = build_optim_wrapper(
        model,
        config(
            policy=dict(optimizer=dict(type='SGD', lr=0.0)),
            decoder=dict(
                optimizer=dict(type='SGD', lr=0.1), clip_grad=clip_grad
            ),
        ),
    )
    hub = MessageHub.get_current_instance()
    hub.log_scalars.clear()
    for _ in range(2):
        model.train_step(batch(), wrapper)
    names = {name for name in hub.log_scalars if 'grad_norm' in name}
    assert names == {'train/student.grad_norm', 'train/decoder.grad_norm'}
    for name in names:
        assert len(hub.log_scalars[name].data[0]) == 2
