"""Training and testing as processes of their own: one smoke test a tool."""

import sys

from tests.helpers.launcher import ROOT, launch

CONFIG = ROOT / 'configs/finetune/mmpretrain/resnet18-scratch_digits.py'


def test_a_network_is_trained_and_tested(digits, tmp_path):
    data = digits / 'data/digits'
    options = [
        f'train_dataloader.dataset.datasets.0.data_root={data}',
        f'val_dataloader.dataset.data_root={data}',
        f'test_dataloader.dataset.data_root={data}',
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
    ]
    launch(
        sys.executable, 'tools/train.py', CONFIG, '--work-dir', tmp_path,
        '--cfg-options', *options,
    )  # fmt: skip
    output = launch(
        sys.executable, 'tools/test.py', CONFIG, tmp_path / 'iter_2.pth',
        '--work-dir', tmp_path, '--cfg-options', *options,
    )  # fmt: skip
    assert 'accuracy/top1' in output


def test_an_error_ends_with_status_1_and_one_line(tmp_path):
    for tool in (['tools/train.py'], ['tools/test.py']):
        arguments = [tmp_path / 'mine.py']
        if 'test' in tool[0]:
            arguments.append('given.pth')
        output = launch(sys.executable, *tool, *arguments, expect=1)
        last = output.strip().splitlines()[-1]
        assert 'FileNotFoundError: expected the path of a config' in last
