import pytest
import torch

from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.own_images.choices import (
    choose_length,
    choose_student,
    describe_training,
    find_teacher,
)
from tests.helpers.pipelines import sd
from tests.helpers.toy import save_teacher


def test_published_teachers_have_names():
    teacher = find_teacher('dinov2_b14')
    assert (teacher.base, teacher.size) == ('dinov2_b14', 224)
    assert not teacher.options


def test_a_folder_is_a_teacher(tmp_path):
    folder = save_teacher(tmp_path / 'mine')
    teacher = find_teacher(folder)
    assert (teacher.base, teacher.size) == ('ddpm_custom', 16)
    assert teacher.options['pretrained'] == folder
    assert teacher.options['layers'] == ['mid_block.resnets.1.conv2']


def test_the_size_of_a_latent_teacher_is_that_of_its_images(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # the embedding of the prompt is written there
    sd.save('pipeline')
    teacher = find_teacher('pipeline')
    built = DiffusersTeacher(**teacher.options)
    assert teacher.size == built.image_size == sd.SIDE
    assert teacher.options['layers'] == ['up_blocks.1']


def test_the_length_of_its_training_is_named(tmp_path):
    teacher = find_teacher(save_teacher(tmp_path / 'mine'))
    assert describe_training(teacher) == ''
    (tmp_path / 'mine/training.json').write_text('{"iterations": 50}')
    assert 'was trained for 50 iterations' in describe_training(teacher)
    assert describe_training(find_teacher('sd15')) == ''


def test_an_unknown_teacher_is_refused():
    with pytest.raises(ValueError, match=r"sd15, .* got 'sd16'"):
        find_teacher('sd16')


def test_the_student_suits_the_size():
    assert choose_student(None, 32)['type'] == 'mmpretrain.ResNet_CIFAR'
    assert choose_student(None, 224)['type'] == 'mmpretrain.ResNet'
    words = ['mmpretrain.ResNet', 'depth=50', 'out_indices=[2,3]']
    assert choose_student(words, 32) == dict(
        type='mmpretrain.ResNet',
        depth=50,
        out_indices=[2, 3],
    )
    words = ['mmpretrain.ResNet', 'depth=18', 'norm_cfg.type=GN',
             'norm_cfg.num_groups=4']  # fmt: skip
    norm_cfg = dict(type='GN', num_groups=4)
    assert choose_student(words, 32)['norm_cfg'] == norm_cfg
    # mmdet's is true by default.
    assert choose_student(['mmdet.ResNet'], 32)['norm_eval'] is False


def test_the_student_is_the_backbone_of_a_config(tmp_path):
    """Everything of it but weights and what would keep it from training."""
    config = tmp_path / 'mine.py'
    config.write_text(
        "default_scope = 'mmseg'\n"
        "norm_cfg = dict(type='SyncBN', requires_grad=True)\n"
        'model = dict(backbone=dict(\n'
        "    type='ResNetV1c', depth=18, norm_cfg=norm_cfg, frozen_stages=1,\n"
        "    norm_eval=True, pretrained='x', init_cfg=dict(type='Constant')))"
    )
    assert choose_student([str(config)], 64) == dict(
        type='mmseg.ResNetV1c',
        depth=18,
        norm_cfg=dict(type='BN', requires_grad=True),
        frozen_stages=-1,
        norm_eval=False,
    )
    config.write_text(
        "model = dict(backbone=dict(type='mmdet.CSPDarknet', norm_cfg=None))"
    )
    assert choose_student([str(config)], 64)['norm_cfg'] is None
    config.write_text('model = dict(backbone=dict(backbone_cfg=dict()))')
    with pytest.raises(
        ValueError, match=r'got backbone_cfg in it; give --student'
    ):
        choose_student([str(config)], 64)


def test_a_config_with_lazy_imports_is_refused(tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text(
        'from mmpretrain.models import ResNet\n'
        'model = dict(backbone=dict(type=ResNet, depth=18))\n'
    )
    with pytest.raises(ValueError, match='without lazy imports'):
        choose_student([str(config)], 64)


def test_an_unknown_student_is_refused():
    with pytest.raises(ValueError, match=r"got 'mmpretrain.ResNett'"):
        choose_student(['mmpretrain.ResNett'], 64)


@pytest.mark.parametrize('words', [['depth=50'], ['ResNet'], ['a.B', 'c']])
def test_a_student_without_a_type_is_refused(words):
    with pytest.raises(ValueError, match='expected --student TYPE'):
        choose_student(words, 32)


@pytest.mark.parametrize(
    ('num_images', 'batch_size', 'epochs'),
    [(8, 4, 200), (100, 25, 200), (2000, 64, 100), (10**6, 64, 1)],
)
def test_the_length_depends_on_the_images(num_images, batch_size, epochs):
    assert not torch.cuda.is_available()
    assert choose_length(num_images) == (batch_size, epochs)
