"""Classify images from teacher features."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence, Sized, Tuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from repfusion_mm.models.decoders.base import TaskDecoder
from repfusion_mm.models.losses.utils import pool
from repfusion_mm.models.utils.labels import (
    UNLABELED,
    count_classes,
    image_name,
    read_classes,
)
from repfusion_mm.registry import MODELS
from repfusion_mm.utils.arguments import (
    check_flags,
    check_integer,
    check_widths,
)


@MODELS.register_module()
class ClsDecoder(TaskDecoder):
    """Classify images from globally pooled features of the teacher.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the features; the distiller sets it.
        hidden_channels: Widths of the hidden layers.
        multi_label: If True, an image may have any number of classes, and the
            loss is the binary cross-entropy, averaged over classes. If False,
            it has one class or mixed classes (mixup, CutMix), and the loss is
            the cross-entropy.

    Raises:
        ValueError: An argument is outside its range, such as a single class
            without ``multi_label``.
    """

    info_key = 'gt_label'
    label_fields = ('gt_label', 'gt_score')

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        hidden_channels: Sequence[int] = (256, 256),
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        check_flags('model.decoder', multi_label=multi_label)
        # The cross-entropy of a single class is zero.
        fewest = 1 if multi_label else 2
        check_integer('model.decoder.num_classes', num_classes, fewest)
        check_widths('model.decoder.hidden_channels', hidden_channels)
        self.num_classes = num_classes
        self.multi_label = multi_label
        widths = (in_channels, *hidden_channels)
        layers: list = []
        for width, next_width in zip(widths, widths[1:]):
            layers += [nn.Linear(width, next_width), nn.ReLU(inplace=True)]
        self.mlp = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))

    def forward(self, feat: torch.Tensor) -> torch.Tensor:
        """Return N x num_classes logits for N x C x H x W features.

        They are float32 also under autocast, which on a CPU computes losses
        in bfloat16.
        """
        return self.mlp(pool(feat)).float()

    def loss(
        self, feat: torch.Tensor, data_samples: Optional[Sequence]
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return the cross-entropy of each image and the mask of labeled ones.

        ``gt_score`` (C probabilities) has precedence over ``gt_label`` (class
        indices, -1 for unlabeled images). An image whose probabilities are
        all zero is unlabeled, except with ``multi_label``.
        """
        samples = self.samples(data_samples, len(feat))
        targets, labeled = self.read(samples)
        targets = targets.to(feat, non_blocking=True)
        labeled = labeled.to(feat.device, non_blocking=True)
        logits = self(feat)
        if self.multi_label:
            losses = F.binary_cross_entropy_with_logits(
                logits, targets, reduction='none'
            ).mean(1)
        else:
            losses = F.cross_entropy(logits, targets, reduction='none')
        return losses.masked_fill(~labeled, 0), labeled

    def find_label(self, info: dict) -> Any:
        """Return the class or classes in an info of a dataset."""
        score, label = info.get('gt_score'), info.get('gt_label')
        if score is not None:
            self._check_length(score)
            return int(np.argmax(score))
        if isinstance(label, int):
            return None if label == UNLABELED else label
        classes = np.asarray(label)
        if classes.size and (classes == UNLABELED).all():
            return None
        return label

    def check_labels(self, labels: list, paths: Sequence = ()) -> None:
        """Raise a ValueError for labels outside [0, num_classes - 1]."""
        if not labels:
            return
        counts = [np.size(label) for label in labels]
        rows = np.repeat(np.arange(len(labels)), counts)

        def place(row: int) -> str:
            return f' in {paths[row]}' if len(paths) else ''

        self._check_counts(counts, place)
        for row, count in enumerate(counts):
            # Of 0 and 1, some classes would occur twice.
            if count > 1 and len(np.unique(labels[row])) < count:
                raise ValueError(
                    'expected the indices of the classes of an image, got '
                    f'{np.ravel(labels[row]).tolist()}{place(row)}; give '
                    '0 and 1 for each class as gt_score'
                )
        classes = np.concatenate([np.ravel(label) for label in labels])
        self._check_range(torch.from_numpy(classes), rows, place)

    def read(self, samples: Sequence) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return N x C probabilities, zero for unlabeled images, and N
        booleans, on the labels' device."""
        scores, labels = {}, {}
        for row, sample in enumerate(samples):
            if 'gt_score' in sample:
                scores[row] = torch.as_tensor(sample.gt_score)
                self._check_length(scores[row])
                continue
            label = read_classes(sample)
            if label is not None:
                labels[row] = label
        found = [*scores.values(), *labels.values()]
        device = found[0].device if found else torch.device('cpu')
        shape = len(samples), self.num_classes
        targets = torch.zeros(shape, device=device)

        def place(row: int) -> str:
            return image_name(samples[row])

        if scores:
            rows = torch.tensor([*scores]).to(device, non_blocking=True)
            values = torch.stack([*scores.values()]).float()
            if self.must_check(values):
                self._check_scores(values, [*scores], place)
            targets.index_copy_(0, rows, values)
        if labels:
            counts = [len(label) for label in labels.values()]
            self._check_counts(counts, lambda i: place([*labels][i]))
            owners = np.repeat([*labels], counts)
            classes = torch.cat([*labels.values()])
            if self.must_check(classes):
                self._check_range(classes, owners, place)
            rows = torch.tensor(owners).to(device, non_blocking=True)
            one_hot = self._one_hot(classes)
            if self.multi_label:
                targets.index_add_(0, rows, one_hot).clamp_(max=1)
            else:  # faster, as each image has one class
                targets.index_copy_(0, rows, one_hot)
        # Images without a class are labeled if several are possible.
        empty = [
            self.multi_label
            and (row in scores or not len(labels.get(row, (UNLABELED,))))
            for row in range(len(samples))
        ]
        labeled = targets.sum(1) > 0
        labeled |= torch.tensor(empty).to(device, non_blocking=True)
        targets = targets.masked_fill(~labeled[:, None], 0)
        return targets, labeled

    def _one_hot(self, classes: torch.Tensor) -> torch.Tensor:
        """Return M x C values, zero for ``UNLABELED``.

        Other classes outside [0, C - 1] raise an error on every device:
        ``scatter_``, unlike an index, does not count from the end.
        """
        counts = count_classes(classes, UNLABELED)
        index = classes.masked_fill(~counts, 0)[:, None]
        zeros = torch.zeros(
            len(classes), self.num_classes, device=classes.device
        )
        return zeros.scatter_(1, index, counts[:, None].float())

    def _check_length(self, score: Sized) -> None:
        if len(score) != self.num_classes:
            raise ValueError(
                'expected gt_score of decoder.num_classes='
                f'{self.num_classes} values, got {len(score)}; set '
                'model.decoder.num_classes to the number of classes'
            )

    def _check_scores(
        self,
        scores: torch.Tensor,
        rows: Sequence[int],
        place: Callable[[int], str],
    ) -> None:
        """Check M x C probabilities; ``rows`` are the arguments of place."""
        total = scores.sum(1)
        right = ((scores >= 0) & (scores <= 1)).all(1)
        if not self.multi_label:
            right &= (total == 0) | ((total - 1).abs() < 0.01)
        if not right.all():
            first = int((~right).nonzero()[0])
            raise ValueError(
                'expected probabilities of classes in gt_score, which sum to '
                f'1 without decoder.multi_label, got {scores[first].tolist()}'
                f'{place(rows[first])}; correct it, or set '
                'model.decoder.multi_label=True'
            )

    def _check_counts(
        self, counts: List[int], place: Callable[[int], str]
    ) -> None:
        if not self.multi_label and set(counts) != {1}:
            first = next(i for i, count in enumerate(counts) if count != 1)
            raise ValueError(
                f'expected one class label for an image, got {counts[first]}'
                f'{place(first)}; set model.decoder.multi_label=True for '
                'any other number'
            )

    def _check_range(
        self,
        classes: torch.Tensor,
        rows: np.ndarray,
        place: Callable[[int], str],
    ) -> None:
        """Check M classes; ``rows`` are the arguments of place."""
        wrong = (classes < 0) | (classes >= self.num_classes)
        wrong &= count_classes(classes, UNLABELED)
        if wrong.any():
            first = place(rows[int(wrong.nonzero()[0])])
            raise ValueError(
                f'expected labels in [0, {self.num_classes - 1}] for '
                f'decoder.num_classes={self.num_classes}, or {UNLABELED} for '
                'unlabeled images, got '
                f'{classes[wrong].unique()[:5].tolist()}{first}; set '
                'model.decoder.num_classes to the number of classes'
            )
