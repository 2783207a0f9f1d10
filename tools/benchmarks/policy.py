"""Train timestep policies on rewards whose best timestep is known.

    policy.py --seeds 20 --json policy.json

Each bandit is trained on by this package's policy, with the defaults of
LearnedTimestepPolicy and TimestepPolicyHook, and by the rule of the paper's
reference implementation (one free logit per timestep, no baseline, no
scaling, no entropy floor). All rules see the same images, noise and random
numbers. Regret is the share of the reward's range that a policy loses
compared with the best timestep of each image.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Callable, Dict, List, Optional, Tuple

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from repfusion_mm.cli import report_errors
from repfusion_mm.cli.argument_types import positive
from repfusion_mm.engine.hooks import TimestepPolicyHook
from repfusion_mm.models import LearnedTimestepPolicy

NUM_TIMESTEPS = 1000
BATCH, UPDATES, LR = 64, 300, 1e-3
#: Largest regret of a run that counts as successful.
TOLERANCE = 0.05

#: Arguments of LearnedTimestepPolicy and of TimestepPolicyHook. Each rule
#: after the first two changes one property of ours.
RULES: Dict[str, Tuple[dict, dict]] = dict(
    ours=({}, {}),
    public_rule=(
        dict(logits='free', baseline='none', scale_advantage=False),
        dict(entropy_floor=0),
    ),
    plain=(dict(scale_advantage=False), dict(entropy_floor=0)),
    running_mean=(
        dict(scale_advantage=False, baseline='ema'),
        dict(entropy_floor=0),
    ),
    scaled=({}, dict(entropy_floor=0)),
    unscaled=(dict(scale_advantage=False), {}),
    floor_030=({}, dict(entropy_floor=0.03)),
    floor_100=({}, dict(entropy_floor=0.1)),
)


@dataclass
class Bandit:
    """A reward over timesteps, different from image to image.

    Attributes:
        value: Maps K timesteps and N booleans (is the image bright?) to the
            expected reward, N x K or 1 x K in [0, 1]; the best is 1.
        offset: Added to all rewards, like the log-likelihood of a decoder.
        noise: Standard deviation of the rewards.
        improvement: Rise of the offset during the run, like that of a decoder
            that learns; most of it in the first third.
        scale: Factor of the rewards.
    """

    value: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
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
        values = self.value(torch.arange(NUM_TIMESTEPS), bright)
        return level + 0.1 * pixels, values.expand(num_images, -1)

    def reward(
        self,
        value: torch.Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return noisy rewards of N values; ``progress`` is in [0, 1]."""
        deficit = self.improvement * 2.718 ** (-9 * progress)
        noise = torch.randn(len(value), generator=generator)
        return self.scale * (
            self.offset - deficit + value + self.noise * noise
        )


def peak(t: torch.Tensor, center: float, width: float = 150) -> torch.Tensor:
    """Return a Gaussian bump of height 1."""
    return torch.exp(-0.5 * ((t - center) / width) ** 2)


def plateau(t: torch.Tensor) -> torch.Tensor:
    """Return 1 from 300 to 600, and less the farther away."""
    outside = (300 - t).clamp(min=0) + (t - 600).clamp(min=0)
    return peak(outside, 0, 100)


LANDSCAPES = dict(
    one_peak=lambda t, bright: peak(t, 200)[None],
    two_peaks=lambda t, bright: torch.maximum(
        0.8 * peak(t, 200, 100), peak(t, 700, 100)
    )[None],
    plateau=lambda t, bright: plateau(t)[None],
    flat=lambda t, bright: torch.ones(1, len(t)),
    per_image=lambda t, bright: torch.where(
        bright[:, None], peak(t, 700), peak(t, 200)
    ),
)


def make_bandits() -> Dict[str, Bandit]:
    """Return each landscape near zero with little noise, and far with much.

    -5.3 is the log-likelihood of 200 classes at chance level. Errors of
    keypoints are around 0.01, hence ``one_peak_small``.
    """
    one_peak = LANDSCAPES['one_peak']
    bandits = {}
    for where, offset, noise in (('near', -2.0, 0.3), ('far', -5.3, 1.0)):
        for name, value in LANDSCAPES.items():
            bandits[f'{name}_{where}'] = Bandit(value, offset, noise)
        bandits[f'improving_{where}'] = Bandit(
            one_peak, offset, noise, improvement=3.0
        )
    bandits['one_peak_small'] = Bandit(one_peak, -2.0, 0.3, scale=0.01)
    return bandits


BANDITS = make_bandits()


def train(rule: str, bandit: Bandit, seed: int) -> Tuple[float, float]:
    """Train a policy on a bandit.

    Returns:
        Regret, and entropy as a share of the largest possible.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    policy_arguments, hook_arguments = RULES[rule]
    policy = LearnedTimestepPolicy(NUM_TIMESTEPS, **policy_arguments)
    hook = TimestepPolicyHook(**hook_arguments)
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


def summarize(results: List[Tuple[float, float]]) -> Dict[str, float]:
    """Summarize the regrets and entropies of all seeds."""
    regrets, entropies = zip(*results)
    return dict(
        within_5pct=sum(regret <= TOLERANCE for regret in regrets),
        median_regret=round(median(regrets), 4),
        max_regret=round(max(regrets), 4),
        min_entropy=round(min(entropies), 4),
    )


def make_table(bandits: dict, rules: List[str]) -> Table:
    """Return the results as a table, a row for each bandit."""
    table = Table(
        title='within 5% of the best; median and largest regret; '
        'least entropy as a share of the largest'
    )
    for column in ('bandit', *rules):
        table.add_column(column)
    for name, results in bandits.items():
        cells = [
            f'{r["within_5pct"]}/{results["seeds"]}  '
            f'{r["median_regret"]:.3f} {r["max_regret"]:.3f}  '
            f'{r["min_entropy"]:.2f}'
            for r in (results[rule] for rule in rules)
        ]
        table.add_row(name, *cells)
    return table


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--seeds', type=positive, default=20, help='number of runs of each')
    add('--bandits', nargs='+', choices=BANDITS, default=list(BANDITS))
    add('--rules', nargs='+', choices=RULES, default=['ours', 'public_rule'])
    add('--json', type=Path, metavar='OUT', help='write the results there')
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    # With tensors this small, more threads only wait for each other.
    torch.set_num_threads(1)
    with report_errors():
        bandits = {}
        for name in track(args.bandits, description='bandits'):
            bandits[name] = dict(seeds=args.seeds)
            for rule in args.rules:
                bandits[name][rule] = summarize(
                    [
                        train(rule, BANDITS[name], seed)
                        for seed in range(args.seeds)
                    ]
                )
        Console().print(make_table(bandits, args.rules))
        if args.json:
            report = json.dumps(dict(bandits=bandits), indent=2)
            args.json.write_text(report + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
