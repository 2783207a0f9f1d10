"""The figures of benchmark_distill.py, for a reader."""

from typing import Callable

from rich.console import Console
from rich.table import Table


def print_report(result: dict) -> None:
    """Print the figures as tables."""
    console = Console(width=100, highlight=False)
    show = console.print
    weights = 'its own weights'
    if result['random_teacher']:
        weights = 'RANDOM weights of the true architecture'
    where = result.get('gpu') or f'CPU, {result["threads"]} threads'
    show(f'{result["config"]}, {result["batch"]} images a step')
    show(f'{where}, torch {result["torch"]}')
    show(f'teacher: {weights}, {result["teacher_dtype"]}')
    show(f'images: {result["data"]}')
    _show_steps(show, result)
    _show_parts(show, result)
    for key in ('reference_over_ours', 'ours_over_floor'):
        if key in result:
            show(f'{key}: {result[key]:.2f}')
    for name, error in result['feature_error'].items():
        show(
            f'{name}: features {error["maps"]:.1e} from float32, relative to '
            f'their norm; pooled {error["pooled"]:.1e}'
        )
    for name, memory in result['memory'].items():
        show(
            f'memory of {name}: {memory["model"]:.0f} MB before the first '
            f'step, {memory["peak"]:.0f} MB at most'
        )
    if 'growth' in result:
        found = result['growth']
        show(
            f'memory after {found["steps"]} steps: {found["grown"]:+.1f} MB '
            'since a fifth of them'
        )
    if 'batches' in result:
        _show_batches(show, result['batches'])
    if 'student_difference' in result:
        found = result['student_difference']
        show(
            f'our student after {found["steps"]} steps in float32 has moved '
            f'by {found["moved"]:.1e} of its norm; from the public '
            "algorithm's, on the same draws, it is "
            f'{found["channels innermost"]:.1e} away in the same memory '
            f'format, and {found["channels outermost"]:.1e} in the other'
        )
    if 'runner' in result:
        found = result['runner']
        show(
            f"mmengine's loop: {found['loop']:.1f} ms an iteration, of which "
            f'the step {found["step"]:.1f}: {found["overhead"]:.1%} more'
        )


def _show_steps(show: Callable, result: dict) -> None:
    table = Table(title='in turn, in one run', title_justify='left')
    table.add_column('step')
    for name in ('ms', 'least', 'largest', 'images/s', 'reference/this'):
        table.add_column(name, justify='right')
    for name, step in result['steps'].items():
        ratio = step.get('reference_over')
        table.add_row(
            name + (' (FAILED, not compiled)' * ('not_compiled' in step)),
            *(f'{step[k]:.1f}' for k in ('median', 'least', 'largest')),
            f'{step["images_per_second"]:.1f}',
            '{:.2f} ({:.2f} - {:.2f})'.format(*ratio) if ratio else '',
        )
    show(table)


def _show_parts(show: Callable, result: dict) -> None:
    table = Table(title='our step by part', title_justify='left')
    for name in ('part', 'ms', 'share'):
        table.add_column(name, justify='left' if name == 'part' else 'right')
    whole = result['parts']['all']['median']
    for name, part in result['parts'].items():
        share = f'{part["median"] / whole:.1%}'
        table.add_row(name, f'{part["median"]:.1f}', share)
    show(table)
    found = result['arithmetic']
    rates = ', '.join(
        f'{rate / 1e9:.0f} GFLOP/s in {kind}'
        for kind, rate in found['flop_per_second'].items()
    )
    flops = ', '.join(
        f'{name} {flop / 1e9:.1f}' for name, flop in found['step_flop'].items()
    )
    step = result['steps']['ours']['median'] / 1e3
    show(
        f'GFLOP a step: {flops}, of which the teacher in ours '
        f'{found["teacher_flop"] / 1e9:.1f}\n'
        f'square matrix products here: {rates}; at these rates our step '
        f'would take {1e3 * found["seconds_at_these_rates"]:.1f} ms, '
        f'{found["seconds_at_these_rates"] / step:.0%} of its time (a rate of '
        'large products, not a bound: convolutions may be faster)'
    )


def _show_batches(show: Callable, batches: list) -> None:
    table = Table(title='ours by batch size', title_justify='left')
    for name in ('images', 'ms', 'images/s', 'memory (MB)', 'MB an image'):
        table.add_column(name, justify='right')
    for row in batches:
        memory = row['memory']['peak']
        table.add_row(
            str(row['batch']),
            f'{row["median"]:.1f}',
            f'{1e3 * row["batch"] / row["median"]:.1f}',
            f'{memory:.0f}',
            f'{memory / row["batch"]:.1f}',
        )
    show(table)
