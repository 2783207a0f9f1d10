"""The benchmark of a step on the digits, whose teacher is in the project."""

import functools
import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from repfusion_mm.analysis import measuring, reference_step
from tests.helpers.launcher import ROOT, load_script, run_main
from tests.helpers.toy import DENOISER, batch

SCRIPT = 'tools/benchmarks/step.py'
CONFIG = ROOT / 'configs/distill/repfusion_resnet18_digits.py'
FLAGS = ['--rounds', '2', '--warmup', '1', '--batch', '4']
script = load_script(SCRIPT)
#: A latent teacher of images of 16 x 16.
LATENT = dict(
    type='repfusion_mm.DiffusersTeacher',
    config=dict(
        type='DiTTransformer2DModel',
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        num_layers=2,
        sample_size=8,
    ),
    vae=dict(
        type='AutoencoderKL',
        block_out_channels=(8, 16),
        down_block_types=2 * ['DownEncoderBlock2D'],
        up_block_types=2 * ['UpDecoderBlock2D'],
        norm_num_groups=4,
    ),
    layers=['transformer_blocks.0'],
)


#: Several layers, which are not listed in the order in which they run.
LEVELS = {
    'model.student.out_indices': (2, 3),
    'model.student_indices': (0, 1),
    'model.teacher.layers': ['up_blocks.0', 'mid_block'],
    'model.connector.type': 'repfusion_mm.FeatureRegressor',
    'model.connector.channels': 8,
    'model.connector.pool_scales': (1, 2),
    'model.layer_weights': [2, 0.5],
    'model.decoder_layers': 'all',
}


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)  # the config's teacher has a relative path
    for module in (measuring, reference_step):
        monkeypatch.setattr(module, 'DEVICE', 'cpu')


@pytest.fixture
def cfg():
    return Config.fromfile(CONFIG)


@pytest.fixture
def in_process(monkeypatch):
    """Measure no memory, which needs processes, and small products only."""
    memory = dict(steps=5, model=1.0, peak=2.0, grown=0.0)
    monkeypatch.setattr(script, 'measure_memory', lambda name, args: memory)
    rate = functools.partial(measuring.measure_matmul_rate, side=64)
    monkeypatch.setattr(measuring, 'measure_matmul_rate', rate)


def check_figures(result):
    """Check that the figures of one run agree."""
    for step in result['steps'].values():
        assert 0 < step['least'] <= step['median'] <= step['largest']
        rate = 1e3 * result['batch'] / step['median']
        assert step['images_per_second'] == pytest.approx(rate)
    low, high = result['steps']['ours']['reference_over'][1:]
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
    flop = result['arithmetic']['step_flop']
    assert flop['floor'] < flop['ours'] < flop['reference']
    assert result['arithmetic']['seconds_at_these_rates'] > 0
    assert set(result['memory']) == {'reference', 'ours'}


def test_figures_of_one_run_agree(in_process, tmp_path):
    out = tmp_path / 'out.json'
    done = run_main(
        script, CONFIG, *FLAGS, '--json', out, '--runner', '3', '--sweep', '2',
        '6', '--variants', 'reference', 'complete U-Net', 'floor',
    )  # fmt: skip
    result = json.loads(out.read_text())
    names = ['reference', 'ours', 'complete U-Net', 'floor']
    assert list(result['steps']) == names
    check_figures(result)
    assert result['runner']['iterations'] == 3
    assert result['runner']['loop'] >= result['runner']['step'] > 0
    assert list(result['sweep']) == ['2', '6']
    for size, figures in result['sweep'].items():
        rate = 1e3 * int(size) / figures['median']
        assert figures['images_per_second'] == pytest.approx(rate)
        assert figures['peak'] > 1
    assert not result['random_teacher']
    assert 'reference_over_ours' in done.output
    assert 'expected the hooks' not in done.output


def test_steps_are_timed_round_by_round_after_a_warm_up():
    order = []
    steps = {
        name: SimpleNamespace(
            prepare=lambda batch: batch,
            run=lambda batch, name=name: order.append((name, batch)),
        )
        for name in ('ours', 'floor')
    }
    times = script.time_steps(steps, [0, 1, 2], rounds=2, warmup=1)
    untimed, *timed = order  # after a change of the memory policy
    assert untimed == ('ours', 0)
    assert [name for name, _ in timed] == ['ours', 'floor'] * 3
    assert [number for _, number in timed] == [1, 2, 0, 1, 2, 0]
    assert [len(ms) for ms in times.values()] == [2, 2]


def test_freed_memory_is_returned_for_the_reference_only(monkeypatch):
    policies = []
    monkeypatch.setattr(measuring, 'set_memory_policy', policies.append)
    step = SimpleNamespace(prepare=lambda batch: batch, run=lambda _: None)
    steps = dict.fromkeys(('reference', 'ours', 'floor'), step)
    script.time_steps(steps, [0], rounds=2, warmup=0)
    assert policies == [False, True] * 2


def test_random_weights_are_reported(in_process, tmp_path):
    config = Config.fromfile(CONFIG)
    config.model.teacher.pop('pretrained')
    config.model.teacher.config = DENOISER
    config.dump(tmp_path / 'config.py')
    done = run_main(
        script, tmp_path / 'config.py', *FLAGS, '--variants', 'ours'
    )
    assert "'random_teacher': True" in done.output


@pytest.mark.parametrize('levels', [{}, LEVELS], ids=['one', 'several'])
def test_ours_trains_the_student_of_the_reference(cfg, levels):
    """At the same timesteps, in float32, on CPU: bit-identical.

    With the student's channels outermost, torch's default, convolutions
    round differently.
    """
    cfg.merge_from_dict(levels)
    ours = script.Step('teacher in float32', cfg)
    initial = flatten(ours.model.student)
    references = []
    for memory_format in (torch.channels_last, torch.contiguous_format):
        step = script.Step('reference', cfg)
        for part in ('student', 'connectors'):
            weights = getattr(ours.model, part).state_dict()
            getattr(step.model, part).load_state_dict(weights)
        step.model.student.to(memory_format=memory_format)
        references.append(step)
    drawn = []
    ours.model.teacher.register_forward_pre_hook(
        lambda _, args: drawn.append(args[1])
    )
    for _ in range(5):
        data = batch(6)
        ours.run(ours.prepare(data))
        for step in references:
            step.run(step.prepare(data), drawn[-1])
    final = flatten(ours.model.student)
    same, other = (flatten(step.model.student) for step in references)
    assert torch.equal(same, final)
    assert (other - final).norm() < 1e-5 * final.norm()
    assert (initial - final).norm() > 1e-5 * final.norm()


def flatten(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_other_timesteps_train_another_student(cfg):
    students = []
    for timestep in (0, 900):
        step = script.Step('reference', cfg)
        torch.manual_seed(0)
        step.run(batch(6), torch.full((6,), timestep))
        students.append(flatten(step.model.student))
    assert not torch.equal(*students)


@pytest.mark.parametrize(
    'name', [n for n in script.NAMES if 'compiled' not in n]
)
def test_every_variant_computes_gradients(cfg, name):
    if name in script.CACHED:
        cfg.model.teacher = LATENT
    step = script.Step(name, cfg)
    before = flatten(step.model.student)
    step.run(step.prepare(batch(6)))
    if name.startswith('floor'):
        assert step.model.student.conv1.weight.grad.any()
    else:
        assert not torch.equal(flatten(step.model.student), before)


def test_depthwise_convolutions_are_counted_as_such(cfg, in_process):
    """torch counts their backward as that of dense convolutions."""
    cfg.model.student = dict(type='repfusion_mm.MobileNetV2_CIFAR')
    steps = {'ours': script.Step('ours', cfg)}
    found = script.count_arithmetic(steps, batch(6))
    student = measuring.count_flops(
        lambda: steps['ours'].model.student(torch.rand(6, 3, 16, 16))
    )
    floor = found['step_flop']['floor'] - found['teacher_flop']
    assert floor == pytest.approx(3 * student)


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--batch', '0'], "1 or more, got '0'"),
        (['--rounds', '0'], "1 or more, got '0'"),
        (['--variants', 'x'], "invalid choice: 'x'"),
    ],
)
def test_invalid_arguments_are_errors(flags, message):
    done = run_main(script, CONFIG, *flags, expect=2)
    assert message in done.output


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.teacher.input_mode=noised', "input_mode='clean'"),
        ('optim_wrapper.student.optimizer.type=AdamW', "type='SGD'"),
        ('optim_wrapper.accumulative_counts=2', 'accumulative_counts=1'),
    ],
)
def test_settings_that_the_reference_lacks_are_errors(option, message):
    done = run_main(script, CONFIG, *FLAGS, '--variants', 'reference',
                    '--cfg-options', option, expect=1)  # fmt: skip
    assert message in done.last_line


def test_impossible_numbers_of_images_are_refused_first(
    cfg, monkeypatch, tmp_path
):
    cfg.merge_from_dict(LEVELS)
    cfg.dump(tmp_path / 'config.py')
    monkeypatch.delattr(script, 'measure_steps')
    done = run_main(
        script, tmp_path / 'config.py', *FLAGS, '--sweep', '1', expect=1
    )
    assert 'two images or more for batch norm' in done.last_line


@pytest.mark.slow
@pytest.mark.compile
def test_a_failed_compilation_is_reported(no_compiler, in_process, tmp_path):
    out = tmp_path / 'out.json'
    done = run_main(script, CONFIG, *FLAGS, '--json', out,
                    '--variants', 'teacher compiled',
                    'student compiled')  # fmt: skip
    steps = json.loads(out.read_text())['steps']
    assert steps['teacher compiled']['not_compiled']
    assert steps['student compiled']['not_compiled']
    assert 'not_compiled' not in steps['ours']
    assert "'not_compiled': True" in done.output


@pytest.mark.parametrize(
    ('config', 'flags', 'message'),
    [
        ('nowhere.py', [], 'path of a config, got'),
        ('configs/teacher/ddpm_digits.py', [], 'without model.teacher'),
        (CONFIG, ['--cfg-options', 'model.teacher.pretrained=nowhere'],
         "on this disk, got 'nowhere'"),
        (CONFIG, ['--cfg-options', 'modle.teacher=1'], 'nothing would read'),
    ],
)  # fmt: skip
def test_unusable_inputs_are_errors(config, flags, message):
    done = run_main(script, config, *flags, expect=1)
    assert message in done.last_line


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--json', 'nowhere/out.json'], "exists, got 'nowhere/out.json'"),
        (['--cfg-options', 'foo'], 'expected key=value'),
    ],
)
def test_unusable_options_are_refused_before_the_work(flags, message):
    done = run_main(script, CONFIG, *flags, expect=2)
    assert message in done.last_line
