"""The ways to get a student that evidence.py compares."""

from typing import Dict, List, NamedTuple, Optional, Sequence

import cross_fit  # noqa: F401  # a decoder of one of them


def policy(name: str, **arguments) -> List[str]:
    options = [
        'model.policy._delete_=True',
        f'model.policy.type=repfusion_mm.{name}',
        'model.decoder=None',
    ]
    return options + [f'model.policy.{k}={v}' for k, v in arguments.items()]


def loss(name: str) -> List[str]:
    return [
        *policy('FixedTimestepPolicy', timestep=250),
        'model.distill_loss._delete_=True',
        f'model.distill_loss.type=repfusion_mm.{name}',
        # The config's suits its own loss.
        'optim_wrapper.student.optimizer.lr=0.1',
    ]


class Method(NamedTuple):
    """A way to get a student.

    Attributes:
        title: For tables.
        options: What it changes in the distillation's config, None if there
            is no distillation.
        reads_labels: Whether the distillation does, so that each number of
            labels has a student of its own, and half of each batch is drawn
            from the images that have one. The others draw from all alike.
        probed: Whether it is at the probe's best timestep.
    """

    title: str
    options: Optional[Sequence[str]]
    reads_labels: bool = False
    probed: bool = False


METHODS: Dict[str, Method] = dict(
    scratch=Method('from scratch', None),
    fixed_first=Method('t = 0', policy('FixedTimestepPolicy', timestep=0)),
    fixed_last=Method('t = 999', policy('FixedTimestepPolicy', timestep=999)),
    uniform=Method('uniform t', policy('UniformTimestepPolicy')),
    fixed_best=Method(
        "probe's best t", policy('FixedTimestepPolicy'), probed=True
    ),
    learned=Method('learned t (RepFusion)', [], True),
    noised=Method(
        'learned t, noised input', ['model.teacher.input_mode=noised'], True
    ),
    at=Method('t = 250, AT', loss('AttentionTransferLoss')),
    rkd=Method('t = 250, RKD', loss('RelationalLoss')),
    fixed_same_draws=Method(
        "probe's best t, drawn as for the policy",
        policy('FixedTimestepPolicy'),
        True,
        True,
    ),
    held_out=Method(
        'learned t, reward out of sample',
        [
            'model.decoder._delete_=True',
            'model.decoder.type=repfusion_mm.CrossFitDecoder',
            'model.decoder.num_classes=10',
        ],
        True,
    ),
)
