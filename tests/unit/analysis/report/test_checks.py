import numpy as np
import pytest

from repfusion_mm.analysis.probe.recommendation import NO, UNKNOWN, YES
from repfusion_mm.analysis.probe.student import StudentProbe, describe_student
from repfusion_mm.analysis.probe.verdict import NOTHING, TOO_FEW
from repfusion_mm.analysis.report.checks import run_checks
from repfusion_mm.analysis.report.runs import read_run
from repfusion_mm.analysis.report.teachers import read_progress
from tests.helpers.probe_measurements import given
from tests.helpers.report_files import distillation, teacher


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(width=0.1), 'policy collapsed'),
        (dict(width=0.4), 'policy collapsed'),
        (dict(shares=(0.5, 0.5)), 'policy learned nothing'),
        (dict(rise=0.0), 'reward did not increase'),
        (dict(rise=-1.0), 'reward did not increase'),
        (dict(relative_std=0.0), 'same for all images'),
        (dict(fall=0.0), 'loss did not decrease'),
        (dict(last=150), 'iteration 150 of 180'),
        (dict(explained=0.02), 'student explains 2% of the variance'),
        (dict(), None),
    ],
)
def test_each_failure_has_its_own_warning(tmp_path, change, words):
    checks = run_checks(read_run(distillation(tmp_path / 'a', **change)))
    assert len(checks) == 8
    assert not any(c.skipped for c in checks)
    warnings = [c.warning for c in checks if c.warning]
    assert len(warnings) == (0 if words is None else 1)
    assert all(words in warning for warning in warnings)


def test_a_narrow_policy_has_not_collapsed(tmp_path):
    """The demo's policy ends with a standard deviation of 8 timesteps."""
    run = read_run(distillation(tmp_path / 'a', width=8.0))
    assert not any(c.warning for c in run_checks(run))


def test_a_reward_that_rises_quickly_has_increased(tmp_path):
    run = read_run(distillation(tmp_path / 'a'))
    noise = np.random.default_rng(0).normal(0, 0.02, 20)
    quick = -2.3 * np.exp(-np.arange(20.0)) + noise
    run.curves['reward'] = list(enumerate(quick.tolist()))
    assert not any(c.warning for c in run_checks(run))


def test_a_reward_that_hardly_increases_has_not_increased(tmp_path):
    """With random labels the decoder only forgets its first guess."""
    run = read_run(distillation(tmp_path / 'a'))
    run.curves['reward'] = [(i, -2.33 + 0.002 * i) for i in range(20)]
    (warning,) = (c.warning for c in run_checks(run) if c.warning)
    assert 'increase, or hardly' in warning


def test_a_run_of_unknown_length_is_not_checked_for_its_end(tmp_path):
    run = read_run(distillation(tmp_path / 'a'))
    del run.records[-1]['max_iters']
    assert run_checks(run)[0].skipped == 'its length was not logged'


def test_a_nan_is_named_with_its_iteration(tmp_path):
    run = read_run(distillation(tmp_path / 'a'))
    run.curves['loss_distill'][7] = (70, float('nan'))
    warnings = [c.warning for c in run_checks(run) if c.warning]
    assert 'loss_distill is nan at iteration 70' in warnings[0]


def test_statistics_that_are_no_losses_need_not_be_finite(tmp_path):
    """The reward of batches without labels, and skipped steps of AMP."""
    run = read_run(distillation(tmp_path / 'a'))
    before = run_checks(run)
    run.curves['student.grad_norm'] = [(10, float('inf'))]
    run.curves['reward'] = [(5, float('nan')), *run.curves['reward']]
    assert run_checks(run) == before


def test_a_run_without_counted_rewards_is_not_judged(tmp_path):
    run = read_run(distillation(tmp_path / 'a'))
    del run.records[-1]['num_rewards']
    assert run_checks(run)[2].skipped == 'rewards were not counted'


def test_a_learned_policy_that_never_changed_is_judged(tmp_path):
    run = read_run(distillation(tmp_path / 'a', shares=(0.5, 0.5)))
    run.records = run.records[-1:]
    assert 'learned nothing' in run_checks(run)[2].warning


@pytest.mark.parametrize(
    ('verdict', 'words'),
    [
        (f'best: accuracy 0.1\n{NOTHING}\n', 'says nothing about these'),
        (f'best: accuracy 0.1\n{TOO_FEW}\n', 'too few to test'),
        (f'best: accuracy 0.9\n{NO}pixels are better\n', 'Do not distill'),
        (f'best: accuracy 0.9\n{YES}it is better\n', None),
    ],
)
def test_the_verdict_of_a_probe_in_the_folder_is_a_check(
    tmp_path, verdict, words
):
    folder = distillation(tmp_path / 'a')
    (folder / 'probe.txt').write_text(verdict)
    checks = run_checks(read_run(folder))
    assert len(checks) == 9
    warnings = [c.warning for c in checks if c.warning]
    assert [words in warning for warning in warnings] == [True] * bool(words)


@pytest.mark.parametrize(
    ('verdict', 'reason'),
    [(f'{UNKNOWN}x', f'{UNKNOWN}x'), ('', 'contains no recommendation')],
)
def test_a_probe_that_cannot_tell_passes_nothing(tmp_path, verdict, reason):
    folder = distillation(tmp_path / 'a')
    (folder / 'probe.txt').write_text(f'best: accuracy 0.9\n{verdict}\n')
    skipped = [c.skipped for c in run_checks(read_run(folder)) if c.skipped]
    assert any(reason in text for text in skipped)


def test_a_student_that_was_not_probed_is_not_checked(tmp_path):
    """Without labels, verdict.txt has only the lines for a project."""
    folder = distillation(tmp_path / 'a')
    before = len(run_checks(read_run(folder)))
    (folder / 'verdict.txt').write_text('To finetune the student, write\n')
    assert len(run_checks(read_run(folder))) == before


@pytest.mark.parametrize('r2', [0.9, 0.2, 0.11, -0.1])
def test_the_verdict_on_the_student_is_a_check(tmp_path, r2):
    folder = distillation(tmp_path / 'a')
    before = len(run_checks(read_run(folder)))
    initial = -0.9 if r2 < 0 else 0.2  # a constant is better than both
    probe = StudentProbe(
        given(r2), [given(initial, seed=1)] * 2, given(0.9), 3
    )
    if r2 == 0.11:  # within the noise
        probe = probe._replace(initial=[given(0.1, seed=1)] * 2)
    text = describe_student(probe, 'accuracy')
    (folder / 'verdict.txt').write_text(text)
    checks = run_checks(read_run(folder))
    (check,) = (c for c in checks if 'than an untrained one' in c.passed)
    assert len(checks) == before + 1
    assert bool(check.warning) == (r2 == 0.2)
    assert bool(check.skipped) == (r2 in (0.11, -0.1))


def test_what_the_student_explains_is_said(tmp_path):
    checks = run_checks(read_run(distillation(tmp_path / 'a', explained=0.43)))
    words = "the student explains 43% of the variance of the teacher's"
    assert checks[-1].passed.startswith(words)


def test_nothing_passes_that_was_not_logged(tmp_path):
    run = read_run(distillation(tmp_path / 'a'))
    run.curves = {}
    del run.records[-1]['explained_variance']
    checks = {c.passed: c for c in run_checks(run)}
    assert checks['all logged losses are finite'].skipped == 'none was logged'
    assert 'HintLoss' in run_checks(run)[-1].skipped
    run.curves = dict(feature_relative_std=[(10, float('nan'))])
    checks = {c.passed: c for c in run_checks(run)}
    differ = checks["the teacher's features differ between images"]
    assert differ.skipped == 'feature_relative_std is nan'


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(points=15, pictures=[]), 'running: 150 of 200 iterations'),
        (dict(fall=0.0), 'loss did not decrease'),
        (dict(), None),
    ],
)
def test_each_failure_of_a_teacher_has_its_own_warning(
    tmp_path, change, words
):
    checks = run_checks(read_run(teacher(tmp_path / 'a', **change)))
    assert len(checks) == 3
    assert not any(c.skipped for c in checks)
    warnings = [c.warning for c in checks if c.warning]
    assert [words in warning for warning in warnings] == [True] * bool(words)


@pytest.mark.parametrize(
    ('settings', 'saved', 'expected'),
    [
        (dict(train_cfg=dict(max_iters=200)), 'iter_190.pth', '200 of 200'),
        (dict(train_cfg=dict(max_iters=200)), 'epoch_9.pth', '200 of 200'),
        (dict(train_cfg=dict(max_iters=300)), 'x/iter_300.pth', '300 of 300'),
        (dict(train_cfg=dict(max_epochs=9)), 'epoch_9.pth', '9 of 9 epochs'),
        (dict(train_cfg=dict(max_epochs=9)), '', '0 of 9 epochs'),
        (dict(train_cfg=dict(type='Loop')), '', '200 of ? iterations'),
    ],
)
def test_the_progress_of_a_teacher_is_that_of_its_newest_file(
    tmp_path, settings, saved, expected
):
    folder = teacher(tmp_path / 'a', **settings)
    (folder / 'last_checkpoint').write_text(saved)
    assert str(read_progress(read_run(folder))).startswith(expected)
