"""Ways to pretrain a student, and claims about them."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional, Sequence, Union

from projects.study.scores import NumLabels

#: The timestep of a method is the one that the probe of its labels selects.
PROBE = 'probe'
#: The timestep of a method is learned.
LEARNED = 'learned'
POLICY = ('model.decoder=None', 'model.policy._delete_=True')
FIXED = (*POLICY, 'model.policy.type=repfusion_mm.FixedTimestepPolicy')


class Method(NamedTuple):
    """A way to pretrain a student.

    Attributes:
        title: Name in tables.
        options: Changes to the config of the pretraining; None without one.
        timestep: A number, a number for each number of labels,
            :data:`PROBE`, :data:`LEARNED`, or None.
        reads_labels: Whether the pretraining reads the labels. Such a method
            trains a student for each number of labels, and half of each of
            its batches is drawn from the labeled images.
        config: Another config than the study's.
        prefix: Prefix of the backbone's keys in the checkpoint, for methods
            other than distillation.
    """

    title: str
    options: Optional[Sequence[str]] = ()
    timestep: Union[int, str, Mapping[NumLabels, int], None] = None
    reads_labels: bool = False
    config: Optional[Path] = None
    prefix: str = ''


#: The methods of all studies.
METHODS: Dict[str, Method] = dict(
    scratch=Method('from scratch', None),
    fixed_first=Method('t = 0', FIXED, 0),
    fixed_last=Method('t = 999', FIXED, 999),
    uniform=Method(
        'uniform t',
        (*POLICY, 'model.policy.type=repfusion_mm.UniformTimestepPolicy'),
    ),
    fixed_best=Method('t of the probe', FIXED, PROBE),
    learned=Method('learned t', (), LEARNED, reads_labels=True),
    paper_policy=Method(
        'learned t, policy of the paper',
        (
            'model.policy.logits=free',
            'model.policy.baseline=none',
            'model.policy.scale_advantage=False',
            'default_hooks.timestep_policy.entropy_floor=0',
        ),
        LEARNED,
        reads_labels=True,
    ),
)


# With the learning rate of the paper; those of the configs are for the hint.
OTHER_LOSS = (
    *FIXED,
    'model.distill_loss._delete_=True',
    'model.normalizer=none',
    'optim_wrapper.student.optimizer.lr=0.1',
)
#: Distillation losses that compare pooled features of whole images.
OTHER_LOSSES: Dict[str, Method] = dict(
    at=Method(
        't of the probe, AT',
        (
            *OTHER_LOSS,
            'model.distill_loss.type=repfusion_mm.AttentionTransferLoss',
        ),
        PROBE,
    ),
    rkd=Method(
        't of the probe, RKD',
        (*OTHER_LOSS, 'model.distill_loss.type=repfusion_mm.RelationalLoss'),
        PROBE,
    ),
)


class Claim(NamedTuple):
    """A method is better than another one by more than a margin.

    Attributes:
        margin: In units of the score. A negative margin allows the method to
            be worse by that much.
    """

    text: str
    method: str
    other: str
    margin: float = 0.0


#: The claims of all studies.
CLAIMS = (
    Claim('t of the probe > t = 0', 'fixed_best', 'fixed_first'),
    Claim('t of the probe > t = 999', 'fixed_best', 'fixed_last'),
    Claim(
        'learned t is at most 1 point worse than t of the probe',
        'learned',
        'fixed_best',
        -0.01,
    ),
    Claim('t of the probe > from scratch', 'fixed_best', 'scratch'),
    Claim('learned t > from scratch', 'learned', 'scratch'),
    Claim('t of the probe > uniform t', 'fixed_best', 'uniform'),
    Claim('learned t > uniform t', 'learned', 'uniform'),
    Claim('learned t > policy of the paper', 'learned', 'paper_policy'),
)
