"""Train timestep policies where the best timestep is known.

    benchmark_policy.py --seeds 20 --json policy.json

On each bandit (see bandits.py) run this package's policy, as
LearnedTimestepPolicy and TimestepPolicyHook have it by default, and the
paper's public rule (one free logit for each timestep, no baseline, no
scaling, no floor) on the same images, noise and random numbers. Regret is the
share of the reward's range that a policy loses against the best timestep of
each image.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Dict, List, Optional, Tuple

import torch
from bandits import NUM_TIMESTEPS, Bandit, make_bandits
from rich.console import Console
from rich.progress import track
from rich.table import Table

import repfusion_mm  # noqa: F401  # heals the stack before it is imported
from repfusion_mm.engine import TimestepPolicyHook
from repfusion_mm.models import LearnedTimestepPolicy
from repfusion_mm.models.policies.learned import cosine_basis

BATCH, UPDATES, LR = 64, 300, 1e-3
#: Share of the reward's range that may be lost.
TOLERANCE = 0.05


class Rule:
    """A policy, and how it is trained.

    Args:
        floor: ``entropy_floor`` of the hook; its own by default.
        warm_up: Share of the run whose rewards do not count.
        coarse_to_fine: Whether the logits start with one cosine of t, and
            get the others one by one in the first half of the run.
        arguments: Of the policy.
    """

    def __init__(
        self,
        floor: Optional[float] = None,
        warm_up: float = 0.0,
        coarse_to_fine: bool = False,
        **arguments,
    ) -> None:
        self.hook_arguments = {} if floor is None else {'entropy_floor': floor}
        self.warm_up = warm_up
        self.coarse_to_fine = coarse_to_fine
        self.arguments = arguments

    def make(self) -> Tuple[LearnedTimestepPolicy, TimestepPolicyHook]:
        """Return the policy and the hook that steers it."""
        policy = LearnedTimestepPolicy(NUM_TIMESTEPS, **self.arguments)
        return policy, TimestepPolicyHook(**self.hook_arguments)

    def refine(self, policy: LearnedTimestepPolicy, progress: float) -> None:
        """Let as many cosines through as ``progress`` allows."""
        if self.coarse_to_fine:
            full = cosine_basis(*policy.basis.shape)
            share = torch.arange(len(full)) / len(full)
            policy.basis = full * (share <= 2 * progress)[:, None]


#: The first two, and what ours owes to what, or was tried and left out.
RULES = dict(
    ours=Rule(),
    public_rule=Rule(
        floor=0, logits='free', baseline='none', scale_advantage=False
    ),
    plain=Rule(floor=0, scale_advantage=False),
    running_mean=Rule(floor=0, scale_advantage=False, baseline='ema'),
    scaled=Rule(floor=0),
    unscaled=Rule(scale_advantage=False),
    floor_030=Rule(floor=0.03),
    floor_100=Rule(floor=0.1),
    coarse_grid=Rule(low=25, stride=50),
    coarse_to_fine=Rule(coarse_to_fine=True),
    warm_up=Rule(warm_up=0.2),
)


def train(rule: Rule, bandit: Bandit, seed: int) -> Tuple[float, float]:
    """Train a policy on a bandit.

    Returns:
        Regret, and entropy as a share of the largest.
    """
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    policy, hook = rule.make()
    initial = policy.entropy_weight
    optimizer = torch.optim.Adam(policy.parameters(), lr=LR)
    for update in range(UPDATES):
        progress = update / UPDATES
        policy.entropy_weight = hook.entropy_weight(initial, progress)
        rule.refine(policy, progress)
        images, values = bandit.scene(BATCH, draws)
        pi = policy(images)
        # The same random numbers serve all rules.
        uniform = torch.rand(BATCH, 1, generator=draws)
        actions = torch.searchsorted(pi.probs.detach().cumsum(1), uniform)
        actions = actions.clamp(max=len(policy.timesteps) - 1)[:, 0]
        chosen = policy.timesteps[actions][:, None]
        reward = bandit.reward(values.gather(1, chosen)[:, 0], progress, draws)
        counts = torch.full((BATCH,), progress >= rule.warm_up)
        losses = policy.loss(pi, actions, reward, counts)
        optimizer.zero_grad()
        losses['loss_policy'].backward()
        optimizer.step()
    images, values = bandit.scene(256, draws)
    with torch.no_grad():
        pi = policy(images)
    values = values[:, policy.timesteps]
    regret = 1 - (pi.probs * values).sum(1).mean().item()
    largest = torch.tensor(float(len(policy.timesteps))).log().item()
    return regret, pi.entropy().mean().item() / largest


def summarize(results: List[Tuple[float, float]]) -> Dict[str, float]:
    """Put the regrets and entropies of all seeds in a few numbers."""
    regrets, entropies = zip(*results)
    return dict(
        within_5pct=sum(regret <= TOLERANCE for regret in regrets),
        median_regret=round(median(regrets), 4),
        max_regret=round(max(regrets), 4),
        min_entropy=round(min(entropies), 4),
    )


def run(seeds: int, bandits: List[Bandit], rules: List[str]) -> dict:
    """Train by each rule on each bandit."""
    report = {}
    for bandit in track(bandits, description='bandits'):
        report[bandit.name] = dict(
            {
                name: summarize(
                    [train(RULES[name], bandit, seed) for seed in range(seeds)]
                )
                for name in rules
            },
            seeds=seeds,
        )
    return dict(bandits=report)


def make_table(report: dict) -> Table:
    table = Table(
        title='within 5% of the best; regret, median and largest; '
        'least entropy as a share of the largest'
    )
    rules = [r for r in RULES if r in next(iter(report['bandits'].values()))]
    for column in ('bandit', *rules):
        table.add_column(column)
    for name, results in report['bandits'].items():
        cells = [
            f'{r["within_5pct"]}/{results["seeds"]}  '
            f'{r["median_regret"]:.3f} {r["max_regret"]:.3f}  '
            f'{r["min_entropy"]:.2f}'
            for r in (results[rule] for rule in rules)
        ]
        table.add_row(name, *cells)
    return table


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--seeds', type=int, default=20)
    parser.add_argument('--bandits', nargs='+', help='some of them alone')
    parser.add_argument(
        '--rules', nargs='+', choices=RULES, default=['ours', 'public_rule']
    )
    parser.add_argument('--json', type=Path, help='file to write')
    args = parser.parse_args(argv)
    bandits = {bandit.name: bandit for bandit in make_bandits()}
    unknown = sorted(set(args.bandits or ()) - set(bandits))
    if unknown or args.seeds < 1:
        parser.error(
            f'expected --seeds of at least 1 and --bandits of '
            f'{list(bandits)}, got {args.seeds} and {unknown}'
        )
    # Small tensors: more threads would only wait for each other.
    torch.set_num_threads(1)
    names = args.bandits or list(bandits)
    report = run(args.seeds, [bandits[name] for name in names], args.rules)
    Console().print(make_table(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
    main()
