"""Work directories are read, and what is wrong in them is named."""

import json
import os

import pytest

from repfusion_mm.analysis.report.runs import iteration_of, read_run
from repfusion_mm.analysis.report.teachers import find_export
from tests.helpers.report_files import (
    distillation,
    finetuning,
    teacher,
    write_config,
    write_lines,
)

RECORD = '{{"iter": {}, "timesteps": {}, "probabilities": {}}}\n'


def test_a_resumed_run_replaces_later_points(tmp_path):
    folder = distillation(tmp_path / 'a')
    write_config(folder, 'repfusion_toy', start='2')
    first, second = (
        folder / name / 'vis_data' / 'scalars.json' for name in '12'
    )
    write_lines(first, [dict(loss=i, step=i) for i in (1, 2, 3, 4)])
    write_lines(second, [dict(loss=-i, step=i) for i in (2, 3)])
    with second.open('a') as file:
        file.write('{"loss": 4, "st')
    curve = read_run(folder).curves['loss']
    assert curve == [(1, 1), (2, -2), (3, -3)]


def test_validations_are_counted_in_epochs(tmp_path):
    """A resumed run begins with the validation that was interrupted."""
    folder = finetuning(tmp_path / 'a', 80)
    for path in folder.glob('*/vis_data/scalars.json'):
        path.unlink()
    write_config(folder, 'net', start='2', model='ImageClassifier')
    first, second = (
        folder / name / 'vis_data' / 'scalars.json' for name in '12'
    )
    lines = [
        line
        for epoch in (1, 2, 3)
        for line in (
            dict(loss=1.0, step=100 * epoch - 50),
            dict(loss=1.0, step=100 * epoch),
            {'accuracy/top1': 10.0 * epoch, 'step': epoch},
        )
    ]
    write_lines(first, lines)
    # Resumed after the second epoch.
    lines = [
        {'accuracy/top1': 20.0, 'step': 2},
        dict(loss=2.0, step=250),
        dict(loss=2.0, step=300),
        {'accuracy/top1': 33.0, 'step': 3},
    ]
    write_lines(second, lines)
    run = read_run(folder)
    assert run.scores['accuracy/top1'] == [(1, 10), (2, 20), (3, 33)]
    assert run.curves['loss'] == [
        (50, 1), (100, 1), (150, 1), (200, 1), (250, 2), (300, 2)
    ]  # fmt: skip
    # A new run with another interval.
    write_config(folder, 'net', start='3', model='ImageClassifier')
    lines = [dict(loss=3.0, step=100), dict(loss=3.0, step=200),
             {'accuracy/top1': 5.0, 'step': 4}]  # fmt: skip
    write_lines(folder / '3/vis_data/scalars.json', lines)
    run = read_run(folder)
    assert run.curves['loss'] == [(100, 3), (200, 3)]
    assert run.scores['accuracy/top1'] == [(4, 5)]


@pytest.mark.parametrize(
    ('train_cfg', 'logged', 'step', 'complete'),
    [
        # mmengine's default, log_metric_by_epoch=True.
        (dict(max_epochs=3), dict(epoch=3, step=30), 3, True),
        (dict(max_epochs=3), dict(epoch=3, step=25), 2, False),
        (dict(max_iters=90, val_interval=30), dict(step=90), 0, True),
        (dict(max_iters=90, val_interval=30), dict(step=60), 0, False),
        (dict(max_iters=90, val_interval=30), dict(step=90), 90, True),
        # log_metric_by_epoch=False
        (dict(max_epochs=3), dict(epoch=3, step=30), 30, True),
        (dict(max_epochs=3), dict(epoch=2, step=20), 20, False),
    ],
)
def test_runs_are_complete_if_their_end_was_validated(
    tmp_path, train_cfg, logged, step, complete
):
    folder = tmp_path / 'a'
    write_config(folder, 'net', model='ImageClassifier', train_cfg=train_cfg)
    lines = [dict(loss=1.0, **logged), {'accuracy/top1': 9.0, 'step': step}]
    write_lines(folder / '1/vis_data/scalars.json', lines)
    assert read_run(folder).is_complete('accuracy/top1') is complete


def test_a_run_that_began_anew_replaces_all_points(tmp_path):
    """A first, short try logs more often than the run."""
    folder = distillation(tmp_path / 'a')
    write_config(folder, 'repfusion_toy', start='2')
    for start, steps in (('1', range(2, 41, 2)), ('2', (50, 100, 150))):
        path = folder / start / 'vis_data' / 'scalars.json'
        write_lines(path, [dict(loss=1, step=step) for step in steps])
    curve = read_run(folder).curves['loss']
    assert [step for step, _ in curve] == [50, 100, 150]


def test_pictures_of_a_teacher_suffice_to_read_it(tmp_path):
    folder = teacher(tmp_path / 'a', pictures=(1000, 200, 30))
    (folder / '1' / 'vis_data' / 'scalars.json').unlink()
    run = read_run(folder)
    assert run.is_teacher and run.curves == {}
    assert [iteration_of(path) for path in run.pictures] == [30, 200, 1000]


@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        (dict(), 'ddpm'),
        (dict(custom_hooks=[dict(type='ExportDiffusersHook')]), 'teacher'),
        (dict(custom_hooks=[dict(type='EMAHook')]), None),
    ],
)
def test_the_folder_of_an_exported_teacher_is_found(tmp_path, settings, name):
    folder = teacher(tmp_path / 'a', **settings)
    assert find_export(read_run(folder)) is None
    for folder_name in ('ddpm', 'teacher'):
        (folder / folder_name).mkdir()
    expected = None if name is None else folder / name
    assert find_export(read_run(folder)) == expected


def test_a_later_test_does_not_change_the_run(tmp_path):
    """tools/test.py overwrites the config in the work directory."""
    folder = finetuning(tmp_path / 'a', 80, note='as trained')
    write_config(folder, 'resnet18_toy', start='2', note='as tested')
    test = folder / '2' / 'vis_data' / 'scalars.json'
    write_lines(test, [{'accuracy/top1': 10.0, 'step': 0}])
    run = read_run(folder)
    assert run.settings['model.note'] == 'as trained'
    assert run.scores == {'accuracy/top1': [(10, 80)]}


def test_a_run_inside_a_work_directory_is_not_mixed_in(tmp_path):
    folder = distillation(tmp_path / 'a')
    inner = distillation(folder / 'inner', last=240)
    assert read_run(folder).records[-1]['iter'] == 180
    assert read_run(inner).records[-1]['iter'] == 240


def test_folders_that_are_not_runs_are_refused(tmp_path):
    with pytest.raises(NotADirectoryError, match='got nothing'):
        read_run(tmp_path / 'nowhere')
    (tmp_path / 'file').touch()
    with pytest.raises(NotADirectoryError, match='got a file'):
        read_run(tmp_path / 'file')
    write_config(tmp_path / 'new', 'repfusion_toy')
    with pytest.raises(ValueError, match='got a folder without logs'):
        read_run(tmp_path / 'new')
    lines = [dict(loss=1.0, step=10)]
    write_lines(tmp_path / 'new' / '1' / 'vis_data' / 'scalars.json', lines)
    with pytest.raises(ValueError, match=r'policy\.jsonl or validation'):
        read_run(tmp_path / 'new')


def test_a_run_without_its_config_is_refused(tmp_path):
    folder = finetuning(tmp_path / 'a', 80)
    (folder / 'resnet18_toy.py').unlink()
    with pytest.raises(FileNotFoundError, match='the config of a run'):
        read_run(folder)


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('vis_data/scalars.json', 'garbage}\n{"loss": 1}', 'line 1 of .*sca'),
        ('vis_data/scalars.json', '{"loss": 1}\n', 'integer step in line 1'),
        ('vis_data/scalars.json', '{"loss": 1, "step": 1}\n[3]\n', 'line 2'),
        ('policy.jsonl', '{"iter": 1}\n', 'integer iter, timesteps'),
        ('policy.jsonl', 'garbage}', 'line 1 of .*policy.jsonl'),
        ('policy.jsonl', '[' * 100_000 + '}', 'line 1 of .*policy.jsonl'),
        (
            'policy.jsonl',
            RECORD.format('"a"', '[1]', '[1]'),
            'an integer iter',
        ),
        ('policy.jsonl', RECORD.format(1, '[]', '[]'), 'one prob.*iter 1'),
        ('policy.jsonl', RECORD.format(1, '[1, 2]', '[1]'), 'one prob'),
        ('policy.jsonl', RECORD.format(1, '[1]', '{}'), 'one prob'),
        (
            'policy.jsonl',
            RECORD.format(1, '[1]', '[1]')
            + RECORD.format(2, '[1, 2]', '[1, 1]'),
            r'with \[1, 2\] timesteps',
        ),
        ('env_info.json', '{"packa', 'env_info.json.* JSONDecodeError'),
        ('env_info.json', '[1, 2]', 'expected packages .*env_info.json'),
        ('env_info.json', '{"packages": {}}', "env_info.json.* 'commits'"),
        ('env_info.json', '{"packages": 1, "commits": {}}', 'other types'),
        ('vis_data/config.py', 'a = {[1]: 2}', 'unhashable'),
        ('vis_data/config.py', 'model = dict(', 'closed .* at line 1'),
        ('vis_data/config.py', 'import os', 'an? import at line 1'),
        ('vis_data/config.py', 'a = dict(b=os.getcwd())', 'a call at line 1'),
        ('../probe.csv', 'no scores', 'first line is .*no scores'),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, text, words):
    broken = distillation(tmp_path / 'broken')
    (broken / '1' / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        read_run(broken)


def test_a_later_test_does_not_rename_a_run(tmp_path):
    folder = finetuning(tmp_path / 'a', 80)
    info = dict(config='configs/mine.py', packages={}, commits={})
    (folder / '1/env_info.json').write_text(json.dumps(info))
    (folder / 'other.py').write_text('')
    assert read_run(folder).name == 'mine'


def test_the_verdict_on_an_earlier_student_is_not_shown(tmp_path):
    folder = distillation(tmp_path / 'a')
    for name, seconds in (('student.pth', 100), ('verdict.txt', 200)):
        (folder / name).write_text('text')
        os.utime(folder / name, (seconds, seconds))
    assert read_run(folder).student_verdict == 'text'
    os.utime(folder / 'student.pth', (300, 300))
    assert read_run(folder).student_verdict == ''
