import numpy as np
import pytest
from scipy import stats

from repfusion_mm.analysis.report.comparison import (
    compare_with_scratch,
    is_lower_better,
)
from repfusion_mm.analysis.report.groups import group_runs
from repfusion_mm.analysis.report.page import write_report
from repfusion_mm.analysis.report.runs import read_run
from tests.helpers.report_files import finetuning

TOP1 = 'accuracy/top1'


def compare(folder, ours, theirs, metric=TOP1, seeds=None, **changes):
    """Compare runs of these scores; ``changes`` are those of the baseline."""
    runs = [
        read_run(finetuning(
            folder / f'net-repfusion_{seed}', score, 'net-repfusion_toy',
            metric, seed=seed, checkpoint='student.pth',
        ))
        for seed, score in enumerate(ours)
    ]  # fmt: skip
    runs += [
        read_run(finetuning(
            folder / f'net-scratch_{seed}', score, 'net-scratch_toy',
            metric, seed=seed, **changes,
        ))
        for seed, score in zip(seeds or range(9), theirs)
    ]  # fmt: skip
    (comparison,) = compare_with_scratch(group_runs(runs), metric)
    return comparison


def test_runs_of_the_same_seeds_are_compared_in_pairs(tmp_path):
    ours, theirs = np.array([80, 70, 90.0]), np.array([78, 69, 88.5])
    comparison = compare(tmp_path, ours, theirs)
    assert comparison.better is True
    gains = ours - theirs
    half = stats.sem(gains) * stats.t.ppf(0.975, 2)
    assert 'net-repfusion_* is better than net-scratch_*' in comparison.text
    assert f'higher by 1.50 ± {half:.2f}' in comparison.text
    assert '3 pairs of equal seeds' in comparison.text


def test_scores_that_are_nan_are_not_compared(tmp_path):
    comparison = compare(tmp_path, [80, float('nan')], [70, 71])
    assert comparison.better is None
    assert f'{TOP1} is NaN or infinite' in comparison.text


def test_runs_of_other_seeds_are_compared_by_their_means(tmp_path):
    ours, theirs = [80.0, 81.0, 82.0], [70.0, 71.0]
    comparison = compare(tmp_path, ours, theirs, seeds=[7, 8])
    assert comparison.better is True
    assert 'higher by 10.50' in comparison.text
    assert 'means of 3 and 2 runs' in comparison.text


def test_a_student_worse_than_its_baseline_is_said_to_be(tmp_path):
    comparison = compare(tmp_path, [70, 71, 70], [80, 80, 81])
    assert comparison.better is False
    assert 'is worse than net-scratch_*' in comparison.text
    assert 'lower by 10.00' in comparison.text


def test_differences_within_the_interval_are_not_distinguishable(tmp_path):
    comparison = compare(tmp_path, [70, 80, 75], [74, 72, 76])
    assert comparison.better is None
    assert 'not distinguishable' in comparison.text


@pytest.mark.parametrize(
    ('ours', 'theirs', 'words'),
    [([90], [10], 'One run each cannot tell'), ([9], [1, 2], '1 and 2 seeds')],
)
def test_too_few_runs_cannot_tell(tmp_path, ours, theirs, words):
    comparison = compare(tmp_path, ours, theirs)
    assert comparison.better is None
    assert words in comparison.text


def test_lower_errors_are_better(tmp_path):
    comparison = compare(tmp_path, [0.04, 0.05], [0.07, 0.08], metric='NME')
    assert comparison.better is True
    assert 'NME is lower by 0.0300' in comparison.text
    assert is_lower_better('val/loss_kpt') and is_lower_better('EPE')
    assert not is_lower_better('mIoU') and not is_lower_better('camera/acc')


def test_settings_that_differ_otherwise_are_named(tmp_path):
    comparison = compare(tmp_path, [80, 81], [70, 71], note='other')
    assert comparison.text.endswith('They also differ in model.note.')


def test_a_baseline_is_found_by_its_settings(tmp_path):
    """Its config need not have a name, and other budgets are no baseline."""
    runs = [
        read_run(finetuning(
            tmp_path / f'{name}_{budget}_{seed}', score + budget / 10 + seed,
            seed=seed, ann_file=f'{budget}.txt', checkpoint=checkpoint,
        ))
        for name, checkpoint, score in (
            ('plain', None, 50), ('student', 'student.pth', 60)
        )
        for budget in (20, 100)
        for seed in range(2)
    ]  # fmt: skip
    texts = [c.text for c in compare_with_scratch(group_runs(runs), TOP1)]
    assert len(texts) == 2
    assert all('higher by 10.00 ± 0.00' in text for text in texts)
    assert 'student_20_* is better than plain_20_*' in texts[0]
    assert 'student_100_* is better than plain_100_*' in texts[1]


def test_a_missing_baseline_is_not_hidden(tmp_path):
    run = read_run(finetuning(tmp_path / 'a', 80, checkpoint='student.pth'))
    (comparison,) = compare_with_scratch(group_runs([run]), TOP1)
    assert comparison.text.startswith('Not checked: whether a is better')
    assert comparison.better is None


def test_runs_that_are_not_complete_are_left_out(tmp_path):
    """They were killed, or still run."""
    length = dict(by_epoch=True, max_epochs=10, val_interval=2)
    runs = [
        read_run(finetuning(
            tmp_path / f'net_{seed}', 50.0 + seed, seed=seed,
            train_cfg=dict(length, max_epochs=max_epochs), **settings,
        ))
        for seed, (max_epochs, settings) in enumerate([
            (10, {}), (11, {}), (12, {}), (100, {}),
            (100, dict(custom_hooks=[dict(type='EarlyStoppingHook')])),
        ])
    ]  # fmt: skip
    complete = [run.is_complete(TOP1) for run in runs]
    assert complete == [True, True, False, False, True]
    for run in runs:
        run.settings['train_cfg.max_epochs'] = '11'
    runs[2].scores[TOP1] = [(2, 1.0)]
    (group, _) = group_runs(runs)
    assert group.scores(TOP1) == [50, 51, 53]


def test_runs_of_a_seed_do_not_replace_each_other(tmp_path):
    for i, seed in enumerate([None, 3]):
        seeds = [seed, seed, seed]
        runs = [
            read_run(finetuning(
                tmp_path / f'{i}{kind}_{run}', 50.0 + gain, f'net-{kind}_toy',
                seed=seed, **settings,
            ))
            for kind, gain, settings in (
                ('repfusion', 5, dict(checkpoint='student.pth')),
                ('scratch', 0, {}),
            )
            for run, seed in enumerate(seeds)
        ]  # fmt: skip
        assert {run.seed for run in runs} == {'?' if seed is None else '3'}
        (comparison,) = compare_with_scratch(group_runs(runs), TOP1)
        assert 'means of 3 and 3 runs' in comparison.text


@pytest.mark.parametrize('metric', ['abs_rel', 'log10', 'silog', 'mMR'])
def test_more_metrics_are_errors(metric):
    assert is_lower_better(metric)


def test_a_run_that_is_not_complete_is_in_the_report(tmp_path):
    length = dict(by_epoch=True, max_epochs=100, val_interval=1)
    folder = finetuning(tmp_path / 'net', 80.0, seed=3, train_cfg=length)
    write_report([folder], tmp_path / 'report.html', 'title')
    page = (tmp_path / 'report.html').read_text()
    assert 'not complete, left out: 3' in page
    assert 'accuracy/top1 80 at 10' in page
    assert 'of each run, one row' not in page
