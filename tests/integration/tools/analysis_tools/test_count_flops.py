"""FLOP of distillations, compared with published numbers."""

import diffusers
import pytest

from tests.helpers.launcher import run_main

SCRIPT = 'tools/analysis_tools/count_flops.py'
DIGITS = 'configs/distill/repfusion_resnet18_digits.py'


def test_the_flop_of_a_distillation_are_counted():
    output = run_main(
        SCRIPT, 'configs/distill/repfusion_r18_cifar.py',
        '--images', '50000', '--tflops', '100', '--gpus', '8', '64',
    ).output  # fmt: skip
    assert 'RANDOM' not in output  # weights, of which none are needed
    # ResNet-18 for CIFAR: 0.56 G multiply-adds, as mmpretrain publishes.
    assert 'teacher, up to its last layer         3.3' in output
    assert 'student, forward                      1.1' in output
    assert 'student, forward and backward         3.3' in output
    # ResNet-18 for CIFAR: 11.17 M parameters without its classifier.
    assert '11.2 M parameters' in output
    assert '44.7 MB a step' in output
    # 6.67 GFLOP x 128; 2 x 7/8 x 44.7 MB over 200 GB/s, 2 x 63/64 over 25.
    assert '8.5 ms of arithmetic a step and 0.4 ms of all-reduce' in output
    assert '3.5 ms of all-reduce, 41' in output
    # 6.7 GFLOP x 50,000 x 200 = 67 PFLOP; at 100 TFLOP/s 670 s.
    assert '67 PFLOP; at 100 TFLOP/s estimated 0.2 h on one GPU' in output


def test_iterations_are_counted(teacher_folder):
    options = [
        f'model.teacher.pretrained={teacher_folder}',
        'train_cfg._delete_=True', 'train_cfg.by_epoch=False',
        'train_cfg.max_iters=1000000',
    ]  # fmt: skip
    done = run_main(SCRIPT, DIGITS, '--cfg-options', *options)
    assert '1000000 iterations of 64 images: ' in done.last_line
    assert ' 0 PFLOP' not in done.last_line
    done = run_main(
        SCRIPT, DIGITS, '--images', 5, '--cfg-options', *options, expect=1
    )
    assert 'got 1000000 iterations' in done.last_line


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--teachers', '--gpus', 2, '--tflops', 9], 'no --tflops, --gpus'),
        ([DIGITS, '--bandwidth', 1, 2], 'expected --gpus with --bandwidth'),
    ],
)
def test_options_that_would_do_nothing_are_refused(flags, message):
    assert message in run_main(SCRIPT, *flags, expect=2).output


def test_a_teacher_on_disk_is_counted(teacher_folder):
    option = f'model.teacher.pretrained={teacher_folder}'
    done = run_main(SCRIPT, DIGITS, '--cfg-options', option)
    assert 'per image of 16 x 16' in done.output


def test_a_teacher_in_a_pipeline_is_counted(teacher_folder, tmp_path):
    denoiser = diffusers.UNet2DModel.from_pretrained(teacher_folder)
    diffusers.DDPMPipeline(
        denoiser, diffusers.DDIMScheduler(num_train_timesteps=50)
    ).save_pretrained(tmp_path)
    counted = [
        run_main(SCRIPT, DIGITS, '--cfg-options',
                 f'model.teacher.pretrained={folder}').output
        for folder in (teacher_folder, tmp_path)
    ]  # fmt: skip
    ours, theirs = (text.partition('per image')[2] for text in counted)
    assert ours == theirs != ''


def test_an_unknown_teacher_is_refused():
    option = 'model.teacher.pretrained=nowhere'
    done = run_main(SCRIPT, DIGITS, '--cfg-options', option, expect=1)
    assert "at 'nowhere', got no such folder" in done.last_line


def test_a_layer_without_a_map_is_refused():
    option = 'model.teacher.layers=[time_embedding]'
    done = run_main(SCRIPT, DIGITS, '--cfg-options', option, expect=1)
    assert "output a map, got ['time_embedding']" in done.last_line


def test_a_config_without_a_teacher_is_refused():
    done = run_main(SCRIPT, 'configs/teacher/ddpm_digits.py', expect=1)
    assert 'without model.teacher' in done.last_line


def test_teachers_are_compared_in_a_table():
    done = run_main(
        SCRIPT, '--teachers', 'ddpm_cifar10', 'dinov2_b14',
        'google/ddpm-cifar10-32',
    )  # fmt: skip
    header, _, ddpm, dino, complete = (
        line.strip('| ').split(' | ') for line in done.output.splitlines()
    )
    assert complete[1:5] == ['`conv_out`', '32', '3 x 32 x 32', '12.4 (12.4)']
    assert header[:4] == ['teacher', 'layer', 'pixels', 'map']
    assert ddpm[2:5] == ['32', '256 x 4 x 4', '3.3 (12.4)']
    assert dino[1:5] == [
        '`blocks.11`', '224', '768 x 16 x 16', '47.1 (47.1)',
    ]  # fmt: skip
