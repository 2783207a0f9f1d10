import json

import pytest
from mmengine.config import Config

from tests.helpers.launcher import ROOT, run_main

SCRIPT = 'tools/benchmarks/data.py'
CONFIG = ROOT / 'configs/distill/repfusion_r18_cifar.py'


def test_pipeline_and_preprocessor_are_measured(tmp_path):
    done = run_main(
        SCRIPT, CONFIG, '--images', '256', '--passes', '2',
        '--workers', '0', '1', '--json', 'data.json',
        cwd=tmp_path,
    )  # fmt: skip
    report = json.loads((tmp_path / 'data.json').read_text())
    assert set(report) == {
        'config', 'data', 'batch_size', 'device', 'torch_threads', 'pipeline',
        'data_preprocessor',
    }  # fmt: skip
    batch_size = Config.fromfile(CONFIG).train_dataloader.batch_size
    assert report['batch_size'] == batch_size
    assert list(report['pipeline']) == ['0', '1']
    passes = [*report['pipeline'].values(), report['data_preprocessor']]
    assert all(len(rates) == 2 and min(rates) > 0 for rates in passes)
    assert 'data: synthetic images' in done.output
    assert 'pipeline, 1 workers' in done.output


@pytest.mark.parametrize(
    'pattern',
    [
        'distill/repfusion_*_on-device_cifar*.py',
        'finetune/mmpretrain/resnet18-scratch_*cifar10.py',
    ],
)
def test_other_configs_are_measured(pattern, tmp_path):
    (config,) = (ROOT / 'configs').glob(pattern)
    done = run_main(
        SCRIPT, config, '--images', '128', '--passes', '1', '--workers', '0',
        cwd=tmp_path,
    )  # fmt: skip
    assert 'data preprocessor' in done.output


@pytest.mark.parametrize(
    'pattern', ['distill/*_wflw.py', 'finetune/mmpose/*scratch*wflw*.py']
)
def test_missing_data_with_keypoints_are_an_error(pattern, tmp_path):
    config = next((ROOT / 'configs').glob(pattern))
    done = run_main(SCRIPT, config, expect=1, cwd=tmp_path)
    assert 'only images with class labels can be' in done.output


@pytest.mark.parametrize('flag', ['--images', '--passes'])
def test_numbers_below_one_are_errors(flag):
    done = run_main(SCRIPT, CONFIG, flag, '0', expect=2)
    assert '1 or more' in done.output
