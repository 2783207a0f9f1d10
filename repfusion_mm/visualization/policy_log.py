"""Read and draw what TimestepPolicyHook records of a policy."""

from __future__ import annotations

import json
import math
import textwrap
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    Iterable,
    List,
    Optional,
    Tuple,
)

import numpy as np

from repfusion_mm.visualization.palette import BLUE, GREEN, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILENAME = 'policy.jsonl'
REMEDY = 'remove the file, or give the work directory of another run'
#: Rows of the heat map.
MAX_ROWS = 100
#: Statistics below the heat map, with axis label and color.
PANELS = dict(
    reward=('reward\n(minus loss)', BLUE),
    entropy=('entropy\n(nats)', GREEN),
    advantage_std=('advantage\n(std)', ORANGE),
)


def read_records(work_dir: str) -> List[dict]:
    """Read the records of a run and of the runs that it resumed.

    Args:
        work_dir: The run's work directory, or one of its log directories.

    Raises:
        FileNotFoundError: There are no records.
        ValueError: A file holds anything else than TimestepPolicyHook writes.
    """
    folder = Path(work_dir)
    paths = [folder / FILENAME, *sorted(folder.glob(f'*/{FILENAME}'))]
    records = read_logs(paths, 'iter', 'timesteps', 'probabilities')
    if not records:
        raise FileNotFoundError(
            f'expected {FILENAME} in {str(work_dir)!r} or in its log '
            'directories, got none; give the work directory of a '
            'distillation with TimestepPolicyHook'
        )
    for record in records:
        try:
            pair = record['timesteps'], record['probabilities']
            array = np.array(pair, dtype=float)
        except (TypeError, ValueError):
            array = np.array([])
        if array.ndim != 2 or not array.size:
            raise ValueError(
                'expected one probability for each of the timesteps in '
                f'{FILENAME} in {work_dir}, got something else at iter '
                f'{record["iter"]}; {REMEDY}'
            )
    lengths = {len(record['timesteps']) for record in records}
    if len(lengths) > 1:
        raise ValueError(
            f'expected the records of one policy in {str(work_dir)!r}, got '
            f'records with {sorted(lengths)} timesteps; give the work '
            'directory of one distillation'
        )
    return records


def read_logs(
    paths: Iterable[Path],
    counter: str,
    *keys: str,
    is_validation: Callable[[dict], bool] = lambda entry: False,
) -> List[dict]:
    """Read the logs of all starts of a run, with one JSON object per line.

    Objects of a start replace those of earlier starts after the iteration
    ``start`` of its first object, 0 if the run did not resume. Without this
    key, they replace those from its first iteration on, and all if this
    iteration is at most the difference to the second. Files that do not exist
    are skipped, and so is a truncated last line, which a killed run leaves
    behind. ``counter`` is the key of the iteration; the other keys are
    required too. Validations, which may be counted in epochs, replace those
    from the first one on, and all if the others do.

    Raises:
        ValueError: Another line is not JSON, or lacks a key.
    """
    entries: List[dict] = []
    for path in filter(Path.exists, paths):
        newer = []
        lines = path.read_bytes().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                if number == len(lines) and not line.endswith(b'}'):
                    break
                raise ValueError(
                    f'expected JSON in line {number} of {path}, got: {error}'
                ) from error
            if not (
                isinstance(entry, dict)
                and entry.keys() >= {counter, *keys}
                and isinstance(entry[counter], int)
            ):
                names = ', '.join((f'an integer {counter}', *keys))
                raise ValueError(
                    f'expected {names} in line {number} of {path}, got '
                    f'{line[:80]!r}; {REMEDY}'
                )
            newer.append(entry)
        trained = [e for e in newer if not is_validation(e)]
        scored = [e for e in newer if is_validation(e)]
        begins = {False: math.inf, True: math.inf}
        if scored:
            begins[True] = scored[0][counter]
        if trained:
            begins[False] = _find_begin(trained, counter)
            if begins[False] == 0:  # a new run
                begins[True] = 0
        entries = [
            e for e in entries if e[counter] < begins[is_validation(e)]
        ] + newer
    return entries


def _find_begin(newer: List[dict], counter: str) -> int:
    """Return the first iteration of a start, 0 if it did not resume."""
    begin, start = newer[0][counter], newer[0].get('start')
    if isinstance(start, int):
        return start + 1
    if len(newer) > 1 and begin <= newer[1][counter] - begin:
        return 0
    return begin


def moments(record: dict) -> Tuple[float, float]:
    """Return mean and standard deviation of the timestep in a record."""
    t, p = np.array(record['timesteps']), record['probabilities']
    mean = np.average(t, weights=p)
    variance = np.average((t - mean) ** 2, weights=p)
    return round(float(mean), 1), round(float(variance**0.5), 1)


def draw_records(
    records: List[dict], probe: Optional[Dict[int, float]] = None
) -> np.ndarray:
    """Return the figure of a policy as an H x W x 3 uint8 RGB image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(plot_records(records, probe))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def plot_records(
    records: List[dict],
    probe: Optional[Dict[int, float]] = None,
    probe_label: str = 'linear probe',
) -> Figure:
    """Return a figure of how the distribution over timesteps changed.

    The scores of a linear probe at each timestep are drawn next to it.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = [i for i in PANELS if any(i in record for record in records)]
    figure = Figure(figsize=(7, 4 + 1.1 * len(panels)), layout='constrained')
    columns = [4, 1] if probe else [1]
    grid = figure.add_gridspec(
        1 + len(panels), len(columns), width_ratios=columns,
        height_ratios=[3] + [1] * len(panels),
    )  # fmt: skip
    heat = axes = figure.add_subplot(grid[0, 0])
    _draw_heat_map(figure, heat, records)
    if probe:
        side = figure.add_subplot(grid[0, 1], sharey=heat)
        _draw_probe(side, probe, probe_label)
    iterations = [record['iter'] for record in records]
    for row, name in enumerate(panels, 1):
        axes.tick_params(labelbottom=False)
        axes = figure.add_subplot(grid[row, 0], sharex=heat)
        label, color = PANELS[name]
        values = [record.get(name, np.nan) for record in records]
        axes.plot(iterations, values, 'o-', ms=3, color=color)
        if name == 'entropy' and len(records[-1]['timesteps']) > 1:
            maximum = np.log(len(records[-1]['timesteps']))
            axes.axhline(maximum, color='0.5', ls='--', lw=1)
            axes.set_ylim(0, 1.05 * maximum)
        axes.set_ylabel(label)
        axes.spines[['top', 'right']].set_visible(False)
    axes.set_xlabel('iteration')
    axes.xaxis.set_major_locator(MaxNLocator('auto', integer=True))
    return figure


def _draw_heat_map(figure: Figure, axes: Axes, records: List[dict]) -> None:
    timesteps = np.array(records[-1]['timesteps'], dtype=float)
    probs = np.array([record['probabilities'] for record in records])
    # Multiples of the uniform distribution do not depend on the number of
    # timesteps; fewer rows keep each of them visible.
    ratios = _average_rows(probs.T * len(timesteps))
    iterations = np.array([record['iter'] for record in records], dtype=float)
    mesh = axes.pcolormesh(
        _edges(iterations), _edges(_average_rows(timesteps)), ratios,
        cmap='viridis', vmin=0, rasterized=True,
    )  # fmt: skip
    axes.plot(
        iterations, probs @ timesteps, color='white', lw=1, ls='--', alpha=0.6
    )
    title = 'policy pi(t|x), mean over a batch (dashed: mean t)'
    axes.set_title(title, size='medium')
    axes.set_ylabel('timestep t')
    figure.colorbar(mesh, ax=axes, label='relative to uniform', pad=0.01)


def _draw_probe(axes: Axes, probe: Dict[int, float], label: str) -> None:
    timesteps = sorted(probe)
    scores = [probe[t] for t in timesteps]
    axes.plot(scores, timesteps, 'o-', ms=3, color=ORANGE)
    ends = [min(scores), max(scores)]
    axes.set_xticks(ends, [f'{value:.2g}' for value in ends])
    # Lines that fit the narrow axes, broken after points in names of layers,
    # in the space below, for which the layout need not shrink the heat map.
    parts = [
        textwrap.fill(line.replace('.', '. '), 18).replace('. ', '.')
        for line in label.splitlines()
    ]
    axes.annotate(
        '\n'.join(parts), (0, 0), (0, -20), 'axes fraction', 'offset points',
        va='top', size='small', annotation_clip=False,
    ).set_in_layout(False)  # fmt: skip
    axes.tick_params(labelleft=False)
    axes.spines[['top', 'right']].set_visible(False)


def _average_rows(values: np.ndarray) -> np.ndarray:
    """Average neighboring rows so that at most ``MAX_ROWS`` remain."""
    parts = np.array_split(values, min(len(values), MAX_ROWS))
    return np.array([part.mean(axis=0) for part in parts])


def _edges(centers: np.ndarray) -> np.ndarray:
    """Return the edges of cells around their centers."""
    if len(centers) == 1:
        return centers[0] + np.array([-0.5, 0.5])
    padded = np.pad(centers, 1, mode='reflect', reflect_type='odd')
    return (padded[1:] + padded[:-1]) / 2
