"""The steps that are timed beside each other."""

import copy
from typing import Callable, Dict, List, NamedTuple

import torch
from memory_policy import can_be_kept
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from reference_step import ReferenceStep

from repfusion_mm.models.distillers.builders import as_tuple

#: What each variant changes in ``model`` of the config.
CHANGES: Dict[str, dict] = {
    'ours': {},
    'teacher in float32': {'teacher.dtype': 'float32'},
    'teacher in bfloat16': {'teacher.dtype': 'bfloat16'},
    'teacher in float16': {'teacher.dtype': 'float16'},
    'whole U-Net': {'teacher.early_stop': False},
    'student channels_last off': {'channels_last': False},
    'teacher channels_last': {'teacher.channels_last': True},
    'teacher compiled': {'teacher.compile': True},
    'freed memory given back': {},
}
REFERENCE = 'reference'
KEEPING_REFERENCE = 'reference, freed memory kept'
#: Those that run in a process like any other; the others, on a CPU, in one
#: that keeps freed memory, as tools/train.py makes it.
GIVING_BACK = (REFERENCE, 'freed memory given back')
FLOORS = {
    'floor': 'ours',
    'floor, teacher in float32': 'teacher in float32',
}
NAMES = [REFERENCE, KEEPING_REFERENCE, *CHANGES, *FLOORS]


class Step(NamedTuple):
    """A step to time, and the model behind it."""

    run: Callable[[dict], object]
    model: torch.nn.Module
    optim_wrapper: object = None

    def compiles(self) -> bool:
        """Whether the teacher is compiled, where it was asked for."""
        truncated = self.model.teacher.feature_extractor
        return truncated.is_compiled or not truncated.compile


def build_step(name: str, cfg: Config, device: str) -> Step:
    """Build one of the variants, all from the same seed.

    Args:
        name: A key of ``CHANGES`` or ``FLOORS``, or ``REFERENCE``.
        cfg: A config whose teacher needs no network.
        device: ``'cpu'`` or ``'cuda'``.
    """
    torch.manual_seed(0)
    if name in (REFERENCE, KEEPING_REFERENCE):
        step = ReferenceStep(cfg.model, cfg.optim_wrapper, device)
        return Step(step, step.model)
    cfg = copy.deepcopy(cfg)
    changes = CHANGES[FLOORS.get(name, name)]
    cfg.merge_from_dict({f'model.{k}': v for k, v in changes.items()})
    model = MODELS.build(cfg.model).to(device)
    model.init_weights()
    model.train()
    if name in FLOORS:
        return Step(lambda data: run_floor(model, data), model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    wrapper.initialize_count_status(model, 0, 10**9)
    return Step(lambda data: model.train_step(data, wrapper), model, wrapper)


def run_floor(model: torch.nn.Module, data: dict) -> None:
    """Run the arithmetic that no distillation can do without.

    The student's forward and backward, and the teacher's forward up to its
    last layer, on images that lie ready; nothing else.
    """
    inputs, images, timesteps = data
    model.teacher(images, timesteps)
    model.student.zero_grad()
    feats = as_tuple(model.student(inputs))
    sum(feats[i].sum() for i in model.student_indices).backward()


def prepare(step: Step, name: str, batch: dict) -> object:
    """Return what ``step.run`` takes, from a batch of the data loader."""
    data = copy.deepcopy(batch)
    if name not in FLOORS:
        return data
    inputs = step.model.data_preprocessor(data, True)['inputs']
    images = step.model.images(inputs)
    length = step.model.teacher.num_timesteps
    timesteps = torch.randint(length, (len(images),), device=images.device)
    return inputs, images, timesteps


def names_for(device: str) -> List[str]:
    """Return the variants that a device can run."""
    skip = set()
    if not can_be_kept(device):
        skip |= {KEEPING_REFERENCE, 'freed memory given back'}
    return [name for name in NAMES if name not in skip]


def compare_students(
    cfg: Config, batches: list, num_steps: int, device: str
) -> Dict[str, float]:
    """Train ours, in float32, and the public algorithm on the same draws.

    The public algorithm trains twice: its student's channels innermost, as
    ours are, and outermost, which rounds otherwise.

    Returns:
        How far the students' weights end from those of ours, and how far
        these went, divided by the norm of these.
    """
    ours = build_step('teacher in float32', cfg, device)
    references = {'channels innermost': True, 'channels outermost': False}
    for name, channels_last in references.items():
        step = build_step(REFERENCE, cfg, device)
        for part in ('student', 'connectors'):
            weights = getattr(ours.model, part).state_dict()
            getattr(step.model, part).load_state_dict(weights)
        if channels_last:
            step.model.student.to(memory_format=torch.channels_last)
        references[name] = step
    begin = flatten(ours.model.student)
    drawn: List[torch.Tensor] = []
    ours.model.teacher.register_forward_pre_hook(
        lambda _, args: drawn.append(args[1])
    )
    for number in range(num_steps):
        batch = batches[number % len(batches)]
        ours.run(copy.deepcopy(batch))
        for step in references.values():
            step.run(copy.deepcopy(batch), drawn[-1])
    end = flatten(ours.model.student)
    others = {name: flatten(s.model.student) for name, s in references.items()}
    distances = {n: (other - end).norm() for n, other in others.items()}
    distances['moved'] = (begin - end).norm()
    return {n: (d / end.norm()).item() for n, d in distances.items()}


def flatten(module: torch.nn.Module) -> torch.Tensor:
    """Return all weights of a module as one vector."""
    weights = [p.detach().flatten() for p in module.parameters()]
    return torch.cat(weights).double()
