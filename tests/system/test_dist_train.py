"""A distillation in two processes on the CPU."""

from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.launcher import free_port, launch
from tests.helpers.toy import save_cifar10, save_teacher
from tests.integration.test_cifar_job import (
    DATA,
    DISTILL,
    MINI_DISTILL,
    assert_loads_completely,
    assert_same_end,
    copy_interrupted,
)


def test_it_trains_and_resumes_in_two_processes(tmp_path):
    save_cifar10(tmp_path / 'cifar10')
    save_teacher(tmp_path / 'ddpm', sample_size=32)

    def train(work_dir):
        return launch(
            'tools/dist_train.sh', DISTILL, 2, '--work-dir', work_dir,
            '--resume', '--cfg-options', *MINI_DISTILL,
            f'{DATA}.data_root={tmp_path / "cifar10"}',
            f'model.teacher.pretrained={tmp_path / "ddpm"}',
            PORT=str(free_port()),
        )  # fmt: skip

    complete = tmp_path / 'complete'
    output = train(complete)
    assert 'Distributed training: True' in output
    assert 'GPU number: 2' in output
    resumed = copy_interrupted(complete, tmp_path / 'resumed')
    output = train(resumed)
    assert 'resumed epoch: 1' in output
    assert 'Epoch(train) [1]' not in output
    assert_same_end(complete, resumed)
    checkpoint = load_from_local(resumed / 'epoch_2.pth')
    # 40 images, 2 processes of 8: two complete batches in each of two epochs.
    assert checkpoint['meta']['iter'] == 4
    roots = {key.split('.')[0] for key in checkpoint['state_dict']}
    assert roots == {'student', 'connectors', 'policy', 'decoder'}
    assert_loads_completely(resumed / 'student.pth', 'repfusion_mm')
    assert_loads_completely(resumed / 'student.pth', None)
