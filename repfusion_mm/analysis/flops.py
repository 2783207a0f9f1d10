"""Count the floating-point operations (FLOP) of a distillation."""

from __future__ import annotations

from typing import NamedTuple, Sequence, Tuple, Union

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import to_2tuple

from repfusion_mm.analysis.measuring import count_flops
from repfusion_mm.analysis.teacher_costs import count_teacher
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


def count_distillation(cfg: Config) -> DistillationCost:
    """Count the FLOP of teacher and student per image, on meta tensors."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    teacher = count_teacher(cfg.model.teacher)
    last = teacher.find_last(cfg.model.teacher.get('layers', [-1]))
    student = MODELS.build(cfg.model.student).to('meta')
    student.eval()  # batch norms in training mode need more than one value
    side = cfg.model.get('input_size') or teacher.image_size
    images = torch.zeros(1, 3, *to_2tuple(side), device='meta')
    return DistillationCost(
        image_size=side,
        teacher=teacher.flop(last),
        encoder=teacher.encoder.flop if teacher.encoder else 0,
        student=count_flops(lambda: student(images)),
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
