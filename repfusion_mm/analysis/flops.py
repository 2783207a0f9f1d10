"""Count the floating-point operations (FLOP) of a distillation."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence, Tuple, Union

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import to_2tuple
from torch.utils.flop_counter import FlopCounterMode

from repfusion_mm.analysis.teacher_presets import resolve_teacher
from repfusion_mm.registry import MODELS


class DistillationCost(NamedTuple):
    """The cost of distilling one image; policy and decoder are left out."""

    #: Side of the student's images in pixels, or height and width.
    image_size: Union[int, Tuple[int, int]]
    teacher: int  # FLOP up to the last requested layer
    encoder: int  # of these, FLOP of the image encoder
    student: int  # FLOP of a forward
    num_parameters: int  # of the student

    @property
    def total(self) -> int:
        """FLOP of a step; the student's backward costs two forward passes."""
        return self.teacher + 3 * self.student


def count_flops(run: Callable[[], object]) -> int:
    """Return the FLOP of ``run()``; one multiply-add is two FLOP."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def count_distillation(cfg: Config) -> DistillationCost:
    """Count the FLOP of teacher and student per image, on meta tensors."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    teacher = _build_teacher(cfg.model.teacher)
    student = MODELS.build(cfg.model.student).to('meta')
    student.eval()  # batch norms in training mode need more than one value
    side = cfg.model.get('input_size') or teacher.image_size
    with torch.device('meta'):
        timesteps = torch.zeros(1, dtype=torch.long)
        teacher_images = torch.zeros(1, 3, *to_2tuple(teacher.image_size))
        student_images = torch.zeros(1, 3, *to_2tuple(side))
    return DistillationCost(
        image_size=side,
        teacher=count_flops(lambda: teacher(teacher_images, timesteps)),
        encoder=(
            count_flops(lambda: teacher.encoder(teacher_images))
            if getattr(teacher, 'encoder', None) is not None
            else 0
        ),
        student=count_flops(lambda: student(student_images)),
        num_parameters=sum(p.numel() for p in student.parameters()),
    )


def all_reduce_ms(
    size: float, gpus: int, bandwidths: Sequence[float]
) -> float:
    """Estimate the milliseconds of a ring all-reduce of ``size`` bytes.

    Each of n GPUs sends 2 (n - 1) / n of them. The bandwidths are GB/s of a
    GPU within a machine of eight GPUs and between machines.
    """
    sent = 2 * (gpus - 1) / gpus * size
    return 1e3 * sent / (bandwidths[gpus > 8] * 1e9)


def _build_teacher(teacher: dict) -> Any:
    """Build a teacher of the configured architecture on the meta device."""
    teacher, _ = resolve_teacher(teacher)
    with torch.device('meta'):
        return MODELS.build(teacher)
