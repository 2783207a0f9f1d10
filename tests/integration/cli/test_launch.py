"""What the tools put into every config."""

import pytest

from repfusion_mm.cli.config import load_config, make_parser
from repfusion_mm.cli.error_reporting import describe, report_errors
from repfusion_mm.cli.train import latest_checkpoint


def load(tmp_path, text):
    path = tmp_path / 'mine.py'
    path.write_text(text)
    return load_config(make_parser('').parse_args([str(path)]))


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', dict(type='repfusion_mm.SafeCheckpointHook')),
        (
            "default_hooks = dict(checkpoint=dict(type='CheckpointHook', "
            'interval=7))',
            dict(type='repfusion_mm.SafeCheckpointHook', interval=7),
        ),
        (
            "default_hooks = dict(checkpoint=dict(type='mine.Hook'))",
            dict(type='mine.Hook'),
        ),
        ('default_hooks = dict(checkpoint=None)', None),
    ],
)
def test_checkpoints_are_written_safely(tmp_path, text, expected):
    cfg = load(tmp_path, text)
    assert cfg.default_hooks.checkpoint == expected


def test_hooks_of_the_config_stay(tmp_path):
    cfg = load(tmp_path, "custom_hooks = [dict(type='mine.Hook')]")
    names = [hook['type'] for hook in cfg.custom_hooks]
    assert names[0] == 'mine.Hook'
    assert 'repfusion_mm.ExactResumeHook' in names


def test_errors_become_one_line():
    ours = ValueError('expected a, got b:\n  c\nNo such file: mend it')
    assert describe(ours) == (
        'ValueError: expected a, got b: c; No such file: mend it'
    )
    others = FileNotFoundError(2, 'No such file or directory', 'x.txt')
    assert describe(others).endswith("'x.txt'; correct the path")


@pytest.mark.parametrize(
    ('error', 'advice'),
    [
        (IsADirectoryError(21, 'Is a directory', 'a'), 'correct the path'),
        (
            ValueError('not enough values to unpack (expected 2, got 1)'),
            'key=value',
        ),
        (
            ValueError('end should be larger than begin, but got begin=0'),
            'train_cfg.max_epochs',
        ),
        (
            ValueError('num_workers option should be non-negative'),
            'of the dataloader',
        ),
        (
            IndexError('Index 5 exceeds the length of list ' + 'x' * 9999),
            '--cfg',
        ),
        (Exception('Cannot find valid image after 1000!'), 'data_root'),
        (OSError(27, 'File too large'), 'make room'),
        (ValueError("cannot find context for 'forkk'"), 'forkserver'),
        (TypeError('cfg should be a dict, ConfigDict or Config'), 'type=...'),
        (UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'no'), 'in UTF-8'),
    ],
)
def test_what_a_new_user_met_has_advice(error, advice):
    assert advice in describe(error).split('; ', 1)[1]


def test_a_long_error_is_cut():
    assert len(describe(ValueError('x' * 9999))) < 1100


def test_ctrl_c_says_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as stop, report_errors():
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert '--resume' in capsys.readouterr().out


def written(folder, named=None):
    """Write a work directory as of a run with one checkpoint."""
    folder.mkdir()
    path = folder / 'epoch_2.pth'
    path.touch()
    pointer = folder / 'last_checkpoint'
    pointer.write_text(str(path) if named is None else named)
    return path


def test_a_copied_run_goes_on_with_its_own_checkpoint(tmp_path):
    first, second = tmp_path / 'first', tmp_path / 'second'
    assert latest_checkpoint(str(first)) is None
    theirs = written(first)
    assert latest_checkpoint(str(first)) == str(theirs)
    own = written(second, named=str(theirs))
    assert latest_checkpoint(str(second)) == str(own)
    own.unlink()  # and not with the one that it was copied from
    with pytest.raises(FileNotFoundError, match=r'second.* --resume C'):
        latest_checkpoint(str(second))


def test_a_checkpoint_elsewhere_is_found(tmp_path):
    elsewhere = tmp_path / 'epoch_9.pth'  # out_dir of the checkpoint hook
    elsewhere.touch()
    written(tmp_path / 'run', named=str(elsewhere))
    assert latest_checkpoint(str(tmp_path / 'run')) == str(elsewhere)


def test_an_empty_pointer_is_named(tmp_path):
    written(tmp_path / 'run', named='')
    with pytest.raises(FileNotFoundError, match='last_checkpoint names'):
        latest_checkpoint(str(tmp_path / 'run'))
