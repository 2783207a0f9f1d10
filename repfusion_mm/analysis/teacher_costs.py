"""What each layer of a teacher costs, counted without weights."""

from __future__ import annotations

import contextlib
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import torch
import torch.nn as nn
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement
from mmengine.utils import to_2tuple
from torch.utils.flop_counter import FlopCounterMode

from repfusion_mm.analysis.measuring import count_flops
from repfusion_mm.analysis.teacher_presets import use_presets
from repfusion_mm.models.teachers import DiffusersTeacher, TimmTeacher
from repfusion_mm.models.teachers.families import find_family
from repfusion_mm.models.teachers.features.layers import named_modules
from repfusion_mm.models.teachers.features.truncation import (
    NUM_TEXT,
    meta_forward_kwargs,
    survey_denoiser,
)
from repfusion_mm.models.teachers.guided_diffusion.names import module_names
from repfusion_mm.models.teachers.inputs.conditioning import ClassSignal
from repfusion_mm.models.teachers.inputs.encoder_loading import open_encoder
from repfusion_mm.models.teachers.inputs.sizes import resolve_image_size
from repfusion_mm.models.teachers.loading.denoiser import open_denoiser
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.types import is_type


class Cost(NamedTuple):
    """The cost of a pass for one image, up to the end of some layer."""

    flop: int  # one multiply-add is two
    num_parameters: int  # of all modules that run until then


class TeacherCosts(NamedTuple):
    """The cost of a teacher for one image."""

    #: Side of the images in pixels, or height and width.
    image_size: Union[int, Tuple[int, int]]
    #: (C, H, W) of the map of each layer that outputs one, in the order in
    #: which the layers end.
    shapes: Dict[str, Tuple[int, ...]]
    #: Cost of the denoiser up to the end of each of these layers.
    layers: Dict[str, Cost]
    #: Cost of the complete denoiser; of a timm model, up to its last layer
    #: that outputs a map.
    complete: Cost
    #: Cost of the image encoder; None for a teacher of images.
    encoder: Optional[Cost] = None
    #: (C, H, W) of the latents, or None.
    latents: Optional[Tuple[int, ...]] = None
    #: Number of passes of the denoiser for one image.
    num_passes: int = 1
    #: Number of text tokens that the denoiser is conditioned on.
    num_text: int = 0
    #: Paths of layers by their names in guided-diffusion, if there are any.
    aliases: Mapping[str, str] = {}

    def find_last(self, layers: Sequence[Union[int, str]]) -> str:
        """Return the path of the last of some layers of a config.

        Raises:
            ValueError: A layer does not output a map.
        """
        paths = [*self.layers]
        try:
            named = [
                paths[layer]
                if isinstance(layer, int)
                else self.aliases.get(layer, layer)
                for layer in layers
            ]
            return max(named, key=paths.index)
        except (IndexError, ValueError) as error:
            raise ValueError(
                f'expected layers that output a map, got {[*layers]}; list '
                'them with tools/analysis_tools/list_layers.py'
            ) from error

    def flop(self, layer: str) -> int:
        """Return the FLOPs up to a layer, of all passes and the encoder."""
        encoder = self.encoder.flop if self.encoder else 0
        return encoder + self.num_passes * self.layers[layer].flop

    def encoder_share(self, layer: str) -> float:
        """Return the share of the encoder in ``flop(layer)``, in [0, 1]."""
        return self.encoder.flop / self.flop(layer) if self.encoder else 0


def count_teacher(teacher: dict) -> TeacherCosts:
    """Count the costs of all layers of a teacher on the meta device.

    No weights are read of a ``DiffusersTeacher`` or a ``TimmTeacher``. If the
    former is neither on disk nor a preset, its configs are downloaded from
    the hub. All layers of other classes have the cost of the complete pass.

    Args:
        teacher: The config of the teacher.

    Raises:
        OSError: The teacher is neither on disk nor on the hub.
        ValueError: It is not supported.
    """
    with _log_errors_only(), torch.device('meta'), torch.no_grad():
        if is_type(teacher, TimmTeacher, MODELS):
            return _count_timm(teacher)
        if is_type(teacher, DiffusersTeacher, MODELS):
            return _count_denoiser(use_presets(teacher))
        return _count_other(teacher)


@contextlib.contextmanager
def _log_errors_only() -> Iterator[None]:
    """Hide what is logged of a teacher that is only counted."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        yield
    finally:
        logger.setLevel(level)


def count_pass(
    module: nn.Module, run: Callable[[], object]
) -> Dict[str, Cost]:
    """Return the cost of ``run()`` up to the end of each layer of a module.

    As in a truncated teacher, parameters are those of the sub-modules that
    are called, and of the modules that contain these.
    """
    costs: Dict[str, Cost] = {}
    own = {
        name: sum(p.numel() for p in child.parameters(recurse=False))
        for name, child in named_modules(module)
    }
    total = own.pop('', 0)
    with contextlib.ExitStack() as stack:
        counter = stack.enter_context(FlopCounterMode(display=False))
        for name, child in named_modules(module):

            def enter(_module, _inputs, name=name):
                nonlocal total
                parts = name.split('.')
                for end in range(1, len(parts) + 1):
                    total += own.pop('.'.join(parts[:end]), 0)

            def leave(_module, _inputs, _output, name=name):
                costs[name] = Cost(counter.get_total_flops(), total)

            stack.enter_context(child.register_forward_pre_hook(enter))
            stack.enter_context(child.register_forward_hook(leave))
        run()
    return costs


def _count_denoiser(teacher: dict) -> TeacherCosts:
    pretrained, vae = teacher.get('pretrained'), teacher.get('vae')
    source = open_denoiser(pretrained, teacher.get('config'), vae is not None)
    denoiser = source.meta_model
    family = find_family(type(denoiser), denoiser.config)
    encoder = open_encoder(vae, pretrained, family, None, 'auto')
    image_size = resolve_image_size(teacher.get('input_size'), family)
    height, width = to_2tuple(image_size)
    factor = family.latent_factor
    size = height // factor, width // factor

    signal = ClassSignal(teacher.get('class_signal', 'none'), family)
    signal.prepare(denoiser)
    zeros = torch.zeros(1, dtype=torch.long, device='cpu')
    classes = signal(zeros, [BaseDataElement(gt_label=zeros)])
    survey = survey_denoiser(
        denoiser,
        family,
        size,
        meta_forward_kwargs(family, size, classes, NUM_TEXT),
    )
    maps = {
        name: run.reader(run.output)
        for name, run in survey.items()
        if name and run.num_runs == 1 and run.reader is not None
    }
    num_text = family.num_tokens if family.zero_condition(1) else 0
    arguments = meta_forward_kwargs(family, size, classes, num_text)
    costs = count_pass(denoiser, lambda: denoiser(**arguments))
    images = torch.zeros(1, 3, height, width)
    return TeacherCosts(
        image_size,
        shapes={name: tuple(feat.shape[1:]) for name, feat in maps.items()},
        layers={name: costs[name] for name in maps},
        complete=Cost(costs[''].flop, _num_parameters(denoiser)),
        encoder=Cost(
            count_flops(lambda: encoder(images)), _num_parameters(encoder)
        )
        if encoder
        else None,
        latents=(family.latent_channels, *size) if encoder else None,
        num_passes=teacher.get('num_noises', 1),
        num_text=num_text,
        aliases=module_names(denoiser.config),
    )


def _count_timm(teacher: dict) -> TeacherCosts:
    teacher = dict(teacher, pretrained=False)
    last: Any = MODELS.build(dict(teacher, layers=[-1]))
    every = [*range(len(last.backbone.feature_info))]
    model: Any = MODELS.build(dict(teacher, layers=every))
    images = torch.zeros(1, 3, *to_2tuple(model.size))
    zeros = torch.zeros(1, dtype=torch.long)
    costs = count_pass(model.backbone, lambda: model(images, zeros))
    layers = {name: costs[name] for name in model.feature_shapes}
    complete = [*layers.values()][-1]
    return TeacherCosts(
        model.image_size, dict(model.feature_shapes), layers, complete
    )


def _count_other(teacher: dict) -> TeacherCosts:
    model: Any = MODELS.build(teacher)
    images = torch.zeros(1, 3, *to_2tuple(model.image_size))
    zeros = torch.zeros(1, dtype=torch.long)
    cost = Cost(
        count_flops(lambda: model(images, zeros)), _num_parameters(model)
    )
    shapes = dict(model.feature_shapes)
    return TeacherCosts(
        model.image_size, shapes, dict.fromkeys(shapes, cost), cost
    )


def _num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
