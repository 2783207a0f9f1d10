"""What the tools put into every config."""

import pytest
from advice import describe
from launch import load_config, make_parser


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
        (Exception('Cannot find valid image after 1000!'), 'data_root'),
    ],
)
def test_what_a_new_user_met_has_advice(error, advice):
    assert advice in describe(error).split('; ', 1)[1]
