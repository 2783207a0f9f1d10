"""What the benchmarks measure in processes of their own, or in minutes."""

import json
import sys

from tests.helpers.launcher import ROOT, launch, run_main


def test_memory_of_a_step_is_measured_in_new_processes(tmp_path):
    out = tmp_path / 'step.json'
    launch(
        sys.executable, 'tools/benchmarks/step.py',
        ROOT / 'configs/distill/repfusion_resnet18_digits.py', '--json', out,
        '--batch', '4', '--rounds', '1', '--warmup', '0',
        '--variants', 'reference', 'floor', CUDA_VISIBLE_DEVICES='',
    )  # fmt: skip
    memory = json.loads(out.read_text())['memory']
    assert list(memory) == ['reference', 'ours']
    for figures in memory.values():
        assert set(figures) == {'steps', 'model', 'peak', 'grown'}
        assert 0 < figures['model'] < figures['peak']


def test_ours_succeeds_on_all_bandits(tmp_path):
    out = tmp_path / 'policy.json'
    options = ['--seeds', '1', '--rules', 'ours', '--json', out]
    run_main('tools/benchmarks/policy.py', *options)
    bandits = json.loads(out.read_text())['bandits']
    assert len(bandits) == 13
    for name, results in bandits.items():
        assert results['ours']['within_5pct'] == 1, name
        if name.startswith('flat'):
            assert results['ours']['min_entropy'] >= 0.9
