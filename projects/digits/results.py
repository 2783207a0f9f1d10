"""Results of the demo as text and as a figure."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from repfusion_mm.visualization.palette import BLUE, GREEN, ORANGE

#: The number of labels whose policy is shown.
SHOWN_BUDGET = 50


def plot_results(results: dict, record: dict, path: Path) -> None:
    """Draw probe and policy over timesteps, and accuracy over labels.

    Args:
        results: Content of ``results.json``.
        record: Last record of ``policy.jsonl``.
        path: PNG file to write.
    """
    figure = Figure(figsize=(9, 4), layout='constrained')
    left, right = figure.subfigures(1, 2)
    _plot_timesteps(left, results, record)
    _plot_accuracies(right.subplots(), results['labels'])
    for axes in figure.axes:
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=150)


def _plot_timesteps(figure, results: dict, record: dict) -> None:
    probe, policy = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    timesteps = [int(t) for t in results['probe']]
    probe.errorbar(
        timesteps,
        [point['r2'] for point in results['probe'].values()],
        [point['r2_error'] for point in results['probe'].values()],
        fmt='o-', ms=3, lw=1, color=GREEN,
    )  # fmt: skip
    probe.set_ylabel('linear probe: R²')
    probe.set_title('probe of the same labels, and policy', size='medium')
    policy.fill_between(
        record['timesteps'], record['probabilities'], color=BLUE
    )
    policy.set(xlabel='timestep t', ylabel='policy\npi(t|x)')
    policy.set(xlim=(0, 1000), ylim=(0, None))
    for axes in (probe, policy):
        mean = results['policy']['timestep_mean']
        axes.axvline(mean, color=BLUE, ls='--', lw=1)


def _plot_accuracies(axes, labels: dict) -> None:
    budgets = [int(budget) for budget in labels]
    for kind, name, style, color in (
        ('repfusion', 'RepFusion', 'o-', BLUE),
        ('scratch', 'from scratch', 's--', ORANGE),
    ):
        scores = np.array([by_kind[kind] for by_kind in labels.values()])
        axes.plot(budgets, scores.mean(1), style, color=color, label=name)
        low, high = scores.min(1), scores.max(1)
        axes.fill_between(budgets, low, high, color=color, alpha=0.25)
    axes.set(xlabel='labeled images', ylabel='test accuracy', xticks=budgets)
    title = f'ResNet-18 on digits; band: {scores.shape[1]} seeds'
    axes.set_title(title, size='medium')
    axes.grid(axis='y', alpha=0.3)
    axes.legend(loc='lower right', frameon=False)


def format_results(results: dict) -> str:
    """Return the accuracies as a table, and where the policy ended."""
    lines = [
        'test accuracy on 500 digits, mean (min - max); pixels: logistic '
        'regression',
        'labels  pixels           from scratch              RepFusion    gain',
    ]
    for budget, scores in results['labels'].items():
        scratch, ours = scores['scratch'], scores['repfusion']
        cells = [
            f'{np.mean(s):.3f} ({min(s):.3f} - {max(s):.3f})'
            for s in (scratch, ours)
        ]
        gain = np.mean(ours) - np.mean(scratch)
        pixels = f'{results["pixels"][budget]:6.3f}'
        lines.append(
            f'{budget:>6}  {pixels}  {cells[0]}  {cells[1]}  {gain:+.3f}'
        )
    policy, probe = results['policy'], results['probe']
    best = max(probe, key=lambda t: probe[t]['r2'])
    at_mean = probe[str(round(policy['timestep_mean']))]
    lines.append(
        f'policy with {SHOWN_BUDGET} labels: t = {policy["timestep_mean"]} '
        f'+- {policy["timestep_std"]}, R² of the linear probe there '
        f'{at_mean["r2"]:.3f}; best: {probe[best]["r2"]:.3f} at t = {best}'
    )
    return '\n'.join(lines)
