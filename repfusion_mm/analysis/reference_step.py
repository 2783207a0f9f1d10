"""One training step of the paper's reference implementation.

Written from its description (RepFusion, arXiv 2308.10916), for comparison.
"""

from __future__ import annotations

from typing import Dict, Optional

import torch
import torch.nn.functional as F
from mmengine.utils import to_2tuple

from repfusion_mm.analysis.measuring import DEVICE
from repfusion_mm.models.distillers.builders import as_tuple
from repfusion_mm.models.distillers.repfusion import NEEDED_HOOKS
from repfusion_mm.models.policies import LearnedTimestepPolicy
from repfusion_mm.models.teachers import DiffusersTeacher
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.types import is_type

ENTROPY_WEIGHT = 0.1


class ReferenceStep:
    """Train the parts of a config as the reference implementation does.

    The complete U-Net runs in float32 and hooks capture its maps, the reward
    has no baseline, and one SGD trains student, policy and decoder.

    Args:
        model: ``model`` of a config, whose teacher needs no network.
        optim_wrapper: ``optim_wrapper`` of the config.

    Raises:
        ValueError: The config uses what the reference does not have.
    """

    def __init__(self, model: dict, optim_wrapper: dict) -> None:
        _check_settings(model, optim_wrapper)
        changes = dict(early_stop=False, dtype='float32', compile=False)
        teacher = dict(model['teacher'], channels_last=False, **changes)
        policy = dict(model['policy'])
        if is_type(policy, LearnedTimestepPolicy, MODELS):
            policy.update(logits='free', baseline='none')
        parts = dict(teacher=teacher, policy=policy, channels_last=False)
        self.model = MODELS.build({**model, **parts}).to(DEVICE)
        self.model.attached_hooks.update(NEEDED_HOOKS)  # not missed here
        self.model.init_weights()
        self.model.train()
        self.teacher = self.model.teacher.live
        self.maps: Dict[str, torch.Tensor] = {}
        for name in self.teacher.layers:
            self.teacher.denoiser.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, name=name: self.maps.update(
                    {name: output}
                )
            )
        arguments = dict(optim_wrapper['student']['optimizer'])
        arguments.pop('type')
        self.optimizer = torch.optim.SGD(self.model.parameters(), **arguments)

    def __call__(
        self, data: dict, timesteps: Optional[torch.Tensor] = None
    ) -> None:
        """Train on one batch, at drawn or at given timesteps."""
        model = self.model
        data = model.data_preprocessor(data, True)
        images = model.images(data['inputs'])
        logits = model.policy.logits(images)
        pi = torch.distributions.Categorical(logits=logits)
        actions = pi.sample()
        if timesteps is None:
            timesteps = model.policy.timesteps[actions]
        size = to_2tuple(self.teacher.image_size)
        if images.shape[2:] != size:
            images = F.interpolate(
                images, size=size, mode='bilinear', antialias=True
            )
        self.maps.clear()
        with torch.no_grad():
            if self.teacher.encoder is None:
                self.teacher.denoiser(images * 2 - 1, timesteps)
            else:  # encodes the images in each step, and runs to the end
                self.maps.update(self.teacher(images, timesteps))
        # Layers need not be listed in the order in which they run.
        teacher_maps = {
            name: normalizer(self.maps[name])
            for normalizer, name in zip(model.normalizers, self.teacher.layers)
        }
        feats = as_tuple(model.student(data['inputs']))
        maps = model.connectors([feats[i] for i in model.student_indices])
        loss = sum(
            weight * model.distill_loss(feat, teacher_map)
            for weight, feat, teacher_map in zip(
                model.layer_weights, maps, teacher_maps.values()
            )
        )
        if model.decoder is not None:
            task_loss, labeled = model.decoder.loss(
                model.decoder_feat(teacher_maps), data['data_samples']
            )
            count = labeled.sum().clamp(min=1)
            loss = loss + task_loss.sum() / count
            if model.policy.learnable:
                gain = -task_loss.detach() * pi.log_prob(actions)
                gain = gain + ENTROPY_WEIGHT * pi.entropy()
                loss = loss - (gain * labeled).sum() / count
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def _check_settings(model: dict, optim_wrapper: dict) -> None:
    student, teacher = optim_wrapper['student'], model['teacher']
    optimizer = student['optimizer']['type']
    optimizer = getattr(optimizer, '__name__', optimizer).split('.')[-1]
    counts = optim_wrapper.get('accumulative_counts')
    if not is_type(teacher, DiffusersTeacher, MODELS):
        raise ValueError(
            'expected DiffusersTeacher as model.teacher for the reference '
            f'implementation, got {teacher["type"]}; leave the reference out'
        )
    mode = teacher.get('input_mode')
    if mode == 'auto' or teacher.get('vae'):
        mode = None
    for name, got, expected in (
        ('model.teacher.input_mode', mode, 'clean'),
        ('model.teacher.class_signal', teacher.get('class_signal'), 'none'),
        ('optim_wrapper.student.optimizer.type', optimizer, 'SGD'),
        ('optim_wrapper.student.clip_grad', student.get('clip_grad'), None),
        ('optim_wrapper.accumulative_counts', counts, 1),
    ):
        if got not in (None, expected):
            raise ValueError(
                f'expected {name}={expected!r} for the reference '
                f'implementation, got {got!r}; leave the reference out'
            )
