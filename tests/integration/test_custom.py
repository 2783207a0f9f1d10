"""The configs for your own images, with their first lines edited."""

import re

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from repfusion_mm.engine.checkpoint.io import load_from_local
from tests.helpers.launcher import ROOT, run_main

TEACHERS = ROOT / 'configs/_base_/teachers'
SMALL = dict(batch_size=4, image_size=16)


def edited(config, out, teacher='ddpm_custom', **variables):
    """Copy a config, and change its teacher and variables at its top."""
    text = (ROOT / 'configs' / config).read_text()
    text = text.replace('teachers/ddpm_custom.py', f'teachers/{teacher}.py')
    for name, value in variables.items():
        text, count = re.subn(
            rf'^{name} = .*$', f'{name} = {value!r}', text, flags=re.M
        )
        assert count == 1, name
    out.write_text(text.replace("'../_base_", f"'{ROOT}/configs/_base_"))
    return out


@pytest.fixture
def images(tmp_path):
    """Twelve images of various sizes, in two folders."""
    root = tmp_path / 'mine'
    rng = np.random.default_rng(0)
    for i in range(12):
        folder = root / ('cats', 'dogs')[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (20 + i, 30 - i, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'{i}.jpg'), image)
    return root


def test_a_teacher_is_trained_and_exported(images, tmp_path):
    config = edited(
        'teacher/ddpm_custom.py',
        tmp_path / 'ddpm.py',
        data_root=str(images),
        max_iters=2,
        **SMALL,
    )
    run_main(
        'tools/train.py', config,
        '--work-dir', tmp_path / 'ddpm', '--cfg-options',
        'train_dataloader.num_workers=0', 'custom_hooks.1.num_steps=2',
        'model.denoiser.block_out_channels=[32,32,32,32]',
    )  # fmt: skip
    assert (tmp_path / 'ddpm' / 'teacher' / 'config.json').exists()
    assert list((tmp_path / 'ddpm').rglob('samples_2.png'))


@pytest.mark.parametrize('labels', ['labels.txt', 'folders', None])
def test_a_student_is_distilled(images, tmp_path, teacher_folder, labels):
    (images / 'labels.txt').write_text('cats/0.jpg 0\ndogs/1.jpg 1\n')
    config = edited(
        'distill/repfusion_custom.py',
        tmp_path / 'distill.py',
        data_root=str(images),
        labels=labels,
        timestep='learned' if labels else None,
        num_classes=2,
        max_epochs=1,
        student=dict(type='mmpretrain.ResNet', depth=18, base_channels=4),
        **SMALL,
    )
    output = run_main(
        'tools/train.py', config,
        '--work-dir', tmp_path / 'student', '--cfg-options',
        f'model.teacher.pretrained={teacher_folder}',
        'train_dataloader.num_workers=0',
        'default_hooks.logger.interval=1',
        'default_hooks.timestep_policy.num_records=1',
    ).output  # fmt: skip
    student = load_from_local(tmp_path / 'student' / 'student.pth')
    assert 'conv1.weight' in student['state_dict']
    assert ('reward' in output) == (labels is not None)
    assert ('policy: no parameters' in output) == (labels is None)


@pytest.mark.parametrize(
    ('labels', 'timestep', 'expected'),
    [
        ('labels.txt', 'learned', 'Learned'),
        ('labels.txt', 'uniform', 'Uniform'),
        ('labels.txt', None, 'Fixed'),
        (None, None, 'Uniform'),
    ],
)
@pytest.mark.parametrize(
    'teacher', sorted(path.stem for path in TEACHERS.glob('*.py'))
)
def test_one_line_names_the_teacher(
    tmp_path, teacher, labels, timestep, expected
):
    config = edited(
        'distill/repfusion_custom.py',
        tmp_path / 'distill.py',
        teacher,
        labels=labels,
        timestep=timestep,
    )
    base = Config.fromfile(TEACHERS / f'{teacher}.py')
    cfg = Config.fromfile(config)
    assert cfg.model.teacher == base.teacher
    images = cfg.train_dataloader.dataset.datasets[-1]
    assert images.pipeline[1].scale == base.teacher_size
    policy = cfg.model.policy.type.removeprefix('repfusion_mm.')
    if base.teacher.type == 'repfusion_mm.TimmTeacher' and timestep is None:
        expected = 'Fixed'
        assert cfg.model.policy.timestep == 0
    assert policy == f'{expected}TimestepPolicy'
    if policy == 'UniformTimestepPolicy':
        assert cfg.model.policy.low == base.timesteps.low
        assert cfg.model.policy.high == base.timesteps.high
    is_trained = policy == 'LearnedTimestepPolicy'
    assert ('decoder' in cfg.model) == is_trained
    assert (cfg.optim_wrapper.decoder is not None) == is_trained


@pytest.mark.parametrize('labels', ['labels.txt', 'folders', None])
def test_a_timestep_replaces_the_policy(tmp_path, labels):
    config = edited(
        'distill/repfusion_custom.py', tmp_path / 'distill.py',
        timestep=300, labels=labels,
    )  # fmt: skip
    cfg = Config.fromfile(config)
    expected = dict(type='repfusion_mm.FixedTimestepPolicy', timestep=300)
    assert cfg.model.policy == expected
    assert 'decoder' not in cfg.model
    assert len(cfg.train_dataloader.dataset.datasets) == 1
    assert cfg.train_dataloader.sampler.type == 'DefaultSampler'
    assert ('probe_dataset' in cfg) == (labels is not None)


@pytest.mark.parametrize('labels', [None, ''])
def test_a_policy_is_not_rewarded_without_labels(
    images, tmp_path, teacher_folder, labels
):
    """The folders of the images are no classes then."""
    config = edited(
        'distill/repfusion_custom.py', tmp_path / 'distill.py',
        data_root=str(images), labels=labels, timestep='learned', **SMALL,
    )  # fmt: skip
    done = run_main(
        'tools/train.py', config,
        '--work-dir', tmp_path / 'student', '--cfg-options',
        f'model.teacher.pretrained={teacher_folder}',
        'train_dataloader.num_workers=0', expect=1,
    )  # fmt: skip
    assert 'expected labeled images' in done.last_line
    assert 'with no labels' in done.last_line


def test_labels_without_a_timestep_are_probed(
    images, tmp_path, teacher_folder
):
    """The run is refused, and the probe prints what to set."""
    names = [f'cats/{i}.jpg' for i in range(6)]
    image = cv2.imread(str(next(images.rglob('*.jpg'))))
    for i, name in enumerate(names):
        shade = cv2.add(image, np.full_like(image, 100 * (i % 2)))
        cv2.imwrite(str(images / name), shade)
    lines = [f'{name} {i % 2}' for i, name in enumerate(names)]
    (images / 'labels.txt').write_text('\n'.join(lines))
    config = edited(
        'distill/repfusion_custom.py', tmp_path / 'distill.py',
        data_root=str(images), **SMALL,
    )  # fmt: skip
    options = [
        '--work-dir', tmp_path / 'student', '--cfg-options',
        f'model.teacher.pretrained={teacher_folder}',
        'train_dataloader.num_workers=0',
    ]  # fmt: skip
    done = run_main('tools/train.py', config, *options, expect=1)
    assert 'expected a timestep' in done.last_line
    assert 'probe_timesteps.py' in done.last_line
    script = 'tools/analysis_tools/probe_timesteps.py'
    done = run_main(script, config, '--timesteps', '0', '500', *options)
    assert '6 labeled images' in done.output
    # Six labels are too few to recommend a timestep.
    assert 'too few to test' in done.output
