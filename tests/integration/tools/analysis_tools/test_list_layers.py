"""The list of a teacher's layers."""

from tests.helpers.launcher import run_main

SCRIPT = 'tools/analysis_tools/list_layers.py'


def rows(output):
    """Return the cells of each layer by its path."""
    lines = output.partition('\nlayer')[2].splitlines()[1:]
    return {line.split()[0]: line.split()[1:] for line in lines}


def test_the_layers_of_a_base_config_are_listed():
    output = run_main(SCRIPT, 'ddpm_cifar10', '--depth', '2').output
    assert 'images: 32 x 32 pixels' in output
    # DDPM (arXiv 2006.11239, appendix B).
    assert 'complete pass: 12.4 GFLOP, 35.7 M parameters' in output
    found = rows(output)
    # As test_count_flops.py counts for its second convolution.
    assert found['mid_block.resnets.1'][:6] == [
        '256', 'x', '4', 'x', '4', '3.3',
    ]  # fmt: skip
    assert 'mid_block.resnets.1.conv2' not in found
    assert 'time_embedding' not in output


def test_a_folder_is_listed_at_another_size(teacher_folder):
    output = run_main(
        SCRIPT, teacher_folder, '--input-size', '32', '48',
        '--filter', '*.conv2',
    ).output  # fmt: skip
    assert 'images: 32 x 48 pixels' in output
    assert all(name.endswith('.conv2') for name in rows(output))
    assert rows(output)['down_blocks.0.resnets.0.conv2'][1:5] == [
        'x', '32', 'x', '48',
    ]  # fmt: skip


def test_the_teacher_of_a_distillation_is_listed():
    config = 'configs/distill/repfusion_resnet18_digits.py'
    assert 'images: 16 x 16' in run_main(SCRIPT, config).output


def test_a_config_without_a_teacher_is_refused():
    done = run_main(SCRIPT, 'configs/teacher/ddpm_digits.py', expect=1)
    assert 'expected a config with model.teacher or teacher' in done.last_line


def test_similar_names_of_teachers_are_listed():
    done = run_main(SCRIPT, 'sdx', expect=1)
    assert "got 'sdx'; choose one of ['sdxl']" in done.last_line


def test_a_filter_that_matches_nothing_is_refused():
    done = run_main(SCRIPT, 'ddpm_cifar10', '--filter', 'nothing', expect=1)
    assert "a map, got 'nothing'" in done.last_line
