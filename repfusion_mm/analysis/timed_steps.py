"""The steps of the step benchmark, and the time of each and of its parts."""

from __future__ import annotations

import copy
import itertools
from typing import Any, Callable, Dict, List

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from repfusion_mm.analysis import measuring
from repfusion_mm.analysis.reference_step import ReferenceStep
from repfusion_mm.datasets.feature_cache.dataset import FEATS_FIELD, KEY_FIELD
from repfusion_mm.datasets.feature_cache.files import key_to_text
from repfusion_mm.models.distillers.builders import as_tuple
from repfusion_mm.models.distillers.repfusion import NEEDED_HOOKS

#: Single options of ours that are changed.
OPTIONS: Dict[str, dict] = {
    'teacher in float32': {'model.teacher.dtype': 'float32'},
    'complete U-Net': {'model.teacher.early_stop': False},
    'teacher channels_last': {'model.teacher.channels_last': True},
    'teacher compiled': {'model.teacher.compile': True},
    'student compiled': {'model.compile': True},
}
#: The reference with the allocator settings of ours.
KEEPING = 'reference, freed memory kept'
#: The floor, and what maps the student's maps to the teacher's channels.
CONNECTED = 'floor and connectors'
#: Ours and the floor on batches that carry the latents of their images.
CACHED = ('ours, latents cached', 'floor, latents cached')
NAMES = [
    'reference', KEEPING, 'ours', *OPTIONS, 'floor', CONNECTED, *CACHED,
]  # fmt: skip


class Step:
    """A training step to time, built with seed 0; ``name`` is in NAMES."""

    def __init__(self, name: str, cfg: Config) -> None:
        torch.manual_seed(0)
        self._latents: Any = None
        self.is_floor = name.startswith('floor')
        self.is_connected = name == CONNECTED
        self.is_cached = name in CACHED
        if name in ('reference', KEEPING):
            self.run: Callable = ReferenceStep(cfg.model, cfg.optim_wrapper)
            self.model = self.run.model
            return
        cfg = copy.deepcopy(cfg)
        cfg.merge_from_dict(OPTIONS.get(name, {}))
        self.model = MODELS.build(cfg.model).to(measuring.DEVICE)
        self.model.attached_hooks.update(NEEDED_HOOKS)  # not missed here
        self.model.init_weights()
        self.model.train()
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.optim_wrapper.initialize_count_status(self.model, 0, 10**9)
        self.run = self._run_floor if self.is_floor else self._train_step

    def prepare(self, batch: dict) -> object:
        """Return the argument of ``run`` for a batch of the data loader."""
        batch = copy.deepcopy(batch)
        if self.is_cached:
            self._add_latents(batch)
        return self.make_inputs(batch) if self.is_floor else batch

    def make_inputs(self, batch: dict) -> tuple:
        """Return the student's inputs, images, random timesteps, samples."""
        data = self.model.data_preprocessor(batch, True)
        images = self.model.images(data['inputs'])
        length = self.model.teacher.num_timesteps
        timesteps = torch.randint(length, (len(images),), device=images.device)
        return data['inputs'], images, timesteps, data['data_samples']

    def _add_latents(self, batch: dict) -> None:
        """Add latents to data samples, as ``CachedLatentsDataset`` does."""
        if self._latents is None:
            _, images, _, _ = self.make_inputs(copy.deepcopy(batch))
            mean = self.model.teacher.live.encode_latents(images).mean
            self._latents = mean.half().cpu().numpy()
            self._key = key_to_text(self.model.teacher.latents_key())
        for sample, latents in zip(batch['data_samples'], self._latents):
            sample.set_field(dict(mean=latents), FEATS_FIELD)
            sample.set_field(self._key, KEY_FIELD)

    @property
    def is_compiled(self) -> bool:
        """Whether everything runs compiled that should."""
        extractor = self.model.teacher.live.feature_extractor
        functions = (extractor.run, self.model.run_student)
        return all(getattr(f, 'compiled', f) for f in functions)

    def _train_step(self, batch: dict) -> None:
        self.model.train_step(batch, self.optim_wrapper)

    def _run_floor(self, data: tuple) -> None:
        """Run only the arithmetic that every distillation needs."""
        inputs, images, timesteps, samples = data
        self.model.teacher(
            images, timesteps, samples if self.is_cached else None
        )
        self.model.zero_grad()
        with self.optim_wrapper.optim_context(self.model):
            feats = as_tuple(self.model.student(inputs))
            maps = [feats[i] for i in self.model.student_indices]
            if self.is_connected:
                maps = self.model.connectors(maps)
        loss = sum(feat.sum() for feat in maps)
        self.optim_wrapper.backward(loss)


def time_steps(
    steps: Dict[str, Step], batches: list, rounds: int, warmup: int
) -> Dict[str, List[float]]:
    """Return the milliseconds of steps that are timed round by round."""
    endless = itertools.cycle(batches)
    times: Dict[str, List[float]] = {name: [] for name in steps}
    kept = None
    for number in range(warmup + rounds):
        for name, step in steps.items():
            keep = name != 'reference'
            if keep != kept:
                kept = keep
                measuring.set_memory_policy(keep)
                # Untimed: afterwards there is memory to keep or return.
                step.run(step.prepare(next(endless)))
            data = step.prepare(next(endless))
            begin = measuring.now()
            step.run(data)
            if number >= warmup:
                times[name].append(1e3 * (measuring.now() - begin))
    return times


def time_batches(
    step: Step, batches: list, rounds: int, warmup: int
) -> Dict[str, float]:
    """Return milliseconds, images per second and memory of a step.

    The memory is the most in use during the steps, in MiB.
    """
    step.run(step.prepare(batches[0]))  # may compile
    measuring.reset_peak()
    (times,) = time_steps({'': step}, batches, rounds, warmup).values()
    figures = measuring.summarize(times)
    num_images = len(batches[0]['inputs'])
    figures['images_per_second'] = 1e3 * num_images / figures['median']
    figures['peak'] = round(measuring.read_memory()[1], 1)
    return figures


def time_parts(step: Step, batch: dict, rounds: int) -> dict:
    """Return the milliseconds of each part of our step, and of all of it."""
    model, wrapper = step.model, step.optim_wrapper
    parts = {
        'data': [(model.data_preprocessor, 'forward'), (model, 'images')],
        'teacher': [(model.teacher, 'forward')],
        'student': [(model.student, 'forward')],
        'policy and decoder': [(model.policy, 'forward')],
        'backward': [(wrapper, 'backward')],
        'optimizers': [(wrapper, 'step'), (wrapper, 'zero_grad')],
        'all': [(model, 'train_step')],
    }
    for module in (model.policy, model.decoder):
        if hasattr(module, 'loss'):
            parts['policy and decoder'].append((module, 'loss'))
    rows = []
    for _ in range(rounds):
        data = step.prepare(batch)
        with measuring.time_methods(parts) as calls:
            step.run(data)
        row = {
            part: 1e3 * sum(end - begin for begin, end in calls[part])
            for part in parts
        }
        row['rest'] = 2 * row['all'] - sum(row.values())
        rows.append(row)
    columns = zip(*(row.values() for row in rows))
    return dict(zip(rows[0], map(measuring.summarize, columns)))


def count_arithmetic(steps: Dict[str, Step], batch: dict) -> dict:
    """Count FLOP, and estimate their time at the rate of matrix products.

    A backward counts as two forwards: torch counts the backward of grouped
    convolutions many times too high.
    """
    model = steps['ours'].model
    inputs, images, timesteps, _ = steps['ours'].make_inputs(
        copy.deepcopy(batch)
    )
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    with model.teacher.live.feature_extractor.uncompiled():
        teacher = measuring.count_flops(
            lambda: model.teacher(images, timesteps)
        )
        forward = measuring.count_flops(lambda: model(**data, mode='loss'))
    student = measuring.count_flops(lambda: model.student(inputs))
    trained = 3 * (forward - teacher)
    flops = dict(ours=teacher + trained, floor=teacher + 3 * student)
    if 'reference' in steps:
        complete = steps['reference'].model.teacher
        flops['reference'] = trained + measuring.count_flops(
            lambda: complete(images, timesteps)
        )
    dtype = next(model.teacher.live.parameters()).dtype
    # The dtype of the trained parts: that of a product under autocast.
    x = torch.zeros(1, 1, device=images.device)
    with steps['ours'].optim_wrapper.optim_context(model):
        trained_dtype = (x @ x).dtype
    measure_rate = measuring.measure_matmul_rate
    rates = {kind: measure_rate(kind) for kind in {trained_dtype, dtype}}
    return dict(
        teacher_flop=teacher,
        step_flop=flops,
        flop_per_second={str(k).split('.')[1]: v for k, v in rates.items()},
        seconds_at_these_rates=(
            teacher / rates[dtype] + trained / rates[trained_dtype]
        ),
    )
