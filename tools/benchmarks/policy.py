"""Train timestep policies on rewards whose best timestep is known.

    policy.py --seeds 20 --json policy.json

Each bandit is trained on by this package's policy, with the defaults of
LearnedTimestepPolicy and TimestepPolicyHook, and by the rule of the paper's
reference implementation (one free logit per timestep, no baseline, no
scaling, no entropy floor). All rules see the same images, noise and random
numbers. Regret is the share of the reward's range that a policy loses
compared with the best timestep of each image.
"""

import json
import sys
from dataclasses import dataclass
from statistics import median
from typing import Dict, List, Optional, Tuple

import torch

from repfusion_mm.cli import report_errors, script_parser
from repfusion_mm.cli.argument_types import output_file, positive_int
from repfusion_mm.engine.hooks import TimestepPolicyHook
from repfusion_mm.models import LearnedTimestepPolicy

NUM_TIMESTEPS = 1000
TIMESTEPS = torch.arange(NUM_TIMESTEPS)
BATCH, UPDATES, LR = 64, 300, 1e-3

#: Arguments of LearnedTimestepPolicy; ``entropy_floor`` is the hook's.
RULES: Dict[str, dict] = dict(
    ours={},
    public_rule=dict(
        logits='free', baseline='none', scale_advantage=False, entropy_floor=0
    ),
    plain=dict(scale_advantage=False, entropy_floor=0),
    running_mean=dict(scale_advantage=False, baseline='ema', entropy_floor=0),
    scaled=dict(entropy_floor=0),
    unscaled=dict(scale_advantage=False),
    floor_030=dict(entropy_floor=0.03),
    floor_100=dict(entropy_floor=0.1),
)


@dataclass
class Bandit:
    """A reward over timesteps, different from image to image.

    Attributes:
        values: Expected rewards of K timesteps in [0, 1], of all images, or
            2 x K of dark and of bright images; the best is 1.
        offset: Added to all rewards, like the log-likelihood of a decoder.
        noise: Standard deviation of the rewards.
        improvement: Rise of the offset during the run, like that of a decoder
            that learns; most of it in the first third.
        scale: Factor of the rewards.
    """

    values: torch.Tensor
    offset: float
    noise: float
    improvement: float = 0.0
    scale: float = 1.0

    def sample_images(
        self, num_images: int, generator: torch.Generator
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Return images, N x 3 x 8 x 8 in [0, 1], and N x K values."""
        bright = torch.rand(num_images, generator=generator) < 0.5
        level = torch.where(bright, 0.7, 0.2).view(-1, 1, 1, 1)
        pixels = torch.rand(num_images, 3, 8, 8, generator=generator)
        return level + 0.1 * pixels, self.values.expand(2, -1)[bright.long()]

    def reward(
        self, value: torch.Tensor, progress: float, generator: torch.Generator
    ) -> torch.Tensor:
        """Return noisy rewards of N values; ``progress`` is in [0, 1]."""
        deficit = self.improvement * 2.718 ** (-9 * progress)
        noise = self.noise * torch.randn(len(value), generator=generator)
        return self.scale * (self.offset - deficit + value + noise)


def peak(center, width: float = 150) -> torch.Tensor:
    """Return a Gaussian bump of height 1 over the timesteps."""
    return torch.exp(-0.5 * ((TIMESTEPS - center) / width) ** 2)


def make_bandits() -> Dict[str, Bandit]:
    """Return each landscape near zero with little noise, and far with much.

    -5.3 is the log-likelihood of 200 classes at chance level. Errors of
    keypoints are around 0.01, hence ``one_peak_small``.
    """
    landscapes = dict(
        one_peak=peak(200),
        two_peaks=torch.maximum(0.8 * peak(200, 100), peak(700, 100)),
        plateau=peak(TIMESTEPS.clamp(300, 600), 100),
        flat=torch.ones(NUM_TIMESTEPS),
        per_image=torch.stack([peak(200), peak(700)]),
    )
    bandits = {}
    for where, offset, noise in (('near', -2.0, 0.3), ('far', -5.3, 1.0)):
        for name, values in landscapes.items():
            bandits[f'{name}_{where}'] = Bandit(values, offset, noise)
        bandits[f'improving_{where}'] = Bandit(peak(200), offset, noise, 3.0)
    bandits['one_peak_small'] = Bandit(peak(200), -2.0, 0.3, scale=0.01)
    return bandits


BANDITS = make_bandits()


def train(rule: str, bandit: Bandit, seed: int) -> Tuple[float, float]:
    """Train a policy on a bandit.

    Returns:
        Regret, and entropy as a share of the largest possible.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    arguments = dict(RULES[rule])
    floor = {k: arguments.pop(k) for k in {'entropy_floor'} & set(arguments)}
    policy = LearnedTimestepPolicy(NUM_TIMESTEPS, **arguments)
    hook = TimestepPolicyHook(**floor)
    initial_weight = policy.entropy_weight
    optimizer = torch.optim.Adam(policy.parameters(), lr=LR)
    has_reward = torch.ones(BATCH, dtype=torch.bool)
    for update in range(UPDATES):
        progress = update / UPDATES
        policy.entropy_weight = hook.entropy_weight(initial_weight, progress)
        images, values = bandit.sample_images(BATCH, generator)
        pi = policy(images)
        # Sampled by inversion: the same random numbers for all rules.
        uniform = torch.rand(BATCH, 1, generator=generator)
        actions = torch.searchsorted(pi.probs.detach().cumsum(1), uniform)
        actions = actions.clamp(max=NUM_TIMESTEPS - 1)
        value = values.gather(1, actions)[:, 0]
        reward = bandit.reward(value, progress, generator)
        losses = policy.loss(pi, actions[:, 0], reward, has_reward)
        optimizer.zero_grad()
        losses['loss_policy'].backward()
        optimizer.step()
    images, values = bandit.sample_images(256, generator)
    with torch.no_grad():
        pi = policy(images)
    regret = 1 - (pi.probs * values).sum(1).mean().item()
    largest_entropy = torch.tensor(float(NUM_TIMESTEPS)).log().item()
    return regret, pi.entropy().mean().item() / largest_entropy


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    add = parser.add_argument
    add(
        '--seeds', type=positive_int, default=20, help='number of runs of each'
    )
    add('--bandits', nargs='+', choices=BANDITS, default=list(BANDITS))
    add('--rules', nargs='+', choices=RULES, default=['ours', 'public_rule'])
    add('--json', type=output_file, metavar='OUT', help='write the results')
    args = parser.parse_args(argv)
    # With tensors this small, more threads only wait for each other.
    torch.set_num_threads(1)
    with report_errors():
        bandits: Dict[str, dict] = {}
        for name in args.bandits:
            bandits[name] = dict(seeds=args.seeds)
            for rule in args.rules:
                regrets, entropies = zip(
                    *(train(rule, BANDITS[name], s) for s in range(args.seeds))
                )
                bandits[name][rule] = dict(
                    within_5pct=sum(r <= 0.05 for r in regrets),
                    median_regret=round(median(regrets), 4),
                    max_regret=round(max(regrets), 4),
                    min_entropy=round(min(entropies), 4),
                )
                print(f'{name:16}{rule:14}', bandits[name][rule], flush=True)
        if args.json:
            report = json.dumps(dict(bandits=bandits), indent=2)
            args.json.write_text(report + '\n', encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
