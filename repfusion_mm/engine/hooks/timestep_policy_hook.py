"""Steer the timestep policy, and record its distribution."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import List, Optional, Set

import torch
from mmengine.dist import all_reduce

from repfusion_mm.engine.feature_cache import check_cached_features
from repfusion_mm.engine.hooks.buffered_runtime_info_hook import (
    flush_statistics,
)
from repfusion_mm.engine.hooks.periodic_hook import PeriodicHook
from repfusion_mm.engine.preflight.batches import (
    check_baseline,
    check_batches,
    check_loss,
    check_seeds,
    check_sizes,
)
from repfusion_mm.engine.preflight.class_signal import check_class_signal
from repfusion_mm.engine.preflight.folders import check_files
from repfusion_mm.engine.preflight.frozen_layers import check_student
from repfusion_mm.engine.preflight.labels import check_labels
from repfusion_mm.engine.preflight.pixels import check_pixels
from repfusion_mm.engine.utils import (
    attach,
    check_single,
    unwrap_model,
    use_hooks_once,
)
from repfusion_mm.models.connectors import MultiLevelConnector
from repfusion_mm.models.distillers.verdict import judge_student
from repfusion_mm.models.policies.verdict import Verdict, judge_policy
from repfusion_mm.registry import HOOKS
from repfusion_mm.utils.arguments import check_integer, check_number
from repfusion_mm.visualization.policy_log import (
    FILENAME,
    draw_records,
    read_records,
)

#: Key in mmengine's ``MessageHub``, which puts the table in checkpoints.
TABLE = 'timestep_policy/reward_table'


@HOOKS.register_module()
class TimestepPolicyHook(PeriodicHook):
    """Decay the entropy weight, and record the distribution over timesteps.

    The entropy weight lambda_H decreases linearly from the policy's
    ``entropy_weight`` to zero after ``entropy_decay`` of the run, but not
    below ``entropy_floor``. It is a function of the iteration, so that a
    resumed run continues correctly.

    Each record is a line of ``policy.jsonl`` in the run's log directory
    (iteration, the iteration after which this start of the run began, length
    of the run, timesteps, their mean probabilities over the batches of all
    processes, entropy, reward, standard deviation of the advantage, the
    ``RewardTable`` of the steps since the last record, and the variance that
    the student explained in the last tenth of the steps) and a picture of all
    records in the visualizer. At the end of the run, the hook
    logs what a learned policy and the student have learned, or warns that
    they have learned nothing. It also checks model and data before the first
    iteration.

    Args:
        entropy_decay: Fraction of the run, in (0, 1], after which lambda_H is
            zero. The reference implementation: epoch 100 of 200.
        entropy_floor: Smallest lambda_H. With zero, as in the paper, a policy
            whose timesteps have equal rewards drifts with the noise.
        num_records: Largest number of records in a run.
        min_picture_interval: Smallest number of iterations between two
            pictures, so that short runs spend no time on drawing. One is
            drawn at the end of every run.

    Raises:
        ValueError: An argument is outside its range. In training: the
            images of a batch differ in size. Before training: labels do not
            fit the decoder; a learned policy has no labels for its reward, or
            batches of one label for its baseline; there is an empty batch or
            one of a single image; the teacher would get BGR images; two
            processes have the same seed; cached features belong to another
            model or other images; or there is a second
            ``TimestepPolicyHook``.
        FileNotFoundError: Before training: files of labeled images or cached
            features are missing.
    """

    on_all_ranks = True

    def __init__(
        self,
        entropy_decay: float = 0.5,
        entropy_floor: float = 0.035,
        num_records: int = 20,
        min_picture_interval: int = 100,
    ) -> None:
        super().__init__(num_records)
        place = 'default_hooks.timestep_policy'
        check_number(
            f'{place}.entropy_decay', entropy_decay, high=1, positive=True
        )
        check_number(f'{place}.entropy_floor', entropy_floor)
        check_integer(f'{place}.min_picture_interval', min_picture_interval, 0)
        self.entropy_decay = entropy_decay
        self.entropy_floor = entropy_floor
        self.min_picture_interval = min_picture_interval
        self._start = 0
        self._last_picture = 0
        self._loaded: Set[str] = set()
        self._verdicts: List[Verdict] = []

    def before_run(self, runner) -> None:
        """Use each hook once, and tell the model that this one is there."""
        use_hooks_once(runner)
        attach(runner, 'TimestepPolicyHook')

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Keep which tensors are not random."""
        self._loaded = {*checkpoint.get('state_dict', checkpoint)}

    def before_train(self, runner) -> None:
        """Check model and data, and keep the initial entropy weight."""
        check_single(runner, TimestepPolicyHook)
        model = unwrap_model(runner)
        loader = runner.train_dataloader
        check_student(runner, self._loaded)
        check_batches(loader)
        check_loss(model, loader)
        if isinstance(model.connectors, MultiLevelConnector):
            model.connectors.check_batch(loader.batch_sampler.batch_size)
        check_pixels(loader.dataset, model)
        check_cached_features(loader.dataset, model)
        if len(model.policy.timesteps) > 1:
            check_seeds()
        check_files(loader.dataset, model)
        if model.teacher.live.label_classes is not None:
            check_class_signal(loader.dataset, model.teacher.live)
        if model.decoder is not None:
            check_labels(loader.dataset, model, loader.num_workers)
        if model.policy.learnable:
            check_baseline(model, loader)
            self._initial_weight = model.policy.entropy_weight
            self._keep_table(runner, model.reward_table.values)
        self._start = self._last_picture = runner.iter

    def before_train_iter(
        self, runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Set the entropy weight of this iteration."""
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
        """Return lambda_H after a fraction ``progress`` of the run."""
        decayed = initial * (1 - progress / self.entropy_decay)
        return max(decayed, min(self.entropy_floor, initial))

    def after_train(self, runner) -> None:
        """Log whether policy and student have learned anything."""
        for verdict in self._verdicts:
            level = logging.INFO if verdict.learned else logging.WARNING
            runner.logger.log(level, verdict.text)

    @torch.no_grad()
    def record(self, runner, data_batch: Optional[dict]) -> None:
        """Append the mean distribution over a batch, and draw a picture."""
        flush_statistics(runner)
        model = unwrap_model(runner)
        inputs = model.data_preprocessor(data_batch, False)['inputs']
        pi = model.policy(model.images(inputs))
        probabilities, entropy = pi.probs.mean(0), pi.entropy().mean()
        all_reduce(probabilities, 'mean')
        all_reduce(entropy, 'mean')
        table = model.reward_table.pop() if model.policy.learnable else {}
        if runner.rank != 0:
            return
        num_done = runner.iter + 1
        entry = dict(
            iter=num_done,
            start=self._start,
            max_iters=runner.max_iters,
            timesteps=model.policy.timesteps.tolist(),
            probabilities=[float(f'{p:.3g}') for p in probabilities.tolist()],
            entropy=entropy.item(),
            **table,
        )
        scalars = runner.message_hub.log_scalars
        for name in ('reward', 'advantage_std'):
            history = scalars.get(f'train/{name}')
            if history is not None and not math.isnan(history.current()):
                entry[name] = float(history.current())
        history = scalars.get('train/explained_variance')
        if history is not None:
            mean = float(history.mean(math.ceil(num_done / 10)))
            if math.isfinite(mean):
                entry['explained_variance'] = mean
        with Path(runner.log_dir, FILENAME).open(
            'a', encoding='utf-8'
        ) as file:
            file.write(json.dumps(entry) + '\n')
        if (
            num_done == runner.max_iters
            or num_done - self._last_picture >= self.min_picture_interval
        ):
            self._last_picture = num_done
            records = read_records(runner.work_dir)
            self.show(runner, 'policy', draw_records(records))
            if num_done == runner.max_iters:
                verdicts = judge_policy(records), judge_student(records)
                self._verdicts = [v for v in verdicts if v is not None]

    def _keep_table(self, runner, table: torch.Tensor) -> None:
        """Continue with the table of the checkpoint, and save it."""
        hub = runner.message_hub
        saved = hub.runtime_info.get(TABLE)
        if runner.iter and saved is not None and saved.shape == table.shape:
            table.copy_(saved)
        hub.update_info(TABLE, table)
