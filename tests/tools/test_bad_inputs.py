"""Every way to get it wrong that we know of, through the command line.

One row each: what is done to a run that would have worked, and what the last
line must say, which is what is wrong, where, and what to do.
"""

import os
import shutil
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.tools.launcher import ROOT, launch

CONFIG = 'configs/distill/repfusion_r18_digits.py'
PARTS = 'train_dataloader.dataset.datasets'
WEIGHTS = 'diffusion_pytorch_model.safetensors'


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """Write twelve images, their labels and the teacher."""
    folder = tmp_path_factory.mktemp('good')
    images = folder / 'images'
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(images / f'{i}.jpg'), image)
    lines = [f'{i}.jpg {i % 10}\n' for i in range(12)]
    (images / 'labels.txt').write_text(''.join(lines))
    shutil.copytree(ROOT / 'demo/ddpm_digits', folder / 'teacher')
    return folder


def run(folder, options=(), expect=1, config=CONFIG, flags=()):
    """Run on the inputs in ``folder``; return what was printed."""
    return launch(
        sys.executable, 'tools/train.py', config,
        '--work-dir', folder / 'run', *flags, '--cfg-options',
        *[f'{PARTS}.{i}.data_root={folder / "images"}' for i in range(2)],
        *[f'{PARTS}.{i}.data_prefix=' for i in range(2)],
        f'{PARTS}.0.ann_file=labels.txt',
        f'model.teacher.pretrained={folder / "teacher"}',
        'train_dataloader.batch_size=4',
        # Every image is drawn.
        'train_dataloader.sampler.num_samples=24',
        'train_cfg.max_epochs=1', *options, expect=expect,
        HF_HUB_OFFLINE='1',
    )  # fmt: skip


def damage(path, size):
    return lambda folder: os.truncate(folder / path, size)


def write(path, content):
    return lambda folder: (folder / path).write_bytes(content)


def replace(path, old, new):
    def edit(folder):
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new))

    return edit


def remove(path):
    def edit(folder):
        target = folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return edit


def image(size, channels=3):
    """Put a black image in the place of the first."""

    def edit(folder):
        written = folder / 'other.png'
        array = np.zeros((size, size, channels), np.uint8)
        cv2.imwrite(str(written), array)
        written.rename(folder / 'images/0.jpg')

    return edit


def not_finite(folder):
    """Put a TIFF of floats in its place, which are none."""
    pixels = Image.fromarray(np.full((16, 16), np.nan, np.float32))
    pixels.save(folder / 'images/0.jpg', format='TIFF')


#: Name: options, what is done to the inputs, what the last line says.
ROWS = {
    # Configs.
    'unknown layer': (
        ['model.teacher.layers=["mid_block.nope"]'], None,
        ['no module', 'mid_block.nope', 'did you mean']),
    'typo in a key': (
        ['model.teacher.layer=x'], None,
        ['DiffusersTeacher', "'layer'", 'correct the name']),
    'typo in a type': (
        ['model.student.type=mmpretrain.ResNet_CIFARR'], None,
        ['ResNet_CIFARR', 'registry', 'correct the config']),
    'wrong type, policy': (
        ['model.policy.entropy_weight=big'], None,
        ['policy.entropy_weight', "'big'", 'a number']),
    'wrong type, rate': (
        ['optim_wrapper.student.optimizer.lr=fast'], None,
        ['optim_wrapper.student.optimizer.lr', "'fast'", 'a number']),
    'wrong type, batch': (
        ['train_dataloader.batch_size=x'], None,
        ['batch_size=x', 'train_dataloader.batch_size']),
    'policy without decoder': (
        ['model.decoder=None'], None, ['expected a decoder', 'add model']),
    # Data.
    'corrupt JPEG': (
        [], write('images/0.jpg', b'\xff\xd8\xff no picture'),
        ['images/0.jpg', 'mend or remove']),
    'truncated JPEG': (
        [], damage('images/0.jpg', 150), ['images/0.jpg', 'mend or remove']),
    'empty file': (
        [], write('images/0.jpg', b''), ['images/0.jpg', 'mend or remove']),
    'pixels that are not finite': (
        [f'{PARTS}.{i}.pipeline.0.color_type=unchanged' for i in (0, 1)],
        not_finite,
        ['images/0.jpg', 'not finite', 'mend or remove']),
    'empty folder': (
        [], remove('images/*'), ['images', 'data_root']),
    'no folder': ([], remove('images'), ['images', 'correct the path']),
    'image smaller than the crop': (
        [], image(8),
        ['images/0.jpg', '(10, 10)', 'let the pipeline resize it']),
    'no list of labels': (
        [], remove('images/labels.txt'), ['labels.txt', 'correct the path']),
    'label out of range': (
        [], replace('images/labels.txt', '0.jpg 0', '0.jpg 99'),
        ['[0, 9]', '[99]', 'model.decoder.num_classes']),
    'negative label': (
        [], replace('images/labels.txt', '0.jpg 0', '0.jpg -3'),
        ['[0, 9]', '[-3]', 'model.decoder.num_classes']),
    'label that is no number': (
        [], replace('images/labels.txt', '0.jpg 0', '0.jpg cat'),
        ["'cat'", 'labels are integers']),
    'label without image': (
        [], remove('images/0.jpg'), ['images/0.jpg', 'mend the list']),
    # Teachers.
    'truncated weights': (
        [], damage(f'teacher/{WEIGHTS}', 100_000),
        ['teacher', 'fetch the folder again']),
    'no weights': (
        [], remove(f'teacher/{WEIGHTS}'),
        ['teacher', 'fetch the folder again']),
    'wrong channels': (
        [], replace(
            'teacher/config.json', '"in_channels": 3', '"in_channels": 4'),
        ['teacher', 'config.json', 'fetch the folder again']),
    'wrong architecture': (
        [], replace('teacher/config.json', 'UNet2DModel', 'ResNet50'),
        ['a diffusers model', "'ResNet50'", 'UNet2DModel']),
    'no teacher': (
        [], remove('teacher'), ['teacher', 'no such folder', 'set model']),
    'hub unreachable': (
        ['model.teacher.pretrained=nobody/nothing'], None,
        ['nobody/nothing', 'hf download', 'model.teacher.pretrained']),
    # Training.
    'loss not finite': (
        ['optim_wrapper.student.optimizer.lr=1e30',
         'train_cfg.max_epochs=20'], None,
        ['loss_distill not finite in iteration', 'last good checkpoint',
         'lower the learning rate']),
    'no labels': (
        [f'{PARTS}.0.with_label=False'], None,
        ['expected labelled images', 'give labels']),
    'batches of one': (
        ['train_dataloader.batch_size=1'], None,
        ['two images or more', 'batch_size=1']),
    'last batch of one': (
        ['train_dataloader.drop_last=False',
         'train_dataloader.sampler.num_samples=9'], None,
        ['9 images in batches of 4', 'drop_last=True']),
    'fewer images than a batch': (
        ['train_dataloader.batch_size=100'], None,
        ['fewer images than a batch', 'lower train_dataloader.batch_size']),
}  # fmt: skip


def copy_of(good, tmp_path):
    folder = tmp_path / 'inputs'
    shutil.copytree(good, folder)
    return folder


def explains(output, fragments):
    """Check the last line; it is one, and no traceback is needed."""
    last = output.strip().splitlines()[-1]
    for fragment in fragments:
        assert fragment in last, last
    assert len(last) < 1500


@pytest.mark.parametrize('name', ROWS)
def test_a_wrong_input_ends_with_what_to_do(good, tmp_path, name):
    options, edit, fragments = ROWS[name]
    folder = copy_of(good, tmp_path)
    if name == 'empty folder':
        for path in (folder / 'images').glob('*.jpg'):
            path.unlink()
        options = [*options, f'{PARTS}.0.ann_file=']
    elif edit is not None:
        edit(folder)
    explains(run(folder, options), fragments)
    # Nothing is half-written, and nothing was learnt from it.
    assert not list(folder.glob('run/*.tmp'))
    assert not (folder / 'run/last_checkpoint').exists()


@pytest.mark.parametrize('channels', [1, 4])
def test_gray_and_transparent_images_are_read_as_rgb(good, tmp_path, channels):
    folder = copy_of(good, tmp_path)
    image(16, channels=channels)(folder)
    run(folder, expect=0)


def test_damaged_images_are_skipped_and_named_where_asked(good, tmp_path):
    folder = copy_of(good, tmp_path)
    write('images/0.jpg', b'')(folder)
    damage('images/5.jpg', 150)(folder)
    output = run(
        folder,
        [f'{PARTS}.{i}.pipeline.0.on_error=skip' for i in (0, 1)],
        expect=0,
    )
    assert 'skipped 2 damaged images in this process' in output
    for name in ('0.jpg', '5.jpg'):
        assert f'{folder}/images/{name}' in output


@pytest.mark.parametrize(
    ('content', 'fragments'),
    [
        (b'no checkpoint', ['given.pth', 'cannot be read safely']),
        (None, ['given.pth', 'correct the path']),
    ],
)
def test_a_wrong_checkpoint_is_refused(good, tmp_path, content, fragments):
    folder = copy_of(good, tmp_path)
    path = folder / 'given.pth'
    if content:
        path.write_bytes(content)
    explains(run(folder, flags=['--resume', path]), fragments)


def test_checkpoints_that_do_not_fit_are_refused(good, tmp_path):
    folder = copy_of(good, tmp_path)
    run(folder, expect=0)
    path = folder / 'run/epoch_1.pth'
    path.rename(folder / 'given.pth')
    path = folder / 'given.pth'
    wider = ['model.student.base_channels=32']
    explains(
        run(folder, wider, flags=['--resume', path]),
        ['to fit all', 'faults', 'Use the config that wrote'],
    )
    explains(
        run(folder, flags=['--resume', folder / 'run/student.pth']),
        ['to fit all', 'not in the checkpoint', 'Use the config'],
    )
    os.truncate(path, 100_000)
    explains(
        run(folder, flags=['--resume', path]),
        ['given.pth', 'cannot be read safely'],
    )


def test_a_folder_that_cannot_be_written_is_named(good, tmp_path):
    folder = copy_of(good, tmp_path)
    (folder / 'run').write_text('a file, not a folder')
    explains(run(folder), [f'{folder}/run', 'another --work-dir'])


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
def test_a_config_that_is_none_is_named(good, tmp_path, content, fragments):
    config = tmp_path / 'mine.py'
    if content:
        config.write_text(content)
    explains(run(good, config=config), fragments)
