"""A weighted sum of distillation losses."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import torch
import torch.nn as nn

from repfusion_mm.models.losses.base import DistillLoss
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.types import resolve_type


@MODELS.register_module()
class SumLoss(DistillLoss):
    """Add several losses, each with its ``loss_weight``.

    For example, a :class:`HintLoss` plus an :class:`AttentionTransferLoss`,
    as in DreamTeacher (arXiv 2307.07487). The weighted losses are logged as
    ``distill_hint`` and ``distill_attention_transfer``.

    If a part needs a connector, all parts compare the connected map, also
    those that would need none.

    A normalizer with statistics has those of pooled maps if the parts that
    need a connector compare pooled maps, else those of all positions. It is
    refused if only some of these parts do. Without such parts, all count.

    Args:
        losses: Configs of the parts.

    Raises:
        ValueError: ``losses`` is not a list of one config or more of
            distillation losses, or one of them is a sum itself.
    """

    def __init__(self, losses: Sequence[dict]) -> None:
        super().__init__()
        if not isinstance(losses, (list, tuple)) or not losses:
            raise ValueError(
                'expected model.distill_loss.losses to be a list of configs '
                f'of losses, got {losses!r}; correct it'
            )
        self.parts: Any = nn.ModuleDict()
        parts: List[DistillLoss] = []
        for i, config in enumerate(losses):
            part = _build_part(config, f'model.distill_loss.losses.{i}')
            count = sum(p.log_name == part.log_name for p in parts)
            suffix = f'_{count + 1}' if count else ''
            self.parts[part.log_name + suffix] = part
            parts.append(part)
        self.needs_connector = any(p.needs_connector for p in parts)
        self.needs_grid = any(p.needs_grid for p in parts)
        self.min_images = max(p.min_images for p in parts)
        self.refused_normalizers = {}
        scaled = [p for p in parts if p.needs_connector] or parts
        self.pooled = all(p.pooled for p in scaled)
        if self.pooled != any(p.pooled for p in scaled):
            reason = (
                'has statistics of pooled maps or of all positions, while '
                'the losses compare both'
            )
            self.refused_normalizers = dict(
                PHISNormalizer=reason, StandardizeNormalizer=reason
            )
        for part in parts:
            self.refused_normalizers.update(part.refused_normalizers)

    def forward(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> torch.Tensor:
        """Return the sum of the losses of two maps."""
        terms = self.terms(student_feat, teacher_feat)
        return torch.stack([*terms.values()]).sum()

    def terms(
        self, student_feat: torch.Tensor, teacher_feat: torch.Tensor
    ) -> Dict[str, torch.Tensor]:
        """Return the weighted loss of each part."""
        return {
            name: part(student_feat, teacher_feat)
            for name, part in self.parts.items()
        }

    def constant_terms(
        self, teacher_feat: torch.Tensor
    ) -> Dict[str, torch.Tensor]:
        """Return the constant loss of the parts that are squared errors."""
        found = {
            name: part.constant_loss(teacher_feat)
            for name, part in self.parts.items()
        }
        return {k: value for k, value in found.items() if value is not None}


def _build_part(config: Any, place: str) -> DistillLoss:
    """Build a part, and name its place in the config in errors."""
    kind = resolve_type(config, MODELS)
    is_known = isinstance(kind, type)  # building says what is not
    if not isinstance(config, dict) or (
        is_known and (kind is SumLoss or not issubclass(kind, DistillLoss))
    ):
        raise ValueError(
            f'expected {place} to be the config of a distillation loss other '
            f'than SumLoss, such as HintLoss, got {config!r}; correct it'
        )
    try:
        return MODELS.build(config)
    except ValueError as error:
        text = str(error).replace('model.distill_loss.', f'{place}.')
        raise ValueError(text) from error
