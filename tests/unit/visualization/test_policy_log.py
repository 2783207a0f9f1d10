import json

import numpy as np
import pytest

from repfusion_mm.visualization.policy_log import draw_records, read_records


def record(iteration, peak, **statistics):
    timesteps = np.arange(0, 1000, 10)
    probs = np.exp(-0.5 * ((timesteps - peak) / 50) ** 2)
    return dict(
        iter=iteration,
        timesteps=timesteps.tolist(),
        probabilities=(probs / probs.sum()).tolist(),
        **statistics,
    )


def write(folder, records):
    folder.mkdir()
    lines = [json.dumps(entry) + '\n' for entry in records]
    (folder / 'policy.jsonl').write_text(''.join(lines))


def test_records_of_a_resumed_run_follow_each_other(tmp_path):
    write(tmp_path / '1', [record(i, 100) for i in (2, 4, 6, 8)])
    write(tmp_path / '2', [record(i, 700) for i in (6, 8, 10)])
    records = read_records(str(tmp_path))
    assert [r['iter'] for r in records] == [2, 4, 6, 8, 10]
    peaks = [10 * int(np.argmax(r['probabilities'])) for r in records]
    assert peaks == [100, 100, 700, 700, 700]


def test_a_run_that_began_again_hides_a_longer_one(tmp_path):
    write(tmp_path / '1', [record(i, 100) for i in (2, 4, 6, 8)])
    write(tmp_path / '2', [record(i, 700) for i in (2, 4)])
    assert [r['iter'] for r in read_records(str(tmp_path))] == [2, 4]


def test_a_line_that_was_cut_short_is_passed_over(tmp_path):
    write(tmp_path / '1', [record(2, 100), record(4, 100)])
    path = tmp_path / '1' / 'policy.jsonl'
    path.write_text(path.read_text()[:-30])
    assert [r['iter'] for r in read_records(str(tmp_path))] == [2]


def test_a_broken_line_is_named(tmp_path):
    write(tmp_path / '1', [record(2, 100)])
    path = tmp_path / '1' / 'policy.jsonl'
    path.write_text('garbage\n' + path.read_text())
    with pytest.raises(ValueError, match=r'line 1 of .*policy\.jsonl'):
        read_records(str(tmp_path))


def test_runs_below_others_are_not_mixed(tmp_path):
    write(tmp_path / '1', [record(2, 100)])
    (tmp_path / 'other').mkdir()
    write(tmp_path / 'other' / '1', [record(4, 700)])
    assert [r['iter'] for r in read_records(str(tmp_path))] == [2]
    assert [r['iter'] for r in read_records(str(tmp_path / '1'))] == [2]


def test_a_policy_on_one_timestep_is_seen():
    """One of a thousand is less than a pixel high."""
    probs = np.zeros(1000)
    probs[300] = 1
    entry = dict(timesteps=list(range(1000)), probabilities=probs.tolist())
    image = draw_records([dict(entry, iter=i) for i in range(5)])
    yellow = (image[..., :2] > 150).all(-1) & (image[..., 2] < 120)
    # Left of the colour bar.
    assert yellow[:, : int(0.7 * image.shape[1])].sum() > 200


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'expected policy\.jsonl in'):
        read_records(str(tmp_path))


@pytest.mark.parametrize('probe', [None, {0: 0.4, 200: 0.8, 999: 0.5}])
@pytest.mark.parametrize('count', [1, 5])
def test_the_picture_shows_where_the_policy_is(count, probe):
    """A bright band; more of it above, where t is large."""
    statistics = dict(reward=-1.0, entropy=4.0, advantage_std=0.1)
    low, high = (
        draw_records([record(i, t, **statistics) for i in range(count)], probe)
        for t in (200, 800)
    )
    assert low.shape == high.shape
    assert low.dtype == np.uint8
    differs = (low != high).any(-1)
    # The heat map lies in the upper part, and changes there alone.
    rows = np.flatnonzero(differs.any(1)) / len(low)
    assert 0 < rows.min() < rows.max() < 0.6
    bare = draw_records([record(i, 200) for i in range(count)], probe)
    assert len(bare) < len(low)
