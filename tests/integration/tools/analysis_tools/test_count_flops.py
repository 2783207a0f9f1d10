"""Arithmetic, against what was published or counted independently."""

import diffusers
import pytest
import torch
from count_flops import main
from teacher_presets import KNOWN_TEACHERS

from tests.helpers.launcher import ROOT

#: Millions of parameters. DDPM (arXiv 2006.11239, app. B) gives 35.7 and 114;
#: of the two ADMs, the converter's tests count the true architecture.
SIZES = {
    'google/ddpm-cifar10-32': 35.7,
    'google/ddpm-ema-celebahq-256': 113.7,
    'data/teachers/imagenet64': 295.9,
    'data/teachers/imagenet256-uncond': 552.8,
}


@pytest.mark.parametrize('name', KNOWN_TEACHERS)
def test_known_teachers_are_of_the_published_size(name):
    config = dict(KNOWN_TEACHERS[name])
    with torch.device('meta'):
        denoiser = getattr(diffusers, config.pop('type'))(**config)
    millions = sum(p.numel() for p in denoiser.parameters()) / 1e6
    assert millions == pytest.approx(SIZES[name], abs=0.1)


def test_flop_of_a_distillation_are_counted(capsys):
    config = ROOT / 'configs/distill/repfusion_r18_cifar.py'
    main([str(config), '--images', '50000', '--tflops', '100',
          '--gpus', '8', '64'])  # fmt: skip
    output = capsys.readouterr().out
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


def test_a_teacher_on_disk_is_counted(capsys, teacher_folder):
    config = ROOT / 'configs/distill/repfusion_r18_digits.py'
    main([str(config), '--cfg-options',
          f'model.teacher.pretrained={teacher_folder}'])  # fmt: skip
    assert 'per image of 16 x 16' in capsys.readouterr().out
    with pytest.raises(SystemExit, match="on this disk, got 'nowhere'"):
        main([str(config), '--cfg-options',
              'model.teacher.pretrained=nowhere'])  # fmt: skip
    other = ROOT / 'configs/teacher/ddpm_digits.py'
    with pytest.raises(SystemExit, match=r'without model\.teacher'):
        main([str(other)])
