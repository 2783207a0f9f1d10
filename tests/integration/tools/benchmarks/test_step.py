"""The step's benchmark on the digits, whose teacher is shipped."""

import json

import pytest
import torch
from benchmark_distill import main
from measuring import count_flops, interleave, timed_parts
from mmengine.config import Config
from step_figures import count_arithmetic
from step_variants import CHANGES, build_step, compare_students, prepare

from tests.helpers.launcher import ROOT
from tests.helpers.toy import batch

CONFIG = ROOT / 'configs/distill/repfusion_r18_digits.py'
FLAGS = ['--device', 'cpu', '--rounds', '2', '--warmup', '1']


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)  # where projects/digits/ddpm_digits lies


@pytest.fixture
def cfg():
    return Config.fromfile(CONFIG)


def test_the_figures_are_of_one_run_and_fit_together(tmp_path, capsys):
    out = tmp_path / 'out.json'
    main([
        str(CONFIG), *FLAGS, '--batch', '8', '4', '--json', str(out),
        '--variants', 'reference', 'whole U-Net', 'floor',
        'freed memory given back',
        'teacher in bfloat16', 'teacher in float32',
        '--runner', '3', '--equal', '2', '--growth', '5',
    ])  # fmt: skip
    result = json.loads(out.read_text())
    steps = result['steps']
    assert list(steps) == [
        'reference', 'ours', 'teacher in float32', 'teacher in bfloat16',
        'whole U-Net', 'freed memory given back', 'floor',
    ]  # fmt: skip
    for step in steps.values():
        assert 0 < step['least'] <= step['median'] <= step['largest']
        rate = 8e3 / step['median']
        assert step['images_per_second'] == pytest.approx(rate)
    low, high = steps['ours']['reference_over'][1:]
    assert low <= result['reference_over_ours'] <= high
    assert result['ours_over_floor'] > 0
    parts = result['parts']
    assert set(parts) == {
        'data', 'teacher', 'student', 'policy and decoder', 'backward',
        'optimizers', 'rest', 'all',
    }  # fmt: skip
    assert all(part['median'] > 0 for part in parts.values())
    named = sum(p['median'] for n, p in parts.items() if n != 'all')
    assert named == pytest.approx(parts['all']['median'], rel=0.3)
    flops = result['arithmetic']['step_flop']
    assert flops['floor'] < flops['ours'] < flops['reference']
    error = result['feature_error']['teacher in bfloat16']
    assert 0 < error['pooled'] < error['maps'] < 0.02
    assert set(result['memory']) == {'reference', 'ours'}
    assert result['growth']['steps'] == 5
    assert [row['batch'] for row in result['batches']] == [8, 4]
    assert result['student_difference']['channels innermost'] == 0
    assert result['runner']['loop'] >= result['runner']['step'] > 0
    output = capsys.readouterr().out
    assert 'teacher: its own weights' in output
    assert 'stand-in pictures' in output or 'the data on this disk' in output


def test_random_weights_are_said(tmp_path, capsys):
    main([
        str(ROOT / 'configs/distill/repfusion_r18_cifar.py'), *FLAGS,
        '--rounds', '1', '--batch', '2', '--variants', 'ours',
    ])  # fmt: skip
    assert 'teacher: RANDOM weights' in capsys.readouterr().out


def test_ours_trains_the_student_of_the_public_algorithm(cfg):
    batches = [batch(6) for _ in range(2)]
    found = compare_students(cfg, batches, 5, 'cpu')
    assert found['channels innermost'] == 0
    assert found['channels outermost'] < 1e-5 < found['moved']


def test_other_timesteps_would_give_another_student(cfg):
    """The comparison of students can fail."""
    reference = build_step('reference', cfg, 'cpu')
    students = []
    for timestep in (0, 900):
        step = build_step('reference', cfg, 'cpu')
        torch.manual_seed(0)
        step.run(batch(6), torch.full((6,), timestep))
        students.append(step.model.student.conv1.weight)
    assert not torch.equal(*students)
    assert not torch.equal(reference.model.student.conv1.weight, students[0])


@pytest.mark.parametrize(
    'name', [n for n in CHANGES if n not in ('teacher compiled',)]
)
def test_every_variant_trains(cfg, name):
    step = build_step(name, cfg, 'cpu')
    before = step.model.student.conv1.weight.clone()
    step.run(prepare(step, name, batch(6)))
    assert not torch.equal(step.model.student.conv1.weight, before)


def test_steps_are_timed_in_turn_and_parts_apart():
    order = []

    class Worker:
        def part(self):
            order.append('part')

    worker = Worker()
    runs = {n: lambda n=n: lambda: order.append(n) for n in 'ab'}
    times = interleave(runs, 2, 1, 'cpu')
    assert order == ['a', 'b'] * 3
    assert [len(seconds) for seconds in times.values()] == [2, 2]
    with timed_parts({'it': [(worker, 'part')]}, 'cpu') as seconds:
        worker.part()
    assert order[-1] == 'part' and seconds['it'] > 0
    assert 'part' not in vars(worker)


def test_flop_are_those_of_the_operation():
    left, right = torch.rand(2, 8, 8)
    assert count_flops(lambda: left @ right) == 2 * 8**3


def test_depthwise_convolutions_do_not_inflate_the_arithmetic(cfg):
    """torch counts their backward as if they were dense."""
    cfg.model.student = dict(type='repfusion_mm.MobileNetV2_CIFAR')
    steps = {'ours': build_step('ours', cfg, 'cpu')}
    found = count_arithmetic(steps, [batch(6)], 'cpu')
    student = count_flops(
        lambda: steps['ours'].model.student(torch.rand(6, 3, 16, 16))
    )
    flops = found['step_flop']['floor'] - found['teacher_flop']
    assert flops == pytest.approx(3 * student)


def test_unusable_arguments_are_refused(capsys):
    with pytest.raises(SystemExit, match=r'a file \*\.py'):
        main(['nowhere.py'])
    for flags in (['--batch', '0'], ['--rounds', '0'], ['--variants', 'x']):
        with pytest.raises(SystemExit):
            main([str(CONFIG), *flags])
    errors = capsys.readouterr().err
    assert errors.count("1 or more, got '0'") == 2
    assert "invalid choice: 'x'" in errors


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.teacher.input_mode=noised', "input_mode='clean'"),
        ('optim_wrapper.student.optimizer.type=AdamW', "type='SGD'"),
        ('optim_wrapper.accumulative_counts=2', 'accumulative_counts=1'),
    ],
)
def test_the_public_algorithm_has_no_such_option(option, message):
    with pytest.raises(SystemExit, match=message):
        main([str(CONFIG), *FLAGS, '--batch', '2', '--variants', 'reference',
              '--cfg-options', option])  # fmt: skip


def test_a_teacher_that_failed_to_compile_is_marked(no_compiler, capsys):
    result = main([str(CONFIG), *FLAGS, '--rounds', '1', '--batch', '2',
                   '--variants', 'teacher compiled'])  # fmt: skip
    assert result['steps']['teacher compiled']['not_compiled']
    assert 'not_compiled' not in result['steps']['ours']
    assert 'FAILED, not compiled' in capsys.readouterr().out.replace('\n', '')


def test_configs_that_distil_nothing_are_refused():
    other = ROOT / 'configs/teacher/ddpm_digits.py'
    with pytest.raises(SystemExit, match=r'without model\.teacher'):
        main([str(other), *FLAGS])
    with pytest.raises(SystemExit, match="on this disk, got 'nowhere'"):
        main([str(CONFIG), *FLAGS, '--cfg-options',
              'model.teacher.pretrained=nowhere'])  # fmt: skip
