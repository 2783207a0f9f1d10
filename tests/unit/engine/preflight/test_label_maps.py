"""A label map that does not lie on its image is refused."""

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from PIL import Image

from repfusion_mm.engine.preflight.label_maps import check_label_maps


class Maps(BaseDataset):
    def load_data_list(self):
        paths = dict(img_path=self.data_root + '/a.jpg', seg_fields=[])
        paths['seg_map_path'] = self.data_root + '/a.png'
        return [dict(paths, label_map=None, reduce_zero_label=False)]


def check(folder, image, labels, orientation=1, load=()):
    """Write and check an image and a label map of (width, height)."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', image).save(folder / 'a.jpg', exif=exif.tobytes())
    if labels is not None:
        Image.new('L', labels).save(folder / 'a.png')
    steps = [
        dict(dict(type='mmcv.LoadImageFromFile'), **dict(load)),
        dict(type='mmseg.LoadAnnotations'),
        dict(type='mmseg.Resize', scale=(32, 32), keep_ratio=False),
        dict(type='mmseg.PackSegInputs'),
    ]
    check_label_maps(Maps(data_root=str(folder), pipeline=steps))


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_maps_of_rotated_photographs_are_refused(
    tmp_path, orientation, backend
):
    """Orientations from 5 on exchange height and width."""
    pytest.importorskip('mmseg')
    load = dict(imdecode_backend=backend)
    upright = (64, 48) if orientation < 5 else (48, 64)
    check(tmp_path, (64, 48), upright, orientation, load)
    ignored = dict(load, color_type='color_ignore_orientation')
    check(tmp_path, (64, 48), (64, 48), orientation, ignored)
    if orientation < 5:
        check(tmp_path, (64, 48), (64, 48), orientation, load)
        return
    with pytest.raises(
        ValueError, match=r'48 x 64 for an image of 64 x 48.*E'
    ):
        check(tmp_path, (64, 48), (64, 48), orientation, load)


@pytest.mark.parametrize(
    ('labels', 'is_right'),
    [
        ((64, 48), True), ((32, 24), True), ((128, 96), True),
        ((63, 48), True), (None, True), ((48, 48), False), ((64, 32), False),
    ],
)  # fmt: skip
def test_smaller_maps_pass_and_other_proportions_are_refused(
    tmp_path, labels, is_right
):
    pytest.importorskip('mmseg')
    if is_right:
        check(tmp_path, (64, 48), labels)
        return
    with pytest.raises(ValueError, match=r'a\.jpg\): correct the files'):
        check(tmp_path, (64, 48), labels)


def test_colored_maps_pass(tmp_path):
    pytest.importorskip('mmseg')
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / 'a.png')
    check(tmp_path, (64, 48), None)


def check_steps(folder, steps):
    """Check a pipeline of an image of 48 x 64 and its label map."""
    pytest.importorskip('mmseg')
    Image.new('RGB', (64, 48)).save(folder / 'a.jpg')
    Image.new('L', (64, 48)).save(folder / 'a.png')
    pipeline = [
        dict(type='mmcv.LoadImageFromFile'),
        dict(type='mmseg.LoadAnnotations'),
        *steps,
        dict(type='mmseg.PackSegInputs'),
    ]
    check_label_maps(Maps(data_root=str(folder), pipeline=pipeline))


RESIZE = dict(type='mmseg.Resize', scale=(32, 32), keep_ratio=False)


@pytest.mark.parametrize(
    'steps',
    [
        [],
        [RESIZE],
        [dict(type='mmpretrain.ColorJitter', brightness=0.9, hue=0.5)],
        [RESIZE, dict(type='mmpretrain.Invert', prob=0.5)],
        [RESIZE, dict(type='mmpretrain.RandomErasing', erase_prob=1.0)],
        # These are mmcv's, which move label maps.
        [dict(type='mmpretrain.RandomFlip', prob=0.5)],
        [dict(type='mmpretrain.CenterCrop', crop_size=16)],
        [dict(type='mmseg.RandomRotate', prob=1.0, degree=30)],
        [
            dict(
                type='mmseg.RandomResize', scale=(64, 48),
                ratio_range=(0.5, 2.0), keep_ratio=True,
            ),
            dict(type='mmseg.RandomCrop', crop_size=(24, 24)),
            dict(type='mmseg.RandomFlip', prob=0.5),
            dict(type='mmseg.PhotoMetricDistortion'),
        ],
    ],
)  # fmt: skip
def test_label_maps_that_move_with_their_images_pass(tmp_path, steps):
    check_steps(tmp_path, steps)


@pytest.mark.parametrize(
    'step',
    [
        dict(type='mmpretrain.Rotate', angle=90.0, prob=1.0),
        dict(type='mmpretrain.Translate', magnitude=0.3, prob=1.0),
        dict(type='mmpretrain.RandomCrop', crop_size=16),
        dict(type='mmpretrain.RandomResizedCrop', scale=16),
    ],
)
def test_transforms_that_only_move_images_are_refused(tmp_path, step):
    with pytest.raises(ValueError, match='transforms of mmseg, after Load'):
        check_steps(tmp_path, [step])
