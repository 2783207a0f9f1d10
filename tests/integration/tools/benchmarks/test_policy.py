"""The bandits, one seed each; the tool runs twenty."""

import json

import pytest
from benchmark_policy import main

NAMES = [
    f'{name}_{where}'
    for where in ('near', 'far')
    for name in (
        'one_peak',
        'two_peaks',
        'plateau',
        'flat',
        'per_image',
        'improving',
    )
] + ['one_peak_small']


def test_ours_finds_what_the_public_rule_does_not(tmp_path):
    """Fault 4 of the public code: without a baseline nothing is found."""
    main(['--seeds', '1', '--json', str(tmp_path / 'policy.json')])
    bandits = json.loads((tmp_path / 'policy.json').read_text())['bandits']
    assert list(bandits) == NAMES
    for name, results in bandits.items():
        assert results['seeds'] == 1
        assert results['ours']['within_5pct'] == 1, name
        assert results['ours']['max_regret'] <= 0.05
        assert results['ours']['median_regret'] >= 0
    for name in ('flat_near', 'flat_far'):
        assert bandits[name]['ours']['min_entropy'] >= 0.9
    lost = [b for b in bandits.values() if not b['public_rule']['within_5pct']]
    assert len(lost) >= 4


@pytest.mark.parametrize(
    'flags', [['--seeds', '0'], ['--bandits', 'one_peak']]
)
def test_unknown_bandits_are_refused(flags, capsys):
    with pytest.raises(SystemExit):
        main(flags)
    assert 'expected --seeds of at least 1' in capsys.readouterr().err
