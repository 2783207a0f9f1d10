"""The command line of the studies: jobs, workers and settings."""

import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest
import torch

from projects.digits.study import DigitsStudy
from projects.study import command
from projects.study.scores import ALL, Score, write_scores


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
        DigitsStudy, '', ['--methods', 'scratch', 'rkd', '--seeds', '2',
                          '--num-labels', '20', 'all'],
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
        ('distill_config', DigitsStudy.distill_config.parent /
         'repfusion_resnet18_celebahq.py', 'another configs .*, teachers'),
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
def test_scores_of_another_torch_are_not_mixed(
    digits_study, at_home, monkeypatch
):
    command.check_settings(digits_study)
    monkeypatch.setattr(torch, '__version__', '0.1')
    with pytest.raises(ValueError, match=r'another torch \(.*, now 0\.1\)'):
        command.check_settings(digits_study)


def test_second_call_at_the_same_time_is_refused(tmp_path):
    first, second = (command.only_call(tmp_path) for _ in range(2))
    with first, pytest.raises(ValueError, match='got a second one'):
        second.__enter__()
    with command.only_call(tmp_path):
        pass
