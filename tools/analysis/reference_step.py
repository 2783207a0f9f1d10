"""One step of the paper's public algorithm, for comparison.

It is written here as it is described (RepFusion, arXiv 2308.10916): the whole
U-Net runs in float32 and a hook keeps one of its maps; the reward has no
baseline; one SGD serves student, policy and decoder.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from repfusion_mm.models.fitting import as_tuple

ENTROPY_WEIGHT = 0.1


class ReferenceStep:
    """The public algorithm on the parts that a config names.

    Args:
        model: ``model`` of a config, whose teacher needs no network.
        optimizer: ``optimizer`` of its student.
        device: Where it runs.
    """

    def __init__(self, model: dict, optimizer: dict, device: str) -> None:
        teacher = dict(model['teacher'], early_stop=False, dtype='float32')
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
