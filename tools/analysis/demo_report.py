"""What the demo shows at its end: a table, a line and a picture."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

#: The budget whose policy and probe are shown.
SHOWN_BUDGET = 50

# Okabe-Ito: told apart in print and by colour-blind readers.
ORANGE, BLUE, GREEN = '#E69F00', '#0072B2', '#009E73'


def plot(results: dict, record: dict, path: Path) -> None:
    """Draw probe, policy and accuracies.

    Args:
        results: Content of ``results.json``.
        record: The policy's distribution, a line of ``policy.jsonl``.
        path: PNG file to write.
    """
    figure = Figure(figsize=(9, 4), layout='constrained')
    left, right = figure.subfigures(1, 2)
    _plot_timesteps(left, results, record)
    _plot_labels(right.subplots(), results['labels'])
    figure.savefig(path, dpi=150)


def _plot_timesteps(figure, results: dict, record: dict) -> None:
    above, below = figure.subplots(
        2, 1, sharex=True, gridspec_kw=dict(height_ratios=[2, 1])
    )
    t = np.array([int(key) for key in results['probe']])
    above.plot(t, list(results['probe'].values()), 'o-', ms=3, color=GREEN)
    above.set(
        ylabel='linear probe accuracy',
        title='what each timestep is worth, and what the policy picks',
    )
    below.fill_between(
        record['timesteps'], record['probabilities'], color=BLUE
    )
    below.set(
        xlabel='timestep t',
        ylabel='policy\npi(t|x)',
        xlim=(0, 1000),
        ylim=(0, None),
    )
    mean = results['policy']['timestep_mean']
    for axes in (above, below):
        axes.axvline(mean, color=BLUE, ls='--', lw=1)
        axes.spines[['top', 'right']].set_visible(False)
    above.title.set_size('medium')


def _plot_labels(axes, labels: dict) -> None:
    budgets = [int(budget) for budget in labels]
    styles = dict(
        repfusion=('RepFusion', 'o-', BLUE),
        scratch=('from scratch', 's--', ORANGE),
    )
    for kind, (name, style, color) in styles.items():
        scores = np.array([labels[str(b)][kind] for b in budgets])
        axes.plot(budgets, scores.mean(1), style, color=color, label=name)
        axes.fill_between(
            budgets, scores.min(1), scores.max(1), color=color, alpha=0.25
        )
    axes.set(
        xlabel='labelled images',
        ylabel='test accuracy',
        xticks=budgets,
        title=f'ResNet-18 on digits; band: {scores.shape[1]} seeds',
    )
    axes.title.set_size('medium')
    axes.grid(axis='y', alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(loc='lower right', frameon=False)


def make_table(results: dict) -> Table:
    table = Table(title='test accuracy on 500 digits, mean (min - max)')
    for name in ('labels', 'from scratch', 'RepFusion', 'gain'):
        table.add_column(name, justify='right')
    for budget, scores in results['labels'].items():
        cells = [
            f'{np.mean(s):.3f} ({min(s):.3f} - {max(s):.3f})'
            for s in (scores['scratch'], scores['repfusion'])
        ]
        gain = np.mean(scores['repfusion']) - np.mean(scores['scratch'])
        table.add_row(budget, *cells, f'{gain:+.3f}')
    return table


def summarize(results: dict) -> str:
    """Say where the policy ended, and what the probe makes of it."""
    policy, scores = results['policy'], results['probe']
    best = max(scores, key=scores.get)
    at_mean = scores[str(round(policy['timestep_mean']))]
    return (
        f'policy with {SHOWN_BUDGET} labels: t = {policy["timestep_mean"]} '
        f'+- {policy["timestep_std"]}, linear probe there {at_mean:.3f}; '
        f'its best: {scores[best]:.3f} at t = {best}'
    )
