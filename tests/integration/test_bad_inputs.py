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

from tests.helpers.bad_inputs import PARTS, ROWS, damage, image, write
from tests.helpers.launcher import ROOT, launch

CONFIG = 'configs/distill/repfusion_r18_digits.py'


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
    shutil.copytree(ROOT / 'projects/digits/ddpm_digits', folder / 'teacher')
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
    if edit is not None:
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
