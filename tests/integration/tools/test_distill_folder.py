"""From a folder of images and labels to a verdict, with one command."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.device import get_device

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.models.teachers.dtype import resolve_dtype
from repfusion_mm.own_images import job
from repfusion_mm.own_images.command import parse_args
from repfusion_mm.own_images.config import fill_in
from tests.helpers.launcher import run_main
from tests.helpers.own_images import OPTIONS, make_folder
from tests.helpers.toy import save_teacher

SCRIPT = 'tools/distill_folder.py'
STUDENT = (
    '--student', 'mmpretrain.ResNet_CIFAR', 'depth=18', 'stem_channels=4',
    'base_channels=4',
)  # fmt: skip


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_folder(tmp_path)


@pytest.fixture
def teacher(tmp_path):
    return save_teacher(tmp_path / 'teacher')


def run(root, task, teacher, *flags, expect=0, options=()):
    flags = [*OPTIONS.get(task, ()), *flags]
    return run_main(
        SCRIPT, root / 'images', *flags, '--teacher', teacher,
        '--epochs', '1', '--work-dir', root / 'out', *STUDENT,
        '--cfg-options', 'train_dataloader.num_workers=0', *options,
        expect=expect,
    )  # fmt: skip


@pytest.mark.parametrize(
    'task',
    ['classes', None]
    + [
        pytest.param(task, marks=pytest.mark.slow)
        for task in ('folders', 'masks', 'keypoints', 'boxes')
    ],
)
def test_a_student_is_distilled_and_judged(root, teacher, task):
    done = run(root, task, teacher, '--ignore-verdict')
    student = load_from_local(root / 'out/student.pth')['state_dict']
    assert student['conv1.weight'].shape == (4, 3, 3, 3)
    verdict = (root / 'out/verdict.txt').read_text()
    assert verdict in done.output
    assert f"checkpoint='{root}/out/student.pth'" in verdict
    assert ('untrained student: ' in verdict) == (task is not None)
    assert ('Without labels, nothing tells' in done.output) == (task is None)
    config = root / 'out/distill.py'
    policy = Config.fromfile(config).model.policy
    if task is None:
        assert policy.type.endswith('UniformTimestepPolicy')
    else:
        assert f' t = {policy.timestep}, ' in done.output
    # The comments are kept, which the config that mmengine dumps has not.
    assert config.read_text().startswith('# Written by: distill_folder.py')


@pytest.mark.parametrize(
    ('flags', 'expected'), [([], 504), (['--max-images', '9'], 9)]
)
def test_the_probe_reads_four_images_of_each_class(
    tmp_path, teacher, flags, expected, monkeypatch
):
    """Of 500 of many classes, too many would be the only one."""
    for i in range(126):
        (tmp_path / 'images' / f'{i:03}').mkdir(parents=True)
        for k in range(2):
            path = tmp_path / 'images' / f'{i:03}' / f'{k}.png'
            cv2.imwrite(str(path), np.full((8, 8, 3), i + k, np.uint8))
    words = [str(tmp_path / 'images'), '--labels', 'folders', *flags]
    args = parse_args([*words, '--teacher', teacher])
    assert job.prepare(args, []).max_images == expected
    if not flags:
        monkeypatch.setattr(job, 'MAX_BYTES', 503 * 12 * 16**2)
        assert job.prepare(args, []).max_images == 503
    args = parse_args([*words[:1], '--teacher', teacher])
    assert job.prepare(args, []).max_images == 500


def test_the_number_of_probed_images_is_set(root, teacher):
    flags = ['--max-images', '6', '--ignore-verdict']
    done = run(root, 'classes', teacher, *flags)
    assert 'probing the teacher on 6 labeled images' in done.output
    assert '6 labeled images' in (root / 'out/probe.txt').read_text()


def test_a_project_gets_configs_for_its_student(root, teacher):
    """The student sees the pixels of the project, and is not overwritten."""
    config = root / 'mine.py'
    config.write_text(
        "default_scope = 'mmpretrain'\n"
        'data_preprocessor = dict(\n'
        '    mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=False)\n'
        "model = dict(type='ImageClassifier', backbone=dict(\n"
        "    type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4))"
    )
    flags = [
        root / 'images', '--teacher', teacher, '--epochs', '1', '--work-dir',
        root / 'out', '--student', config,
    ]  # fmt: skip
    options = ['--cfg-options', 'train_dataloader.num_workers=0']
    run_main(SCRIPT, *flags, *options)
    model = Config.fromfile(root / 'out/distill.py').model
    assert model.data_preprocessor.std == [4.0, 5.0, 6.0]
    assert not model.data_preprocessor.bgr_to_rgb
    assert model.channel_order == 'bgr'
    assert model.normalizer.num_images == 24
    used = Config.fromfile(root / 'out/finetune.py')
    checkpoint = used.model.backbone.init_cfg.checkpoint
    assert checkpoint == str(root / 'out/student.pth')
    assert used.data_preprocessor.mean == [1.0, 2.0, 3.0]
    assert (
        'init_cfg'
        not in Config.fromfile(root / 'out/finetune_scratch.py').model.backbone
    )
    done = run_main(SCRIPT, *flags, *options, expect=1)
    assert 'expected a --work-dir without a student' in done.last_line
    done = run_main(SCRIPT, *flags, '--resume', *options)
    assert str(root / 'out/finetune.py') in done.output


def test_a_student_with_a_prefix_is_judged_and_loaded(root, teacher):
    hook = "default_hooks.export_student.prefix='backbone.'"
    run(root, 'classes', teacher, '--ignore-verdict', options=[hook])
    student = load_from_local(root / 'out/student.pth')['state_dict']
    assert 'backbone.conv1.weight' in student
    verdict = (root / 'out/verdict.txt').read_text()
    assert 'distilled student: accuracy' in verdict
    assert "prefix='backbone.'" in verdict


def test_a_teacher_of_no_use_is_not_distilled(root, teacher, monkeypatch):
    monkeypatch.setattr(job, 'build_runner', None)
    done = run(root, 'classes', teacher, expect=1)
    assert 'Do not distill from this teacher yet' in done.output
    assert (root / 'out/probe.csv').exists()
    text = (root / 'out/probe.txt').read_text()
    assert text.startswith('24 labeled images\nbest: accuracy')


def test_a_dry_run_only_writes_the_config(root, teacher, monkeypatch):
    monkeypatch.setattr(job, 'Prober', None)
    done = run(root, 'masks', teacher, '--dry-run')
    assert '24 images, median of the shorter sides 16 pixels' in done.output
    cfg = Config.fromfile(root / 'out/distill.py')
    assert '_base_' not in (root / 'out/distill.py').read_text()
    assert cfg.model.teacher.pretrained == teacher
    assert cfg.train_dataloader.batch_size == 6
    assert cfg.probe_dataset.masks == str(root / 'masks')
    assert cfg.model.distill_loss.pooled is False


def test_a_dry_run_keeps_the_timestep_of_an_earlier_call(root, teacher):
    run(root, 'classes', teacher, '--dry-run')
    config = root / 'out/distill.py'
    policy = Config.fromfile(config).model.policy
    assert policy.timestep is None
    text = config.read_text().replace('timestep=None', 'timestep=250')
    config.write_text(text)
    run(root, 'classes', teacher, '--dry-run')
    assert config.read_text() == text


def test_a_work_dir_among_the_options_is_refused(root, teacher):
    done = run(
        root, None, teacher, '--dry-run', expect=1, options=['work_dir=mine']
    )
    assert 'got --cfg-options work_dir=mine; give --work' in done.last_line


@pytest.mark.skipif(
    resolve_dtype('auto', torch.device(get_device())) == torch.bfloat16,
    reason='this processor has mixed precision',
)
def test_mixed_precision_is_refused_before_the_probe(
    root, teacher, monkeypatch
):
    monkeypatch.setattr(job, 'Prober', None)
    done = run(root, 'classes', teacher, '--amp', expect=1)
    assert 'expected a GPU, or a CPU with AVX512-BF16' in done.last_line


def test_bad_labels_stop_before_anything_is_written(root, teacher):
    (root / 'labels.txt').write_text('1.jpg 0\n')
    done = run(root, 'classes', teacher, expect=1)
    assert done.last_line.startswith('ValueError: expected images in ')
    assert not (root / 'out').exists()


def test_a_work_dir_among_the_images_is_refused(root, teacher, monkeypatch):
    """Its pictures would be images, and its folders classes."""
    monkeypatch.chdir(root / 'images')
    done = run_main(SCRIPT, '.', '--teacher', teacher, '--dry-run', expect=1)
    assert 'expected a --work-dir outside of ' in done.last_line
    assert not (root / 'images/work_dirs').exists()


def test_a_work_dir_of_other_settings_is_refused(root, teacher):
    run(root, 'classes', teacher, '--dry-run')
    before = (root / 'out/distill.py').read_text()
    run(root, 'classes', teacher, '--dry-run')
    done = run(
        root, 'classes', teacher, '--dry-run', expect=1,
        options=['optim_wrapper.student.optimizer.lr=0.01'],
    )  # fmt: skip
    name = 'optim_wrapper.student.optimizer.lr'
    assert f'got {name}=0.01 (there 0.1); restore' in done.last_line
    assert (root / 'out/distill.py').read_text() == before


def test_an_option_that_no_model_has_does_not_stay(root, teacher):
    option = 'model.policy.timestep=70'  # without labels, it is uniform
    done = run(root, None, teacher, options=[option], expect=1)
    assert 'timestep' in done.last_line
    assert not (root / 'out/distill.py').exists()


def test_a_dry_run_sets_the_length_of_later_calls(root, teacher):
    """The default depends on the device."""
    flags = [SCRIPT, root / 'images', '--teacher', teacher, '--dry-run',
             '--work-dir', root / 'out', *STUDENT]  # fmt: skip
    run_main(*flags, '--epochs', '7')
    assert '7 epochs of' in run_main(*flags).output


def test_modules_of_the_config_of_a_student_are_imported(
    root, teacher, monkeypatch
):
    monkeypatch.syspath_prepend(str(root))
    (root / 'my_nets.py').write_text(
        'from mmpretrain.registry import MODELS\n'
        'from mmpretrain.models import ResNet\n\n\n'
        "@MODELS.register_module(name='MyNet', force=True)\n"
        'class Net(ResNet):\n    pass\n'
    )
    config = root / 'mine.py'
    config.write_text(
        "custom_imports = dict(imports='my_nets')\n"
        "model = dict(backbone=dict(type='mmpretrain.MyNet', depth=18))\n"
    )
    run_main(
        SCRIPT, root / 'images', '--teacher', teacher, '--dry-run',
        '--work-dir', root / 'out', '--student', config,
    )  # fmt: skip
    cfg = Config.fromfile(root / 'out/distill.py', import_custom_modules=False)
    assert cfg.custom_imports.imports == ['repfusion_mm', 'my_nets']


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--student', 'mmpretrain.ResNet', 'depth=51'], 'invalid depth 51'),
        (['--student', 'mmpretrain.ResNet', 'dept=18'], "argument 'dept'"),
        (['--student', 'none.py'], 'expected a config as --student'),
    ],
)
def test_arguments_are_checked_first(
    root, teacher, tmp_path, arguments, words
):
    """What is refused does not stay in the folder."""
    done = run_main(
        SCRIPT, root / 'images', *OPTIONS['classes'], '--teacher', teacher,
        '--dry-run', '--work-dir', tmp_path, *arguments, expect=1,
    )  # fmt: skip
    assert words in done.last_line
    assert 'Traceback' not in done.output
    assert not (tmp_path / 'distill.py').exists()


def test_a_timestep_is_checked_before_the_probe(root, teacher, monkeypatch):
    monkeypatch.setattr(job, 'study_teacher', None)
    done = run(
        root, 'classes', teacher, expect=1,
        options=['model.policy.timestep=5000'],
    )  # fmt: skip
    assert 'expected' in done.last_line and '5000' in done.last_line


def test_an_empty_path_of_labels_is_refused(root, teacher):
    done = run_main(
        SCRIPT, root / 'images', '--teacher', teacher, '--masks', '', expect=2
    )
    assert 'expected a path for --masks' in done.last_line


def test_the_teacher_is_judged_at_the_timestep_of_the_student(root, teacher):
    run(
        root, 'classes', teacher, '--ignore-verdict',
        options=['model.policy.timestep=70'],
    )  # fmt: skip
    verdict = (root / 'out/verdict.txt').read_text()
    assert '\nteacher at t = 70: accuracy' in verdict


def test_options_of_the_config_reach_probe_and_training(root, teacher):
    other = save_teacher(root / 'other', block_out_channels=(8, 12))
    done = run(
        root, 'classes', teacher, '--ignore-verdict',
        options=[f'model.teacher.pretrained={other}'],
    )  # fmt: skip
    # Of the probe, the training, and the probe of the student.
    assert done.output.count(f'teacher: {other} ') == 3
    assert f'teacher: {teacher} ' not in done.output
    # The config is that of the run.
    cfg = Config.fromfile(root / 'out/distill.py')
    assert cfg.model.teacher.pretrained == other
    assert cfg.train_dataloader.num_workers == 0


@pytest.mark.parametrize(
    ('variables', 'message'),
    [
        (dict(task='mask'), r"'keypoints' or 'boxes', got 'mask'"),
        (dict(task='boxes', labels='a.json'), 'expected names of the boxes'),
    ],
)
def test_variables_without_effect_are_refused(variables, message):
    with pytest.raises(ValueError, match=message):
        fill_in(variables, 'ddpm_custom')


def test_the_template_has_one_line_for_each_variable():
    with pytest.raises(ValueError, match=r'expected one line "nothing'):
        fill_in(dict(nothing=1), 'ddpm_custom')
    folder = 'a\\b"c {{ fileDirname }}'  # of which mmengine replaces a part
    cfg = fill_in(dict(data_root=folder, names=("d'e",)), 'sd15')
    assert cfg.data_root == folder
    assert cfg.names == ("d'e",)
    assert cfg.model.teacher.pretrained.startswith('stable-diffusion-v1-5')
