import json

import pytest

from tests.helpers.launcher import load_script, run_main

SCRIPT = 'tools/benchmarks/policy.py'


def run(out, *flags):
    run_main(SCRIPT, '--seeds', '1', '--json', out, *flags)
    return json.loads(out.read_text())['bandits']


@pytest.mark.slow
def test_ours_succeeds_where_the_reference_fails(tmp_path):
    """Bug 4 of the reference: without a baseline, no policy is learned."""
    bandits = run(tmp_path / 'policy.json', '--bandits', 'one_peak_far')
    assert list(bandits) == ['one_peak_far']
    results = bandits['one_peak_far']
    assert results['seeds'] == 1
    assert results['ours']['within_5pct'] == 1
    assert 0 <= results['ours']['median_regret'] <= 0.05
    assert results['ours']['max_regret'] <= 0.05
    assert results['public_rule']['within_5pct'] == 0


@pytest.mark.slow
def test_ours_keeps_its_entropy_where_timesteps_do_not_matter(tmp_path):
    out = tmp_path / 'policy.json'
    bandits = run(out, '--bandits', 'flat_far', '--rules', 'ours')
    assert bandits['flat_far']['ours']['min_entropy'] >= 0.9


def test_all_rules_see_the_same_images_and_noise(monkeypatch):
    script = load_script(SCRIPT)
    monkeypatch.setattr(script, 'UPDATES', 2)
    seen = {}

    class Recorder(script.Bandit):
        def reward(self, value, progress, generator):
            seen.setdefault(rule, []).append(generator.get_state())
            return super().reward(value, progress, generator)

    bandit = Recorder(script.peak(200), -2.0, 0.3)
    for rule in script.RULES:
        script.train(rule, bandit, seed=0)
    assert list(seen) == list(script.RULES)
    for states in seen.values():
        assert all((a == b).all() for a, b in zip(states, seen['ours']))


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--seeds', '0'], '1 or more'),
        (['--bandits', 'one_peak'], "invalid choice: 'one_peak'"),
        (['--rules', 'best'], "invalid choice: 'best'"),
    ],
)
def test_invalid_arguments_are_errors(flags, message):
    assert message in run_main(SCRIPT, *flags, expect=2).output
