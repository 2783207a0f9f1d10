"""Wrong inputs through the command line.

In each row of ``ROWS``, one input of a run that works is changed. The last
line of the output must name what is wrong and where, and how to correct it.
"""

import os
import shutil

import cv2
import numpy as np
import pytest

from tests.helpers.bad_inputs import PARTS, ROWS, damage, image, write
from tests.helpers.launcher import ROOT, run_main

CONFIG = ROOT / 'configs/distill/repfusion_resnet18_digits.py'


@pytest.fixture(scope='module')
def good(tmp_path_factory, teacher_folder):
    """Write twelve images, their labels and the teacher."""
    folder = tmp_path_factory.mktemp('good')
    images = folder / 'images'
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(images / f'{i}.jpg'), pixels)
    lines = [f'{i}.jpg {i % 10}\n' for i in range(12)]
    (images / 'labels.txt').write_text(''.join(lines))
    shutil.copytree(teacher_folder, folder / 'teacher')
    return folder


@pytest.fixture
def folder(good, tmp_path):
    """A copy of the good inputs."""
    folder = tmp_path / 'inputs'
    shutil.copytree(good, folder)
    return folder


def run(folder, options=(), expect=1, config=CONFIG, flags=()):
    """Train on the inputs in ``folder``; return status and output."""
    return run_main(
        'tools/train.py', config, '--work-dir', folder / 'run', *flags,
        '--cfg-options',
        *[f'{PARTS}.{i}.data_root={folder / "images"}' for i in range(2)],
        *[f'{PARTS}.{i}.data_prefix=' for i in range(2)],
        f'{PARTS}.0.ann_file=labels.txt',
        f'model.teacher.pretrained={folder / "teacher"}',
        'model.student.stem_channels=4', 'model.student.base_channels=4',
        'train_dataloader.batch_size=4',
        # Every image is drawn.
        'train_dataloader.sampler.num_samples=24',
        'train_cfg.max_epochs=1',
        *[option.replace('FOLDER', str(folder)) for option in options],
        expect=expect, HF_HUB_OFFLINE='1',
    )  # fmt: skip


def assert_explained(result, fragments):
    for fragment in fragments:
        assert fragment in result.last_line, result.last_line
    assert len(result.last_line) < 1500


@pytest.mark.parametrize('name', ROWS)
def test_the_last_line_names_a_wrong_input(folder, name):
    options, edit, fragments = ROWS[name]
    if edit is not None:
        edit(folder)
    assert_explained(run(folder, options), fragments)
    # No partial file, and no checkpoint.
    assert not list(folder.glob('run/*.tmp'))
    assert not (folder / 'run/last_checkpoint').exists()


def test_an_image_that_worker_processes_read_is_named(folder):
    _, edit, fragments = ROWS['truncated JPEG']
    edit(folder)
    result = run(folder, ['train_dataloader.num_workers=2'])
    assert_explained(result, fragments)
    assert result.last_line.startswith('ValueError: expected an image at')
    assert 'Traceback' not in result.output
    assert result.output.count('ValueError: expected an image') == 1


@pytest.mark.parametrize('channels', [1, 4])
def test_gray_and_transparent_images_are_read_as_rgb(folder, channels):
    image(16, channels=channels)(folder)
    run(folder, expect=0)


def test_damaged_images_are_skipped_and_logged_on_request(folder):
    write('images/0.jpg', b'')(folder)
    damage('images/5.jpg', 150)(folder)
    output = run(
        folder,
        [f'{PARTS}.{i}.pipeline.0.on_error=skip' for i in (0, 1)],
        expect=0,
    ).output
    assert 'skipped 2 damaged images in this process' in output
    for name in ('0.jpg', '5.jpg'):
        assert f'{folder}/images/{name}' in output


@pytest.mark.parametrize(
    ('content', 'fragments'),
    [
        (b'not a checkpoint', ['given.pth', 'cannot be read safely']),
        (None, ['given.pth', 'correct the path']),
    ],
)
def test_a_wrong_checkpoint_is_refused(folder, content, fragments):
    path = folder / 'given.pth'
    if content:
        path.write_bytes(content)
    assert_explained(run(folder, flags=['--resume', path]), fragments)


def test_checkpoints_that_do_not_fit_are_refused(folder):
    run(folder, expect=0)
    path = folder / 'given.pth'
    (folder / 'run/epoch_1.pth').rename(path)
    assert_explained(
        run(
            folder, ['model.student.base_channels=8'], flags=['--resume', path]
        ),
        ['to fit all', 'Use the config of the run'],
    )
    assert_explained(
        run(folder, flags=['--resume', folder / 'run/student.pth']),
        ['to fit all', 'not in the checkpoint', 'Use the config'],
    )
    os.truncate(path, 100_000)
    assert_explained(
        run(folder, flags=['--resume', path]),
        ['given.pth', 'cannot be read safely'],
    )


def test_a_work_dir_that_cannot_be_created_is_named(folder):
    (folder / 'run').write_text('a file, not a folder')
    assert_explained(run(folder), [f'{folder}/run', 'another --work-dir'])


@pytest.mark.parametrize(
    ('content', 'fragments'),
    [
        (None, ['mine.py', 'correct the path']),
        (
            'model = dict(\n',
            ['mine.py', 'line 1', 'never closed', 'correct it'],
        ),
    ],
)
def test_a_file_that_is_not_a_config_is_named(folder, content, fragments):
    config = folder / 'mine.py'
    if content:
        config.write_text(content)
    assert_explained(run(folder, config=config), fragments)


def test_a_teacher_s_image_size_must_fit_its_levels(folder):
    config = ROOT / 'configs/teacher/ddpm_custom.py'
    options = ['model.denoiser.sample_size=28']
    result = run_main(
        'tools/train.py', config, '--work-dir', folder / 'run',
        '--cfg-options', f'{PARTS}.0.data_root={folder / "images"}', *options,
        expect=1,
    )  # fmt: skip
    assert_explained(result, ['sample_size=28', 'to a multiple of 8'])


def test_the_autoencoder_of_a_latent_training_must_exist(folder):
    result = run_main(
        'tools/train.py', ROOT / 'configs/teacher/ddpm_latent_digits.py',
        '--work-dir', folder / 'run', '--cfg-options',
        f'{PARTS}.0.data_root={folder / "images"}',
        f'{PARTS}.0.data_prefix=', 'model.vae=nowhere',
        expect=1,
    )  # fmt: skip
    assert_explained(
        result, ["in 'nowhere', got no such folder", 'autoencoder_digits.py']
    )


def test_home_is_expanded_in_options_and_settings(folder):
    """Shells do not expand it after an equals sign."""
    result = run_main(
        'tools/train.py', CONFIG, '--work-dir=~/run', '--cfg-options',
        f'{PARTS}.0.data_root=~/images', f'{PARTS}.1.data_root=~/nowhere',
        f'{PARTS}.0.data_prefix=', f'{PARTS}.0.ann_file=labels.txt',
        expect=1, HOME=str(folder),
    )  # fmt: skip
    assert_explained(result, [f"data_root='{folder}/nowhere'"])
    assert (folder / 'run').is_dir()


@pytest.mark.parametrize(
    ('script', 'config', 'dataset', 'flags'),
    [
        ('tools/train.py', 'teacher/ddpm_digits', f'{PARTS}.0', []),
        (
            'tools/analysis_tools/probe_timesteps.py',
            'distill/repfusion_resnet18_digits',
            'probe_dataset',
            ['--timesteps', 0],
        ),
    ],
)
def test_exchanged_channels_are_refused_by_every_command(
    folder, script, config, dataset, flags
):
    options = [f'{dataset}.data_root={folder / "images"}']
    options += [f'{dataset}.data_prefix=']
    if script != 'tools/train.py':
        options += [f'{dataset}.ann_file=labels.txt']
        options += [f'model.teacher.pretrained={folder / "teacher"}']
    result = run_main(
        script, ROOT / f'configs/{config}.py', '--work-dir', folder / 'run',
        *flags, '--cfg-options', *options, 'train_dataloader.batch_size=4',
        'model.data_preprocessor.bgr_to_rgb=False', 'model.channel_order=rgb',
        expect=1, HF_HUB_OFFLINE='1',
    )  # fmt: skip
    assert_explained(result, ['blue for red', "model.channel_order='bgr'"])
