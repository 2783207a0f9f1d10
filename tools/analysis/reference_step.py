"""One step of the paper's public algorithm, for comparison.

It is written here as it is described (RepFusion, arXiv 2308.10916): the whole
U-Net runs in float32 and a hook keeps one of its maps; the reward has no
baseline; one SGD serves student, policy and decoder.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from repfusion_mm.models.distillers.builders import as_tuple

ENTROPY_WEIGHT = 0.1


class ReferenceStep:
    """The public algorithm on the parts that a config names.

    Args:
        model: ``model`` of a config, whose teacher needs no network.
        optim_wrapper: The config's.
        device: Where it runs.

    Raises:
        SystemExit: The config asks for what the public algorithm has not.
    """

    def __init__(self, model: dict, optim_wrapper: dict, device: str) -> None:
        optimizer = check(model, optim_wrapper)
        teacher = dict(
            model['teacher'],
            early_stop=False,
            dtype='float32',
            channels_last=False,
            compile=False,
        )
        policy = dict(model['policy'])
        if policy['type'].endswith('LearnedTimestepPolicy'):
            policy.update(logits='free', baseline='none')
        model = dict(
            model, teacher=teacher, policy=policy, channels_last=False
        )
        self.model = MODELS.build(model).to(device)
        self.model.init_weights()
        self.model.train()
        self.unet = self.model.teacher.denoiser
        self.layers = [
            self.unet.get_submodule(name) for name in self.model.teacher.layers
        ]
        arguments = {k: v for k, v in optimizer.items() if k != 'type'}
        self.optimizer = torch.optim.SGD(self.model.parameters(), **arguments)

    def __call__(
        self, data: dict, timesteps: Optional[torch.Tensor] = None
    ) -> None:
        """Train on one batch, at drawn or at given timesteps."""
        model = self.model
        data = model.data_preprocessor(data, True)
        images = model.images(data['inputs'])
        pi = torch.distributions.Categorical(
            logits=model.policy.logits(images)
        )
        actions = pi.sample()
        if timesteps is None:
            timesteps = model.policy.timesteps[actions]

        maps = []
        hooks = [
            layer.register_forward_hook(lambda m, i, out: maps.append(out))
            for layer in self.layers
        ]
        side = model.teacher.image_size
        if images.shape[-1] != side:
            images = F.interpolate(
                images, size=side, mode='bilinear', antialias=True
            )
        with torch.no_grad():
            self.unet(images * 2 - 1, timesteps)
        for hook in hooks:
            hook.remove()

        feats = as_tuple(model.student(data['inputs']))
        loss = sum(
            model.distill_loss(connector(feats[index]), teacher_map)
            for index, connector, teacher_map in zip(
                model.student_indices, model.connectors, maps
            )
        )
        if model.decoder is not None:
            task_loss, labelled = model.decoder.loss(
                maps[-1], data['data_samples']
            )
            count = labelled.sum().clamp(min=1)
            loss = loss + task_loss.sum() / count
            if model.policy.learnable:
                gain = -task_loss.detach() * pi.log_prob(actions)
                gain = gain + ENTROPY_WEIGHT * pi.entropy()
                loss = loss - (gain * labelled).sum() / count
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def check(model: dict, optim_wrapper: dict) -> dict:
    """Return the student's SGD; see ``ReferenceStep`` for what is refused."""
    student, teacher = optim_wrapper['student'], model['teacher']
    found = {
        'model.teacher.input_mode': (teacher.get('input_mode'), 'clean'),
        'model.teacher.class_signal': (teacher.get('class_signal'), 'none'),
        'optim_wrapper.student.optimizer.type': (
            student['optimizer']['type'], 'SGD',
        ),
        'optim_wrapper.student.clip_grad': (student.get('clip_grad'), None),
        'optim_wrapper.accumulative_counts': (
            optim_wrapper.get('accumulative_counts'), 1,
        ),
    }  # fmt: skip
    for name, (got, expected) in found.items():
        if got not in (None, expected):
            raise SystemExit(
                f'error: expected {name}={expected!r}, as the public '
                f'algorithm has it, got {got!r}; leave it out of the '
                "comparison: --variants floor 'whole U-Net'"
            )
    return student['optimizer']
