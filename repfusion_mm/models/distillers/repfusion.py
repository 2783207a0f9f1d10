"""RepFusion: a frozen diffusion model teaches a student backbone."""

from __future__ import annotations

import logging
import math
from functools import cached_property
from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    Iterable,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import torch
import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model import BaseModel

from repfusion_mm.models.connectors.conv_connector import resize_to
from repfusion_mm.models.decoders.base import TaskDecoder
from repfusion_mm.models.distillers.builders import (
    as_tuple,
    build_decoder,
    build_normalizers,
    build_policy,
    build_student,
    choose_memory_format,
    infer_feature_shapes,
    read_indices,
    read_layer_weights,
)
from repfusion_mm.models.distillers.connectors import build_connectors
from repfusion_mm.models.losses.base import DistillLoss
from repfusion_mm.models.losses.utils import relative_std
from repfusion_mm.models.policies.base import TimestepPolicy
from repfusion_mm.models.policies.reinforce import (
    integer_moments,
    mean_over_ranks,
    sum_over_ranks,
)
from repfusion_mm.models.policies.reward_table import RewardTable
from repfusion_mm.models.teachers.cached_teacher import CachedTeacher
from repfusion_mm.models.utils.compiled import CompiledFunction
from repfusion_mm.models.utils.frozen_layers import frozen_parameters
from repfusion_mm.models.utils.image_range import (
    resolve_channel_order,
    to_unit_range,
)
from repfusion_mm.models.utils.preprocessor_hooks import register_hooks
from repfusion_mm.models.utils.pretrained import PretrainedCheck
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import check_choice, check_flags, read_size

#: Hooks that a training needs, and what happens without them.
NEEDED_HOOKS = {
    'ExportStudentHook': 'student.pth will not be written',
    'TimestepPolicyHook': (
        'labels and batches are not checked, and the entropy weight of a '
        'learned policy does not decrease'
    ),
}


class StudentPart(nn.ModuleDict):
    """The student and its connectors."""

    def get_layer_depth(self, name: str) -> Tuple[int, int]:
        """Return the depth of a parameter's layer, and the largest plus one.

        The constructors of optimizers of mmpretrain call it. Connectors are
        as deep as a head of the student.

        Raises:
            NotImplementedError: The student does not define depths.
        """
        student: Any = self['student']
        if not hasattr(student, 'get_layer_depth'):
            raise NotImplementedError(
                'expected a student with get_layer_depth for a learning rate '
                f'that decays by layers, got {type(student).__name__}; use '
                'another constructor'
            )
        return student.get_layer_depth(name, prefix='student.')


@MODELS.register_module()
class RepFusion(BaseModel):
    """Distill a diffusion model at timesteps that a policy picks.

    "Diffusion Model as Representation Learner", ICCV 2023, arXiv 2308.10916,
    Sec. 3. The student with its connectors, the policy and the decoder have
    disjoint gradients, so that one backward pass serves their three
    optimizers.

    The teacher is not part of the model's state: it is not saved, optimized,
    averaged (EMA) or reduced by DDP. It follows the model to its device.

    Args:
        student: Config of any backbone that returns N x C x H x W maps.
        teacher: Config of the frozen teacher.
        policy: Config of the timestep policy.
        distill_loss: Config of L_kd.
        decoder: Config of the decoder, which a learned policy needs.
        decoder_layers: The decoder reads the ``'last'`` of the teacher's
            layers, or ``'all'`` of them: concatenated, and resized to the
            grid of the last one.
        connector: Config of the connector, for losses that need equal
            channels; by default, a 1 x 1 convolution for each layer. A
            :class:`FeatureRegressor` maps all layers jointly.
        normalizer: Config of the normalizer of the teacher's maps, or
            ``'none'``, ``'layer_norm'``, ``'standardize'`` or ``'phi_s'``.
            The loss and the decoder see normalized maps.
        student_indices: The index of the student's map that is compared with
            each of the teacher's layers.
        layer_weights: A positive factor of the loss of each of the teacher's
            layers; 1 by default.
        channels_last: Store the student's weights, and so its maps, in the
            channels last memory format, in which convolutions are fastest.
            Not used for a student whose gradients would then be wrong on a
            CPU (see ``choose_memory_format``), which is logged.
        compile: Run the student in training through ``torch.compile``, which
            compiles once for each shape of the images. If compilation fails,
            the reason is logged, and the student runs uncompiled.
        input_size: Side in pixels of the student's images, or height and
            width, for the dry run; the teacher's by default.
        channel_order: ``'rgb'`` or ``'bgr'``, the order of the inputs'
            channels. Required if the data preprocessor does not convert.
        data_preprocessor: Config of the student's data preprocessor. Its mean
            and std are used to recover the images in [0, 1] for the teacher.
        init_cfg: Initialization config.

    Raises:
        ValueError: Parts do not fit together, as one dry run shows.
    """

    teacher: CachedTeacher
    policy: TimestepPolicy
    decoder: Optional[TaskDecoder]
    distill_loss: DistillLoss

    def __init__(
        self,
        student: dict,
        teacher: dict,
        policy: dict,
        distill_loss: dict,
        decoder: Optional[dict] = None,
        decoder_layers: str = 'last',
        connector: Optional[dict] = None,
        normalizer: Union[str, dict, None] = 'none',
        student_indices: Sequence[int] = (-1,),
        layer_weights: Optional[Sequence[float]] = None,
        channels_last: bool = True,
        compile: bool = False,
        input_size: Union[int, Sequence[int], None] = None,
        channel_order: Optional[str] = None,
        data_preprocessor: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        register_hooks(self.data_preprocessor)
        self.channel_order = resolve_channel_order(
            channel_order, data_preprocessor
        )
        #: Names of the hooks of a runner that announced themselves.
        self.attached_hooks: Set[str] = set()
        self.student_indices = read_indices(student_indices)
        self.student = build_student(student)
        check_flags('model', channels_last=channels_last, compile=compile)
        self.memory_format = choose_memory_format(self.student, channels_last)
        #: Of the student and its images, in training.
        self.run_student: Callable = _run_student
        if compile:
            self.run_student = CompiledFunction(_run_student, 'student')
        frozen = frozen_parameters(self.student)
        # As mmdet's KnowledgeDistillationSingleStageDetector: a plain
        # attribute, not a registered sub-module, so that state_dict(),
        # parameters() and modules() do not include the teacher.
        object.__setattr__(
            self, 'teacher', CachedTeacher(MODELS.build(teacher))
        )
        self.distill_loss = MODELS.build(distill_loss)
        teacher_shapes = self.teacher.feature_shapes
        self.layer_weights = read_layer_weights(
            layer_weights, len(teacher_shapes)
        )
        #: One for each of the teacher's layers.
        self.normalizers = build_normalizers(
            normalizer, self.distill_loss, list(teacher_shapes.values())
        )
        if input_size is None:
            input_size = self.teacher.image_size
        self.input_size = read_size('model.input_size', input_size)
        self.connectors = build_connectors(
            connector,
            self.distill_loss,
            infer_feature_shapes(
                self.student, self.student_indices, self.input_size
            ),
            list(teacher_shapes.values()),
        )
        self.student.to(memory_format=self.memory_format)
        #: Names of parameters that do not influence the distilled maps.
        self.unused_parameters = {
            f'student.{name}'
            for name in frozen_parameters(self.student) - frozen
        }
        self.policy = build_policy(policy, self.teacher.num_timesteps)
        self.reward_table = RewardTable(len(self.policy.timesteps))
        check_choice('model.decoder_layers', decoder_layers, ('last', 'all'))
        if decoder is None and decoder_layers == 'all':
            raise ValueError(
                'expected a decoder to read all layers, got none; remove '
                "model.decoder_layers='all', or add model.decoder"
            )
        layers = list(teacher_shapes)
        self.decoder_layers = (
            layers if decoder_layers == 'all' else layers[-1:]
        )
        self.decoder = build_decoder(
            decoder,
            sum(teacher_shapes[layer][0] for layer in self.decoder_layers),
            self.policy,
        )

    def init_weights(self) -> None:
        """Initialize, to the same values in every memory format.

        mmengine calls it after ``before_run`` of all hooks. Hooks that the
        training needs and that are missing are logged as a warning.

        Raises:
            ValueError: A file that an ``init_cfg`` of mmengine's
                ``Pretrained`` names does not hold the weights.
        """
        missing = sorted(NEEDED_HOOKS.keys() - self.attached_hooks)
        if missing:
            effects = '; '.join(NEEDED_HOOKS[name] for name in missing)
            print_log(
                f'expected the hooks {missing} in default_hooks, got none: '
                f'{effects}. Add them, as in '
                'configs/_base_/runtime/distill_hooks.py',
                logger='current',
                level=logging.WARNING,
            )
        self.student.to(memory_format=torch.contiguous_format)
        check = PretrainedCheck(self, shared=self.teacher)
        super().init_weights()
        check.check(self, 'model')
        self.student.to(memory_format=self.memory_format)

    def forward(
        self,
        inputs: torch.Tensor,
        data_samples: Optional[list] = None,
        mode: str = 'tensor',
    ):
        """Return losses (``mode='loss'``) or features (``'tensor'``).

        Raises:
            ValueError: Another mode.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'tensor':
            return self.student(inputs)
        raise ValueError(
            f"expected mode 'loss' or 'tensor', got {mode!r}: a distiller "
            'does not predict; finetune the exported student'
        )

    def loss(
        self, inputs: torch.Tensor, data_samples: Optional[list]
    ) -> Dict[str, torch.Tensor]:
        """Compute all losses of one step and the statistics to log.

        This does not synchronize with the device. The losses are this rank's
        share, whose average over ranks is the loss; the other scalars are
        those of all ranks, except ``feature_relative_std``,
        ``explained_variance``, ``policy_entropy`` and ``distill_*``. In a
        step without a label, the reward is NaN and ``loss_decoder`` is 0.
        ``explained_variance`` is the share of the variance of the normalized
        features in this batch that the student explains; only a loss with one
        squared error has it. The weights of layers do not change it.
        ``distill_level_I`` and ``distill_PART`` are shares of
        ``loss_distill``, if there are several layers or parts.

        Args:
            inputs: N x 3 x H x W, from the data preprocessor.
            data_samples: N samples, any of which may lack a label.

        Returns:
            Scalars. Those with ``loss`` in their name are minimized.
        """
        images = self.images(inputs)

        # 1. Draw one timestep for each image from pi(t|x).
        pi = self.policy(images)
        actions = pi.sample()
        timesteps = self.policy.timesteps[actions]

        # 2. Extract the features of the frozen teacher: z_t = s(x, t).
        maps = self.teacher(images, timesteps, data_samples)
        teacher_feats = {
            layer: normalizer(maps[layer])
            for layer, normalizer in zip(maps, self.normalizers)
        }

        # 3. Move the student's features towards z_t.
        timestep_mean, timestep_std = integer_moments(timesteps)
        losses = dict(
            **self._distill(inputs, teacher_feats.values()),
            timestep_mean=timestep_mean,
            timestep_std=timestep_std,
            # Before normalization, which would enlarge the rounding errors of
            # equal maps.
            feature_relative_std=torch.stack(
                [relative_std(feat) for feat in maps.values()]
            ).min(),
        )
        if self.decoder is None:
            return losses

        # 4. Solve the task from z_t, where there are labels.
        task_loss, labeled = self.decoder.loss(
            self.decoder_feat(teacher_feats), data_samples
        )
        total, count = sum_over_ranks(task_loss.float(), labeled)
        losses['loss_decoder'] = mean_over_ranks(task_loss, labeled, count)

        # 5. Reward the policy for a low loss of the task.
        reward = -task_loss.detach()
        losses['reward'] = -total / count  # NaN if there is none
        if self.policy.learnable:
            losses.update(self.policy.loss(pi, actions, reward, labeled))
            above = reward > losses['reward']
            self.reward_table.add(actions, above, labeled)
        return losses

    def images(self, inputs: torch.Tensor) -> torch.Tensor:
        """Recover N x 3 x H x W RGB images in [0, 1] from ``inputs``."""
        return to_unit_range(
            inputs, self.data_preprocessor, self.channel_order
        )

    def decoder_feat(
        self, teacher_feats: Dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the N x C x H x W map that the decoder reads.

        Args:
            teacher_feats: N x C_t x h x w of each of the teacher's layers.
        """
        feats = [teacher_feats[layer] for layer in self.decoder_layers]
        if len(feats) == 1:
            return feats[0]
        size = feats[-1].shape[-2:]
        return torch.cat([resize_to(feat, size) for feat in feats], dim=1)

    @cached_property
    def external_hashes(self) -> Dict[str, str]:
        """Hashes of the teacher, which no checkpoint holds."""
        hashes = self.teacher.live.frozen_hashes()
        return {f'model.teacher: {k}': value for k, value in hashes.items()}

    def optim_parts(self) -> Dict[str, nn.ModuleDict]:
        """Return the parts of which each has its own optimizer."""
        decoder = {} if self.decoder is None else dict(decoder=self.decoder)
        student = StudentPart(
            dict(student=self.student, connectors=self.connectors)
        )
        return dict(
            student=student,
            policy=nn.ModuleDict(dict(policy=self.policy)),
            decoder=nn.ModuleDict(decoder),
        )

    def _distill(
        self, inputs: torch.Tensor, teacher_feats: Collection[torch.Tensor]
    ) -> Dict[str, torch.Tensor]:
        """Return the loss, its parts to log, and the explained variance."""
        feats = self.run_student(self.student, inputs)
        maps = self.connectors([feats[i] for i in self.student_indices])
        levels = [
            self.distill_loss.terms(feat, teacher_feat)
            for feat, teacher_feat in zip(maps, teacher_feats)
        ]
        weighted = [
            {name: weight * term for name, term in terms.items()}
            for weight, terms in zip(self.layer_weights, levels)
        ]
        by_level = [_add(terms.values()) for terms in weighted]
        statistics = dict(loss_distill=_add(by_level))
        # Names without "loss", which mmengine would minimize again.
        if len(by_level) > 1:
            for i, value in enumerate(by_level):
                statistics[f'distill_level_{i}'] = value.detach()
        if len(levels[0]) > 1:
            for name in levels[0]:
                value = _add(terms[name].detach() for terms in weighted)
                statistics[f'distill_{name}'] = value
        constants = [
            self.distill_loss.constant_terms(feat.float())
            for feat in teacher_feats
        ]
        if len(constants[0]) == 1:
            (name,) = constants[0]
            reference = _add(terms[name] for terms in constants)
            error = _add(terms[name].detach() for terms in levels)
            share = 1 - error / reference.clamp(min=1e-12)
            if len(inputs) == 1:  # has no variance; NaN is not logged
                share = torch.full_like(error, math.nan)
            statistics['explained_variance'] = share
        return statistics

    def _apply(self, fn, *args, **kwargs) -> RepFusion:
        """Take the teacher along in ``.to()``, ``.cuda()`` and the like."""
        self.teacher._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)


def _run_student(student: nn.Module, inputs: torch.Tensor) -> tuple:
    """Return the student's maps."""
    return as_tuple(student(inputs))


def _add(values: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the sum of scalars."""
    return torch.stack([*values]).sum()
