"""What the page of runs warns of."""

import numpy as np
import pytest
from report_runs import read_run
from report_warnings import check

from tests.helpers.report_files import distillation


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(width=0.1), 'policy collapsed'),
        (dict(width=0.4), 'policy collapsed'),
        (dict(rising=0.0), 'reward is flat'),
        (dict(rising=-1.0), 'reward is flat'),
        (dict(spread=0.0), 'variance zero'),
        (dict(falling=0.0), 'loss did not fall'),
        (dict(last=150), 'iteration 150 of 180'),
        (dict(), None),
    ],
)
def test_warnings_name_what_went_wrong_and_nothing_else(
    tmp_path, change, words
):
    checks = check(read_run(distillation(tmp_path / 'a', **change)))
    assert len(checks) == 6
    assert not any(c.skipped for c in checks)
    warnings = [c.warning for c in checks if c.warning]
    assert len(warnings) == (0 if words is None else 1)
    assert all(words in warning for warning in warnings)


def test_a_policy_that_found_a_peak_has_not_collapsed(tmp_path):
    """The demo's ends with a standard deviation of eight timesteps."""
    run = read_run(distillation(tmp_path / 'a', width=8.0))
    assert not any(c.warning for c in check(run))


def test_a_reward_that_rises_at_once_is_not_flat(tmp_path):
    run = read_run(distillation(tmp_path / 'a'))
    noise = np.random.default_rng(0).normal(0, 0.02, 20)
    quick = -2.3 * np.exp(-np.arange(20.0)) + noise
    run.curves['reward'] = list(enumerate(quick.tolist()))
    assert not any(c.warning for c in check(run))


def test_what_is_not_finite_is_named_with_its_iteration(tmp_path):
    run = read_run(distillation(tmp_path / 'a'))
    run.curves['loss_distill'][7] = (70, float('nan'))
    warnings = [c.warning for c in check(run) if c.warning]
    assert 'loss_distill became nan at iteration 70' in warnings[0]
