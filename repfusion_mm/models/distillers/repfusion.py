"""RepFusion: a frozen diffusion model teaches a student backbone."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Dict, List, Optional, Sequence

import torch
import torch.nn as nn
from mmengine.model import BaseModel

from repfusion_mm.models.distillers.builders import (
    as_tuple,
    build_connectors,
    build_decoder,
    build_policy,
    infer_feature_shapes,
)
from repfusion_mm.models.losses.losses import relative_std
from repfusion_mm.models.policies.reinforce import mean_over_ranks
from repfusion_mm.models.teachers.cached_teacher import make_key, read_cached
from repfusion_mm.models.utils.image_range import (
    resolve_channel_order,
    to_unit_range,
)
from repfusion_mm.models.utils.labels import read_labels
from repfusion_mm.registry import MODELS


@MODELS.register_module()
class RepFusion(BaseModel):
    """Distil a diffusion model at timesteps that a policy picks.

    "Diffusion Model as Representation Learner", ICCV 2023, arXiv 2308.10916,
    Sec. 3. Student with connectors, policy and decoder have disjoint
    gradients, so that one backward serves their three optimizers.

    The teacher is no part of the model's state: it is in no checkpoint, no
    optimizer, no averaged copy and no DDP bucket, and follows the model's
    device.

    Args:
        student: Config of any backbone that returns N x C x H x W maps.
        teacher: Config of the frozen teacher.
        policy: Config of the timestep policy.
        distill_loss: Config of L_kd.
        decoder: Config of the decoder, which a learned policy needs. It
            reads the last of the teacher's layers.
        connector: Config of the connector, for losses that need equal
            channels; a 1 x 1 convolution by default.
        student_indices: Which of the student's maps is compared with each of
            the teacher's layers, in order.
        channels_last: Keep the student's weights, and so its maps, with the
            channels innermost, as convolutions compute fastest.
        input_size: Side in pixels of the student's images, for the dry run;
            the teacher's by default.
        channel_order: ``'rgb'`` or ``'bgr'``, the order in which the student
            gets its channels. Needed where the data preprocessor does not
            convert.
        data_preprocessor: Config of the student's data preprocessor, by mean
            and std of which images in [0, 1] are rebuilt for the teacher.
        init_cfg: Initialisation config.

    Raises:
        ValueError: Parts that do not fit, found by one dry run.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        policy: dict,
        distill_loss: dict,
        decoder: Optional[dict] = None,
        connector: Optional[dict] = None,
        student_indices: Sequence[int] = (-1,),
        channels_last: bool = True,
        input_size: Optional[int] = None,
        channel_order: Optional[str] = None,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.channel_order = resolve_channel_order(
            channel_order, data_preprocessor
        )
        self.student_indices = tuple(student_indices)
        self.student = MODELS.build(student)
        if channels_last not in (True, False):
            raise ValueError(
                'expected model.channels_last to be True or False, got '
                f'{channels_last!r}'
            )
        self.memory_format = (
            torch.channels_last if channels_last else torch.contiguous_format
        )
        self.student.to(memory_format=self.memory_format)
        # Not an attribute of nn.Module: see the class docstring.
        self.__dict__['teacher'] = MODELS.build(teacher)
        self.distill_loss = MODELS.build(distill_loss)
        teacher_shapes = list(self.teacher.feature_shapes.values())
        student_shapes = infer_feature_shapes(
            self.student,
            self.student_indices,
            input_size or self.teacher.image_size,
        )
        self.connectors = build_connectors(
            connector, self.distill_loss, student_shapes, teacher_shapes
        )
        self.policy = build_policy(policy, self.teacher.num_timesteps)
        self.decoder = build_decoder(
            decoder, teacher_shapes[-1][0], self.policy
        )

    def init_weights(self) -> None:
        """Initialise, to the same numbers in every memory format."""
        self.student.to(memory_format=torch.contiguous_format)
        super().init_weights()
        self.student.to(memory_format=self.memory_format)

    def forward(
        self,
        inputs: torch.Tensor,
        data_samples: Optional[list] = None,
        mode: str = 'tensor',
    ):
        """Return losses or the student's features.

        Args:
            inputs: N x 3 x H x W, from the data preprocessor.
            data_samples: N samples, of which any may lack a label.
            mode: ``'loss'`` or ``'tensor'``.

        Raises:
            ValueError: Another mode.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'tensor':
            return self.student(inputs)
        raise ValueError(
            f"expected mode 'loss' or 'tensor', got {mode!r}: a distiller "
            'predicts nothing; finetune the exported student'
        )

    def loss(
        self, inputs: torch.Tensor, data_samples: Optional[list]
    ) -> Dict[str, torch.Tensor]:
        """Compute all losses of one step and the statistics to log.

        Nothing here waits for the device. The reward is not a number in a
        step without a label.
        """
        images = self.images(inputs)

        # 1. Draw one timestep for each image from pi(t|x).
        pi = self.policy(images)
        actions = pi.sample()
        timesteps = self.policy.timesteps[actions]

        # 2. Read the frozen teacher: z_t = s(x, t).
        teacher_feats = self._read_teacher(images, timesteps, data_samples)

        # 3. Move student and connectors towards z_t.
        losses = dict(
            loss_distill=self._distill(inputs, teacher_feats),
            timestep_mean=timesteps.float().mean(),
            timestep_std=timesteps.float().std(unbiased=False),
            feature_relative_std=torch.stack(
                [*map(relative_std, teacher_feats)]
            ).min(),
        )
        if self.decoder is None:
            return losses

        # 4. Solve the task from z_t, where there are labels.
        task_loss, labelled = self.decoder.loss(
            teacher_feats[-1], data_samples
        )
        losses['loss_decoder'] = mean_over_ranks(task_loss, labelled)

        # 5. Reward the policy for how well it went.
        reward = -task_loss.detach()
        losses['reward'] = mean_over_ranks(reward, labelled, empty=math.nan)
        if self.policy.learnable:
            losses.update(self.policy.loss(pi, actions, reward, labelled))
        return losses

    def images(self, inputs: torch.Tensor) -> torch.Tensor:
        """Rebuild RGB images in [0, 1] from the student's inputs."""
        return to_unit_range(
            inputs, self.data_preprocessor, self.channel_order
        )

    def optim_parts(self) -> Dict[str, nn.ModuleDict]:
        """Return the parts that are trained by optimizers of their own."""
        decoder = {} if self.decoder is None else dict(decoder=self.decoder)
        parts = dict(
            student=dict(student=self.student, connectors=self.connectors),
            policy=dict(policy=self.policy),
            decoder=decoder,
        )
        return {name: nn.ModuleDict(part) for name, part in parts.items()}

    @cached_property
    def feature_key(self) -> str:
        """What cached features must belong to; found on first use."""
        return make_key(self)

    def _read_teacher(
        self,
        images: torch.Tensor,
        timesteps: torch.Tensor,
        data_samples: Optional[list],
    ) -> List[torch.Tensor]:
        feats = read_cached(self, data_samples, images.device)
        if feats is None:
            labels = self._labels_for_teacher(data_samples, images)
            feats = self.teacher(images, timesteps, labels)
        return list(feats.values())

    def _distill(
        self, inputs: torch.Tensor, teacher_feats: List[torch.Tensor]
    ) -> torch.Tensor:
        feats = as_tuple(self.student(inputs))
        picked = [feats[i] for i in self.student_indices]
        return sum(
            self.distill_loss(connector(feat).float(), teacher_feat)
            for connector, feat, teacher_feat in zip(
                self.connectors, picked, teacher_feats
            )
        )

    def _labels_for_teacher(
        self, data_samples: Optional[list], images: torch.Tensor
    ) -> Optional[torch.Tensor]:
        if self.teacher.class_signal.kind != 'label':
            return None
        return read_labels(data_samples, len(images))

    def _apply(self, fn, *args, **kwargs) -> RepFusion:
        self.teacher._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)
