"""Steer the timestep policy, and show what it does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Optional

import torch

from repfusion_mm.engine.feature_cache import check_cached_features
from repfusion_mm.engine.hooks.periodic_hook import (
    PeriodicHook,
    show,
    unwrap_model,
)
from repfusion_mm.engine.preflight import (
    check_baseline,
    check_batches,
    check_seeds,
    check_sizes,
    describe_labels,
    find_labels,
)
from repfusion_mm.registry import HOOKS
from repfusion_mm.visualization.policy_log import (
    FILENAME,
    draw_records,
    read_records,
)


@HOOKS.register_module()
class TimestepPolicyHook(PeriodicHook):
    """Decay the entropy weight, and record the distribution over timesteps.

    The weight lambda_H falls linearly from the policy's ``entropy_weight``
    towards zero at ``entropy_decay`` of the run, but not below
    ``entropy_floor``. It is computed from the iteration alone, so that a
    resumed run goes on where it was.

    Each record is a line of ``policy.jsonl`` in the run's log directory
    (iteration, of how many, timesteps, their mean probabilities over the
    batch, entropy, reward, advantage) and a picture in the visualizer, of all
    records so far.

    Args:
        entropy_decay: Share of the run, in (0, 1], at whose end lambda_H is
            zero. The paper's code: epoch 100 of 200.
        entropy_floor: Smallest lambda_H. Without one, noise alone moves a
            policy whose timesteps are all worth the same; the paper has none.
        num_records: How often the distribution is recorded over the run.

    Raises:
        ValueError: ``entropy_decay`` is outside (0, 1]; images of a batch
            differ in size; before the first iteration, if labels do not fit
            the decoder, a learned policy has no label to be rewarded by or
            nothing to compare a reward with, a batch has one image or none,
            two processes would draw the same timesteps, or cached features
            are not of this model and these images.
        FileNotFoundError: Before the first iteration, if files of labelled
            images or cached features are missing.
    """

    def __init__(
        self,
        entropy_decay: float = 0.5,
        entropy_floor: float = 0.035,
        num_records: int = 20,
    ) -> None:
        super().__init__(num_records)
        if not 0 < entropy_decay <= 1:
            raise ValueError(
                'expected entropy_decay in (0, 1], a share of the run, got '
                f'{entropy_decay}'
            )
        self.entropy_decay = entropy_decay
        self.entropy_floor = entropy_floor

    def before_train(self, runner) -> None:
        """Check what rewards depend on, and remember the initial weight."""
        model = unwrap_model(runner)
        dataset = runner.train_dataloader.dataset
        check_batches(runner.train_dataloader)
        check_cached_features(dataset, model)
        if len(model.policy.timesteps) > 1:
            check_seeds()
        if model.decoder is not None:
            key = model.decoder.info_key
            labels = find_labels(dataset, key)
            model.decoder.check_labels(labels)
            if model.policy.learnable and not labels:
                raise ValueError(
                    'expected labelled images to reward the learned policy, '
                    f'with {key}, which {type(model.decoder).__name__} reads, '
                    f'got {type(dataset).__name__} with '
                    f'{describe_labels(dataset)}; give labels to some '
                    'images, change model.decoder, or use '
                    'FixedTimestepPolicy or UniformTimestepPolicy'
                )
        if model.policy.learnable:
            check_baseline(model.policy, runner.train_dataloader)
            self._initial_weight = model.policy.entropy_weight

    def before_train_iter(
        self, runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Set lambda_H for this iteration."""
        if data_batch is not None:
            check_sizes(data_batch)
        policy = unwrap_model(runner).policy
        if policy.learnable:
            policy.entropy_weight = self.entropy_weight(
                self._initial_weight, runner.iter / runner.max_iters
            )
            runner.message_hub.update_scalar(
                'train/entropy_weight', policy.entropy_weight
            )

    def entropy_weight(self, initial: float, progress: float) -> float:
        """Return lambda_H after a share ``progress`` of the run."""
        decayed = initial * (1 - progress / self.entropy_decay)
        return max(decayed, min(self.entropy_floor, initial))

    @torch.no_grad()
    def record(self, runner, data_batch: Optional[dict]) -> None:
        """Write the mean distribution over the current batch, and draw all
        that was written."""
        model = unwrap_model(runner)
        inputs = model.data_preprocessor(data_batch, False)['inputs']
        pi = model.policy(model.images(inputs))
        entry = dict(
            iter=runner.iter + 1,
            max_iters=runner.max_iters,
            timesteps=model.policy.timesteps.tolist(),
            probabilities=[
                float(f'{p:.3g}') for p in pi.probs.mean(0).tolist()
            ],
            entropy=pi.entropy().mean().item(),
        )
        scalars = runner.message_hub.log_scalars
        for name in ('reward', 'advantage_std'):
            history = scalars.get(f'train/{name}')
            if history is not None and not math.isnan(history.current()):
                entry[name] = float(history.current())
        with Path(runner.log_dir, FILENAME).open('a') as file:
            file.write(json.dumps(entry) + '\n')
        show(runner, 'policy', draw_records(read_records(runner.work_dir)))
