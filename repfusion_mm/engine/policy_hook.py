"""Steer the timestep policy, and show what it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import numpy as np
import torch

from ..registry import HOOKS
from .periodic import PeriodicHook, bare_model, show
from .preflight import check_batches, find_labelled


@HOOKS.register_module()
class TimestepPolicyHook(PeriodicHook):
    """Decay the entropy weight, and record the distribution over timesteps.

    The weight lambda_H falls linearly from the policy's ``entropy_weight`` to
    zero at ``entropy_decay`` of the run. It is computed from the iteration
    alone, so that a resumed run goes on where it was.

    Each record is a line of ``policy.jsonl`` in the run's log directory
    (iteration, timesteps, their mean probabilities over the batch) and a
    picture in the visualizer.

    Args:
        entropy_decay: Share of the run, in (0, 1], at whose end lambda_H is
            zero. The paper's code: epoch 100 of 200.
        num_records: How often the distribution is recorded over the run.

    Raises:
        ValueError: ``entropy_decay`` is outside (0, 1]; before the first
            iteration, if labels do not fit the decoder, a learned policy
            has no label to be rewarded by, or a batch has one image or none.
        FileNotFoundError: Before the first iteration, if files of labelled
            images are missing.
    """

    def __init__(
        self, entropy_decay: float = 0.5, num_records: int = 20
    ) -> None:
        super().__init__(num_records)
        if not 0 < entropy_decay <= 1:
            raise ValueError(
                'expected entropy_decay in (0, 1], a share of the run, got '
                f'{entropy_decay}'
            )
        self.entropy_decay = entropy_decay

    def before_train(self, runner) -> None:
        """Check what rewards depend on, and remember the initial weight."""
        model = bare_model(runner)
        check_batches(runner.train_dataloader)
        if model.decoder is not None:
            key = model.decoder.info_key
            labelled = find_labelled(runner.train_dataloader.dataset, key)
            model.decoder.check_infos(labelled)
            if model.policy.learnable and not labelled:
                raise ValueError(
                    'expected labelled images to reward the learned policy, '
                    f'got none with {key}, which '
                    f'{type(model.decoder).__name__} reads; give labels to '
                    'some images, change model.decoder, or use '
                    'FixedTimestepPolicy or UniformTimestepPolicy'
                )
        if model.policy.learnable:
            self._initial_weight = model.policy.entropy_weight

    def before_train_iter(
        self, runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Set lambda_H for this iteration."""
        policy = bare_model(runner).policy
        if policy.learnable:
            passed = runner.iter / (runner.max_iters * self.entropy_decay)
            policy.entropy_weight = self._initial_weight * max(0, 1 - passed)
            runner.message_hub.update_scalar(
                'train/entropy_weight', policy.entropy_weight
            )

    @torch.no_grad()
    def record(self, runner, data_batch: Optional[dict]) -> None:
        """Write and draw the mean distribution over the current batch."""
        model = bare_model(runner)
        inputs = model.data_preprocessor(data_batch, False)['inputs']
        timesteps = model.policy.timesteps.cpu().numpy()
        pi = model.policy(model.images(inputs))
        probs = pi.probs.mean(0).cpu().numpy()
        entry = dict(
            iter=runner.iter + 1,
            timesteps=timesteps.tolist(),
            probabilities=[float(f'{p:.3g}') for p in probs],
        )
        with Path(runner.log_dir, 'policy.jsonl').open('a') as file:
            file.write(json.dumps(entry) + '\n')
        show(runner, 'policy', draw_distribution(timesteps, probs))


def draw_distribution(timesteps: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Draw probabilities over timesteps.

    Args:
        timesteps: K timesteps.
        probs: Their K probabilities.

    Returns:
        H x W x 3 uint8 RGB image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout='constrained')
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    if len(timesteps) == 1:
        axes.bar(timesteps, probs, width=10)
    else:
        axes.fill_between(timesteps, probs, alpha=0.4)
        axes.plot(timesteps, probs)
    axes.set(xlabel='timestep t', ylabel='mean pi(t|x)', ylim=(0, None))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
