"""What the benchmarks measure in processes of their own, or in minutes."""

import json
import sys

import torch

from projects.digits.prepare_data import write_digits
from repfusion_mm.cli import runner
from tests.helpers.launcher import ROOT, launch, run_main
from tests.helpers.layouts import save_cifar10_images
from tests.helpers.studies import enter

CONFIG = 'repfusion_resnet18_cifar10-images.py'


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


def test_mixed_precision_is_compared_with_another_seed(tmp_path, monkeypatch):
    enter(tmp_path, monkeypatch)
    # Also on processors on which it is slow.
    monkeypatch.setattr(runner, 'resolve_dtype', lambda *_: torch.bfloat16)
    save_cifar10_images(tmp_path / 'data/cifar10_images')
    run_main('tools/dataset_converters/cifar10_images.py')
    run_main(
        'tools/benchmarks/precision.py',
        ROOT / 'projects/cifar10/configs' / CONFIG,
        '--iters', '4', '--json', 'out.json', '--cfg-options',
        'train_dataloader.batch_size=4',
    )  # fmt: skip
    runs = json.loads((tmp_path / 'out.json').read_text())
    exact, mixed, other, untrained = runs.values()
    assert list(untrained) == ['R²']
    curve = 'difference of the curve'
    assert 0 < mixed[curve] < other[curve]
    assert abs(mixed['loss'] / exact['loss'] - 1) < 0.02
    assert all(-1 < run['R²'] < 1 for run in runs.values())


def test_the_parts_of_a_training_are_timed(tmp_path, monkeypatch):
    enter(tmp_path, monkeypatch)
    write_digits(tmp_path / 'data/digits')
    for config, options, validates in (
        (
            'distill/repfusion_resnet18_digits.py',
            [
                'train_cfg.max_epochs=2',
                'train_dataloader.sampler.num_samples=192',
            ],
            False,
        ),
        (
            'finetune/mmpretrain/resnet18-scratch_digits.py',
            ['train_cfg.max_iters=6', 'train_cfg.val_interval=3'],
            True,
        ),
    ):
        run_main(
            'tools/benchmarks/job.py', ROOT / 'configs' / config,
            '--json', 'out.json', '--cfg-options',
            *options,
        )  # fmt: skip
        figures = json.loads((tmp_path / 'out.json').read_text())
        parts = figures['parts']
        assert figures['iterations'] == 6
        validation = parts.pop('validation')
        assert (validation > 0) is validates
        # No part is counted twice, or missing.
        assert min(parts.values()) > 0
        assert parts['rest'] < 0.1 * figures['seconds']
        # Waiting for a batch does not include the validation before it.
        assert parts['step'] > parts['data']
