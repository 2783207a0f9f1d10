"""The command line of the studies: jobs, workers and settings."""

import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch

from projects.digits.study import DigitsStudy
from projects.study import command, study
from projects.study.scores import ALL, Score, read_scores, write_scores


def test_workers_use_one_thread(tmp_path):
    """Scores must not depend on --workers, nor on the processor's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            command.start_worker(tmp_path)
            sys.stdout.close()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_missing_scores_are_listed_with_few_labels_first(digits_study):
    write_scores(digits_study.out / 'scores.csv', [Score('scratch', 20, 0, 1)])
    args = command.parse_args(
        DigitsStudy, '', ['--methods', 'scratch', 'rkd', 'rkd', '--seeds',
                          '2', '--num-labels', '20', 'all', 'all'],
    )  # fmt: skip
    assert command.list_jobs(digits_study, args) == [
        ('rkd', 20, 0), ('scratch', 20, 1), ('rkd', 20, 1),
        ('scratch', ALL, 0), ('rkd', ALL, 0), ('scratch', ALL, 1),
        ('rkd', ALL, 1),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ('attribute', 'value', 'message'),
    [
        ('device', 'cpu, --amp', r'device \(cpu, now cpu, --amp\)'),
        ('num_iters', {20: 1}, 'another configs'),
        ('methods', {'at': DigitsStudy.methods['at']._replace(options=())},
         'another configs'),
        ('probe_grid', (0, 500), 'another configs'),
        ('distill_config', DigitsStudy.distill_config.parent /
         'repfusion_resnet18_celebahq.py', 'another configs'),
    ],
)  # fmt: skip
def test_scores_of_other_settings_are_not_mixed(
    digits_study, at_home, attribute, value, message
):
    command.check_settings(digits_study)
    command.check_settings(digits_study)
    setattr(digits_study, attribute, value)
    with pytest.raises(ValueError, match=message):
        command.check_settings(digits_study)


@pytest.mark.slow
def test_scores_of_another_teacher_are_not_mixed(
    digits_study, at_home, tmp_path
):
    """The teacher is a pipeline, which is trained between two calls."""
    weights = tmp_path / 'teacher/unet/weights.safetensors'
    config = tmp_path / 'distill.py'
    config.write_text(
        f'_base_ = [{str(digits_study.distill_config)!r}]\n'
        f'model = dict(teacher=dict(pretrained={str(tmp_path / "teacher")!r}))'
    )
    digits_study.distill_config = config
    command.check_settings(digits_study)
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b'1')
    command.check_settings(digits_study)
    weights.write_bytes(b'2')
    with pytest.raises(ValueError, match='got another teacher '):
        command.check_settings(digits_study)


@pytest.mark.slow
def test_scores_of_another_version_are_not_mixed(
    digits_study, at_home, monkeypatch
):
    command.check_settings(digits_study)
    monkeypatch.setattr(study, 'find_versions', lambda: dict(torch='0.1'))
    with pytest.raises(ValueError, match=r'another torch \(.*, now 0\.1\)'):
        command.check_settings(digits_study)


@pytest.mark.slow
@pytest.mark.parametrize('index', [0, 1])
def test_scores_of_other_images_are_not_mixed(
    digits_study, at_home, tmp_path, index
):
    digits_study.all_labels = tmp_path / 'train.txt'
    for path in digits_study.lists:
        path.write_text('a.png 0\n')
    command.check_settings(digits_study)
    digits_study.lists[index].write_text('a.png 1\n')
    with pytest.raises(ValueError, match='got another list '):
        command.check_settings(digits_study)


@pytest.mark.slow
def test_scores_without_settings_are_refused(digits_study, at_home, tmp_path):
    (tmp_path / 'scores.csv').touch()
    with pytest.raises(ValueError, match='the settings of the scores are'):
        command.check_settings(digits_study)


def test_second_call_at_the_same_time_is_refused(tmp_path):
    first, second = (command.only_call(tmp_path) for _ in range(2))
    with first, pytest.raises(ValueError, match='got a second one'):
        second.__enter__()
    with command.only_call(tmp_path):
        pass


class QuickStudy(DigitsStudy):
    """Scores after as many seconds as the seed, which must not be zero."""

    def score(self, method, num_labels, seed):
        time.sleep(seed)
        return Score(method, num_labels, seed, 1 / seed)


@pytest.mark.slow
def test_scores_of_running_jobs_are_kept_after_an_error(tmp_path):
    study = QuickStudy(tmp_path)
    jobs = [command.Job('scratch', 20, seed) for seed in (0, 2, *range(3, 9))]
    with pytest.raises(ZeroDivisionError):
        command.run_jobs(study, jobs, 2)
    seeds = [score.seed for score in read_scores(tmp_path / 'scores.csv')]
    assert 2 in seeds
    assert 8 not in seeds


def test_options_of_a_training_are_refused_with_csv(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.parse_args(
            DigitsStudy, '', ['--csv', 'a.csv', '--num-labels', '20', '--amp']
        )
    assert 'got --num-labels, --amp; leave' in capsys.readouterr().err
    args = command.parse_args(DigitsStudy, '', ['--out=~/study'])
    assert args.out == Path.home() / 'study'
    assert args.seeds == 3
