import numpy as np
import pytest

from repfusion_mm.visualization.policy_log import (
    draw_records,
    moments,
    read_records,
)
from tests.helpers.report_files import policy_record, write_lines


def record(iteration, mode, **statistics):
    return policy_record(iteration, mode, width=50, step=10, **statistics)


def write(folder, records):
    write_lines(folder / 'policy.jsonl', records)
    return folder / 'policy.jsonl'


def test_a_resumed_run_replaces_later_records(tmp_path):
    write(tmp_path / '1', [record(i, 100) for i in (2, 4, 6, 8)])
    write(tmp_path / '2', [record(i, 700) for i in (6, 8, 10)])
    records = read_records(str(tmp_path))
    assert [r['iter'] for r in records] == [2, 4, 6, 8, 10]
    modes = [10 * int(np.argmax(r['probabilities'])) for r in records]
    assert modes == [100, 100, 700, 700, 700]


def test_a_restarted_run_replaces_a_longer_one(tmp_path):
    write(tmp_path / '1', [record(i, 100) for i in (2, 4, 6, 8)])
    write(tmp_path / '2', [record(i, 700) for i in (2, 4)])
    assert [r['iter'] for r in read_records(str(tmp_path))] == [2, 4]


def test_a_restarted_run_is_known_from_its_first_record(tmp_path):
    """Also with another number of timesteps."""
    older = [policy_record(i, step=250) for i in (50, 100, 150, 200)]
    write(tmp_path / '1', older)
    write(tmp_path / '2', [policy_record(500, step=100, start=0)])
    (entry,) = read_records(str(tmp_path))
    assert entry['iter'] == 500 and len(entry['timesteps']) == 10


def test_a_resumed_run_replaces_what_follows_its_checkpoint(tmp_path):
    write(tmp_path / '1', [record(i, 100, start=0) for i in (2, 4, 6, 8)])
    write(tmp_path / '2', [record(i, 700, start=4) for i in (8, 12)])
    records = read_records(str(tmp_path))
    assert [r['iter'] for r in records] == [2, 4, 8, 12]


def test_a_truncated_last_line_is_ignored(tmp_path):
    path = write(tmp_path / '1', [record(2, 100), record(4, 100)])
    path.write_text(path.read_text()[:-30])
    assert [r['iter'] for r in read_records(str(tmp_path))] == [2]


def test_a_broken_line_is_named(tmp_path):
    path = write(tmp_path / '1', [record(2, 100)])
    path.write_text('garbage\n' + path.read_text())
    with pytest.raises(ValueError, match=r'line 1 of .*policy\.jsonl'):
        read_records(str(tmp_path))


def test_records_with_iterations_of_different_types_are_refused(tmp_path):
    write(tmp_path / '1', [record(2, 100)])
    write(tmp_path / '2', [record('2', 100)])
    message = f'expected an integer iter.* in line 1 of {tmp_path}'
    with pytest.raises(ValueError, match=message):
        read_records(str(tmp_path))


def test_runs_in_subfolders_are_not_mixed_in(tmp_path):
    write(tmp_path / '1', [record(2, 100)])
    write(tmp_path / 'other' / '1', [record(4, 700)])
    assert [r['iter'] for r in read_records(str(tmp_path))] == [2]
    assert [r['iter'] for r in read_records(str(tmp_path / '1'))] == [2]


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'expected policy\.jsonl in'):
        read_records(str(tmp_path))


def test_moments_are_those_of_the_distribution():
    entry = dict(timesteps=[0, 10], probabilities=[0.25, 0.75])
    assert moments(entry) == (7.5, 4.3)


def test_a_single_timestep_is_visible():
    """One row of a thousand would be less than a pixel high."""
    probs = np.zeros(1000)
    probs[300] = 1
    entry = dict(timesteps=list(range(1000)), probabilities=probs.tolist())
    image = draw_records([dict(entry, iter=i) for i in range(5)])
    yellow = (image[..., :2] > 150).all(-1) & (image[..., 2] < 120)
    # Left of the color bar.
    assert yellow[:, : int(0.7 * image.shape[1])].sum() > 200


@pytest.mark.parametrize(
    ('count', 'probe'), [(5, None), (1, {0: 0.4, 200: 0.8, 999: 0.5})]
)
def test_the_heat_map_shows_the_distribution(count, probe):
    statistics = dict(reward=-1.0, entropy=4.0, advantage_std=0.1)
    low, high = (
        draw_records([record(i, t, **statistics) for i in range(count)], probe)
        for t in (200, 800)
    )
    assert low.shape == high.shape
    assert low.dtype == np.uint8
    differs = (low != high).any(-1)
    # Only the heat map changes; it is the upper part of the image.
    rows = np.flatnonzero(differs.any(1)) / len(low)
    assert 0 < rows.min() < rows.max() < 0.6
    # The last batch may have had no label, and so no reward.
    last = dict(record(count, 200, entropy=4.0, advantage_std=0.1))
    image = draw_records(
        [record(i, 200, **statistics) for i in range(count)] + [last], probe
    )
    assert len(image) == len(low)
    without_panels = draw_records(
        [record(i, 200) for i in range(count)], probe
    )
    assert len(without_panels) < len(low)
