"""The configs for your own images, with their first lines edited."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from safetensors.torch import load_file

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.engine.preflight.categories import check_categories
from repfusion_mm.visualization.policy_log import read_records
from tests.helpers.equal import assert_equal
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.own_images import CLASSES, make_folder

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


def train_teacher(work_dir, options=(), flags=(), expect=0, **variables):
    """Train with an edited copy of the config that has a fixed name."""
    config = edited(
        'teacher/ddpm_custom.py',
        work_dir.with_name('ddpm.py'),
        **{**SMALL, **variables},
    )
    return run_main(
        'tools/train.py', config, '--work-dir', work_dir, *flags,
        '--cfg-options', 'train_dataloader.num_workers=0',
        'custom_hooks.1.num_images=1', 'custom_hooks.1.num_steps=2', *options,
        expect=expect,
    )  # fmt: skip


def test_a_teacher_is_trained_and_exported(images, tmp_path):
    folder = tmp_path / 'ddpm'
    train_teacher(folder, data_root=str(images), max_iters=2)
    assert (folder / 'teacher' / 'config.json').exists()
    assert list(folder.rglob('samples_2.png'))


@pytest.mark.slow
def test_a_finished_teacher_can_be_trained_longer(images, tmp_path):
    """As if its length had been the larger one from the start."""
    options = ['custom_hooks.1.min_interval=1']
    long, short = tmp_path / 'long', tmp_path / 'short'
    train_teacher(long, options, data_root=str(images), max_iters=8)
    train_teacher(short, options, data_root=str(images), max_iters=4)
    before = (short / 'last_checkpoint').read_text()
    assert before.endswith('iter_4.pth')
    train_teacher(
        short, options, ['--resume'], data_root=str(images), max_iters=8
    )
    assert (short / 'last_checkpoint').read_text().endswith('iter_8.pth')
    first, second = (load_from_local(i / 'iter_8.pth') for i in (long, short))
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert_equal(second[part], first[part])
    weights = 'teacher/diffusion_pytorch_model.safetensors'
    assert_equal(load_file(short / weights), load_file(long / weights))
    for name in (f'samples_{i}.png' for i in range(1, 9)):
        pictures = [next(i.rglob(name)).read_bytes() for i in (long, short)]
        assert pictures[0] == pictures[1], name


def test_a_schedule_that_ends_with_the_training_is_not_continued(
    images, tmp_path
):
    options = [
        'param_scheduler.type=CosineAnnealingLR',
        'param_scheduler.by_epoch=False',
    ]
    folder = tmp_path / 'ddpm'
    train_teacher(folder, options, data_root=str(images), max_iters=2)
    done = train_teacher(
        folder, [*options, 'train_cfg.max_iters=3'], ['--resume'],
        data_root=str(images), max_iters=2, expect=1,
    )  # fmt: skip
    assert 'a run of 2 iterations' in done.last_line
    assert 'got 3: its schedules end with the run' in done.last_line
    assert 'T_max=2' in done.last_line
    assert 'start a new run with load_from=CHECKPOINT' in done.last_line


@pytest.mark.parametrize('image_size', [32, 64, 128])
@pytest.mark.parametrize(('size', 'millions'), [('small', 3), ('base', 27)])
def test_denoisers_of_both_sizes_run_on_all_sides(
    tmp_path, size, millions, image_size
):
    path = edited(
        'teacher/ddpm_custom.py', tmp_path / 'ddpm.py',
        size=size, image_size=image_size,
    )  # fmt: skip
    cfg = Config.fromfile(path)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)  # runs it on its sample_size
    assert model.denoiser.config.sample_size == image_size
    count = sum(p.numel() for p in model.denoiser.parameters())
    assert round(count / 1e6) == millions
    teacher = Config.fromfile(TEACHERS / 'ddpm_custom.py').teacher
    modules = dict(model.denoiser.named_modules())
    assert set(teacher.layers) <= modules.keys()


@pytest.mark.parametrize(
    ('variables', 'message'),
    [
        (dict(size='huge'), "size='small' or 'base', got 'huge'"),
        (dict(image_size=28), 'multiple of 8.*got 28'),
        (dict(image_size=0), 'multiple of 8.*got 0'),
        (dict(image_size='64'), "multiple of 8.*got '64'"),
    ],
)
def test_other_sizes_of_a_teacher_are_refused_first(
    tmp_path, variables, message
):
    folder = tmp_path / 'ddpm'
    done = train_teacher(folder, expect=1, **variables)
    assert re.search(message, done.last_line)
    assert not folder.exists()


def test_a_pretrained_teacher_is_finetuned(images, tmp_path, teacher_folder):
    folder = tmp_path / 'ddpm'
    variables = dict(data_root=str(images), pretrained=teacher_folder)
    train_teacher(folder, max_iters=1, **variables)
    before, now = (
        load_file(Path(i, 'diffusion_pytorch_model.safetensors'))
        for i in (teacher_folder, folder / 'teacher')
    )
    assert now.keys() == before.keys()
    for key, value in before.items():  # one step of AdamW
        torch.testing.assert_close(now[key], value, rtol=0, atol=3e-4)
    done = train_teacher(folder, expect=1, image_size=32, **variables)
    assert 'expected images of 16 x 16' in done.last_line
    assert 'image_size in configs/teacher' in done.last_line


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
    ('task', 'labels', 'variables'),
    [
        ('masks', 'masks', dict(num_classes=3)),
        ('keypoints', 'points.json', dict(names=('left', 'right', 'bottom'))),
        ('boxes', 'boxes.json', dict(names=CLASSES)),
    ],
)
def test_labels_of_positions_reward_the_policy(
    tmp_path, teacher_folder, task, labels, variables
):
    root = make_folder(tmp_path)
    config = edited(
        'distill/repfusion_custom.py', tmp_path / 'distill.py',
        data_root=str(root / 'images'), task=task, labels=str(root / labels),
        timestep='learned', max_epochs=1,
        student=dict(type='mmpretrain.ResNet', depth=18, base_channels=4),
        **variables, **SMALL,
    )  # fmt: skip
    cfg = Config.fromfile(config)
    labeled, images = map(
        DATASETS.build, cfg.train_dataloader.dataset.datasets
    )
    labeled.full_init()
    decoder = MODELS.build(dict(cfg.model.decoder, in_channels=1))
    item = labeled[0]
    assert item['inputs'].shape == images[0]['inputs'].shape == (3, 16, 16)
    assert decoder.has_label(item['data_samples'])
    run_main(
        'tools/train.py', config,
        '--work-dir', tmp_path / 'student', '--cfg-options',
        f'model.teacher.pretrained={teacher_folder}',
        'train_dataloader.num_workers=0',
        'default_hooks.timestep_policy.num_records=1',
    )  # fmt: skip
    (record,) = read_records(str(tmp_path / 'student'))[-1:]
    assert record['reward'] < 0


def test_names_that_are_no_categories_are_refused(tmp_path, log):
    root = make_folder(tmp_path)

    def labeled(names):
        config = edited(
            'distill/repfusion_custom.py', tmp_path / 'distill.py',
            data_root=str(root / 'images'), task='boxes',
            labels=str(root / 'boxes.json'), names=names, timestep='learned',
        )  # fmt: skip
        cfg = Config.fromfile(config)
        return DATASETS.build(cfg.train_dataloader.dataset.datasets[0])

    message = (
        r"expected classes among .* 'square'\], got \['Circle'\]; correct"
    )
    with pytest.raises(ValueError, match=message):
        check_categories(labeled(['Circle', 'square']))
    check_categories(labeled(['circle', 'square']))
    assert 'are dropped' not in log.text
    check_categories(labeled(['square']))
    assert "the boxes of the categories ['circle'] of" in log.text


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


def test_images_beside_the_folders_of_classes_are_distilled(tmp_path):
    root = make_folder(tmp_path) / 'images'
    cv2.imwrite(str(root / 'beside.jpg'), np.zeros((16, 16, 3), np.uint8))
    config = edited(
        'distill/repfusion_custom.py', tmp_path / 'distill.py',
        data_root=str(root), labels='folders', timestep=300, **SMALL,
    )  # fmt: skip
    cfg = Config.fromfile(config)
    (images,) = map(DATASETS.build, cfg.train_dataloader.dataset.datasets)
    assert len(images) == 25
    assert len(DATASETS.build(cfg.probe_dataset)) == 24  # labeled


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
