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
    output = launch(
        sys.executable, 'tools/train.py', tmp_path / 'mine.py', expect=1
    )
    last = output.strip().splitlines()[-1]
    assert 'FileNotFoundError: expected the path of a config' in last


def test_a_command_line_in_an_ascii_locale_reads_utf8(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(
        'import sys\n'
        'from repfusion_mm.cli import script_parser\n'
        "parser = script_parser('')\n"
        "parser.add_argument('path')\n"
        'path = parser.parse_args().path\n'
        "open(path, 'w').write(path)\n",
        encoding='utf-8',
    )
    path = tmp_path / 'é.txt'
    launch(
        sys.executable, script, path,
        LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0',
    )  # fmt: skip
    assert path.read_text(encoding='utf-8') == str(path)
