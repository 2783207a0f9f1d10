"""What is written of a policy during a run, read again and drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

FILENAME = 'policy.jsonl'
#: Of the heat map.
MOST_ROWS = 100
# Okabe-Ito: told apart in print and by colour-blind readers.
ORANGE, BLUE, GREEN = '#E69F00', '#0072B2', '#009E73'
#: Statistics that are drawn below the heat map, with their units.
PANELS = dict(
    reward=('reward\n(minus loss)', BLUE),
    entropy=('entropy\n(nats)', GREEN),
    advantage_std=('advantage\n(std)', ORANGE),
)


def read_records(work_dir: str) -> List[dict]:
    """Read the records of a run, and of those that it was resumed from.

    Args:
        work_dir: The run's work directory, or one of its log directories.

    Returns:
        Records by iteration. Where a later run began again, those of the
        earlier ones end.

    Raises:
        FileNotFoundError: There are none.
        ValueError: There are others than TimestepPolicyHook writes.
    """
    folder = Path(work_dir)
    paths = [folder / FILENAME, *sorted(folder.glob(f'*/{FILENAME}'))]
    records: List[dict] = []
    for path in filter(Path.exists, paths):
        newer = read_lines(path, ('iter', 'timesteps', 'probabilities'))
        for record in newer:
            _check(record, path)
        begin = newer[0]['iter'] if newer else float('inf')
        records = [r for r in records if r['iter'] < begin] + newer
    if not records:
        raise FileNotFoundError(
            f'expected {FILENAME} in {str(work_dir)!r} or in its log '
            'directories, got none; give the work directory of a '
            'distillation with TimestepPolicyHook'
        )
    lengths = {len(record['timesteps']) for record in records}
    if len(lengths) > 1:
        raise ValueError(
            f'expected the records of one policy in {str(work_dir)!r}, got '
            f'some of {sorted(lengths)} timesteps; it is no log of a run'
        )
    return records


def read_lines(path: Path, keys: Sequence[str]) -> List[dict]:
    """Read a file of one JSON object a line.

    A last line that was cut short, as by a run that was killed, is left out.

    Args:
        path: The file.
        keys: What every object has.

    Raises:
        ValueError: Another line is not JSON, or lacks a key.
    """
    lines = path.read_bytes().splitlines()
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if number < len(lines) or line.endswith(b'}'):
                raise ValueError(
                    f'expected JSON in line {number} of {path}, got: {error}'
                ) from error
            continue
        entry = entries[-1]
        if not isinstance(entry, dict) or not entry.keys() >= set(keys):
            raise ValueError(
                f'expected {", ".join(keys)} in line {number} of {path}, got '
                f'{line[:80]!r}; it is no log of a run'
            )
    return entries


def _check(record: dict, path: Path) -> None:
    try:
        sizes = [
            np.array(record[name], dtype=float).shape
            for name in ('timesteps', 'probabilities')
        ]
        fits = isinstance(record['iter'], int) and sizes[0] == sizes[1]
        fits = fits and len(sizes[0]) == 1 and sizes[0] > (0,)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            'expected a number as iter, and a list of timesteps and one of '
            f'as many probabilities in each line of {path}, got others at '
            f'iter {record["iter"]!r:.80}; it is no log of a run'
        )


def moments(record: dict) -> Tuple[float, float]:
    """Return mean and standard deviation of the timestep in a record."""
    t, p = np.array(record['timesteps']), np.array(record['probabilities'])
    p = p / p.sum()
    mean = float((t * p).sum())
    std = float(np.sqrt(((t - mean) ** 2 * p).sum()))
    return round(mean, 1), round(std, 1)


def draw_records(
    records: List[dict], probe: Optional[Dict[int, float]] = None
) -> np.ndarray:
    """Draw the distribution over timesteps as it changed.

    See :func:`plot_records` for the arguments.

    Returns:
        H x W x 3 uint8 RGB image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(plot_records(records, probe))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def plot_records(
    records: List[dict],
    probe: Optional[Dict[int, float]] = None,
    probe_label: str = 'linear probe',
):
    """Return a matplotlib figure of the distribution over timesteps.

    Args:
        records: Of one run, by iteration.
        probe: What each timestep is worth to a linear probe, drawn beside it.
        probe_label: What was probed.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = [name for name in PANELS if name in records[-1]]
    figure = Figure(figsize=(7, 4 + 1.1 * len(panels)), layout='constrained')
    columns = [4, 1] if probe else [1]
    grid = figure.add_gridspec(
        1 + len(panels), len(columns), width_ratios=columns,
        height_ratios=[3] + [1] * len(panels),
    )  # fmt: skip
    heat = figure.add_subplot(grid[0, 0])
    _draw_heat(figure, heat, records)
    if probe:
        axes = figure.add_subplot(grid[0, 1], sharey=heat)
        _draw_probe(axes, probe, probe_label)
    iterations = [record['iter'] for record in records]
    axes = heat
    for row, name in enumerate(panels, 1):
        axes.tick_params(labelbottom=False)
        axes = figure.add_subplot(grid[row, 0], sharex=heat)
        label, color = PANELS[name]
        values = [record.get(name, np.nan) for record in records]
        axes.plot(iterations, values, 'o-', ms=3, color=color)
        if name == 'entropy' and len(records[-1]['timesteps']) > 1:
            largest = np.log(len(records[-1]['timesteps']))
            axes.axhline(largest, color='0.5', ls='--', lw=1)
            axes.set_ylim(0, 1.05 * largest)
        axes.set_ylabel(label)
        axes.spines[['top', 'right']].set_visible(False)
    axes.set_xlabel('iteration')
    axes.xaxis.set_major_locator(MaxNLocator('auto', integer=True))
    return figure


def _draw_heat(figure, axes, records: List[dict]) -> None:
    timesteps = np.array(records[-1]['timesteps'], dtype=float)
    probs = np.array([record['probabilities'] for record in records])
    # As multiples of the uniform distribution, whatever the grid; in rows
    # that are high enough to be seen.
    shares = _in_rows((probs * len(timesteps)).T)
    iterations = np.array([record['iter'] for record in records], dtype=float)
    mesh = axes.pcolormesh(
        _edges(iterations), _edges(_in_rows(timesteps)), shares,
        cmap='viridis', vmin=0, rasterized=True,
    )  # fmt: skip
    axes.plot(
        iterations, probs @ timesteps, color='white', lw=1, ls='--', alpha=0.6
    )
    axes.set(
        ylabel='timestep t',
        title='pi(t|x), mean over a batch (dashed: its mean t)',
    )
    axes.title.set_size('medium')
    figure.colorbar(mesh, ax=axes, label='times uniform', pad=0.01)


def _draw_probe(axes, probe: Dict[int, float], label: str) -> None:
    timesteps = sorted(probe)
    axes.plot([probe[t] for t in timesteps], timesteps, 'o-', ms=3,
              color=ORANGE)  # fmt: skip
    ends = [min(probe.values()), max(probe.values())]
    axes.set_xticks(ends, [f'{value:.2f}' for value in ends])
    axes.set_xlabel(label, size='small')
    axes.tick_params(labelleft=False)
    axes.spines[['top', 'right']].set_visible(False)


def _in_rows(values: np.ndarray) -> np.ndarray:
    """Return the means of neighbours, of which at most 100 are left."""
    size = -(-len(values) // MOST_ROWS)
    starts = np.arange(0, len(values), size)
    sums = np.add.reduceat(values, starts, axis=0)
    counts = np.diff([*starts, len(values)])
    return (sums.T / counts).T


def _edges(centres: np.ndarray) -> np.ndarray:
    """Return the edges of cells around their centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middles = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    return np.concatenate([[first], middles, [last]])
