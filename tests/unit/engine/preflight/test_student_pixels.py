"""A student is finetuned with the pixels that it was distilled with."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch.nn as nn
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import MODELS

from repfusion_mm.engine.checkpoint.initializers import SOURCE
from repfusion_mm.engine.preflight.student_pixels import (
    check_student_pixels,
    describe_pixels,
)
from tests.helpers.toy import distiller_config

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
PIXELS = dict(mean=MEAN, std=STD, channel_order='rgb')
LOAD = dict(type='mmcv.LoadImageFromFile')
PACK = dict(type='mmpretrain.PackInputs')
NORMALIZE = dict(type='mmcv.Normalize', mean=MEAN, std=STD, to_rgb=True)
SCALE = dict(type='mmcv.Normalize', mean=[0] * 3, std=[255] * 3, to_rgb=False)
STOCK = dict(type='mmengine.ImgDataPreprocessor')
MMPRETRAIN = dict(type='mmpretrain.ClsDataPreprocessor')
MMSEG = dict(type='mmseg.SegDataPreProcessor')
MMPOSE = dict(type='mmpose.PoseDataPreprocessor')
NUMBERS = dict(mean=MEAN, std=STD)
UNIT = dict(mean=[i / 255 for i in MEAN], std=[i / 255 for i in STD])

RIGHT = {
    'mmpretrain': dict(MMPRETRAIN, to_rgb=True, **NUMBERS),
    'mmengine': dict(STOCK, bgr_to_rgb=True, **NUMBERS),
    'mmseg': dict(MMSEG, bgr_to_rgb=True, **NUMBERS),
    'mmpose': dict(MMPOSE, bgr_to_rgb=True, **NUMBERS),
    'rounded': dict(
        STOCK, mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4],
        bgr_to_rgb=True,
    ),
}  # fmt: skip
WRONG = {
    'nothing': MMPRETRAIN,
    'zero and one': dict(MMPRETRAIN, mean=[0] * 3, std=[1] * 3),
    'zero and one, rgb': dict(
        STOCK, mean=[0] * 3, std=[1] * 3, bgr_to_rgb=True
    ),
    'another mean': dict(
        STOCK, mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True
    ),
    'another std': dict(STOCK, mean=MEAN, std=[50, 50, 50], bgr_to_rgb=True),
    'bgr': dict(MMSEG, **NUMBERS),
    'numbers for bgr': dict(STOCK, mean=MEAN[::-1], std=STD[::-1]),
    'numbers for [0, 1]': dict(STOCK, bgr_to_rgb=True, **UNIT),
}


class Files(BaseDataset):
    def load_data_list(self):
        return [dict(img_path=self.ann_file, gt_label=0)]


@pytest.fixture
def check(tmp_path):
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), np.zeros((16, 16, 3), np.uint8))

    def call(preprocessor, *steps, pixels=PIXELS, allow=False, top=False):
        dataset = Files(ann_file=str(path), pipeline=[LOAD, *steps, PACK])
        module = nn.Identity()
        setattr(module, SOURCE, ('student.pth', pixels, allow))
        own = dict(data_preprocessor=preprocessor)
        runner = SimpleNamespace(
            model=SimpleNamespace(
                data_preprocessor=MODELS.build(preprocessor)
            ),
            train_dataloader=SimpleNamespace(dataset=dataset),
            cfg=Config(own if top else dict(model=own)),
        )
        check_student_pixels(runner, module)

    return call


@pytest.mark.parametrize('name', RIGHT)
def test_the_same_pixels_are_accepted(check, name):
    check(RIGHT[name])


def test_pipelines_may_normalize_or_scale(check):
    check(MMPRETRAIN, NORMALIZE)
    check(dict(STOCK, mean=[0] * 3, std=[1] * 3), NORMALIZE)
    check(dict(STOCK, bgr_to_rgb=True, **UNIT), SCALE)
    with pytest.raises(ValueError, match='nothing like Normalize'):
        check(dict(STOCK, **NUMBERS), NORMALIZE)


@pytest.mark.parametrize('name', WRONG)
def test_other_pixels_are_refused(check, name):
    with pytest.raises(ValueError, match='set in ') as error:
        check(WRONG[name])
    assert f'model.data_preprocessor mean={MEAN}, std={STD}' in str(
        error.value
    )


def test_the_error_names_the_conversion(check):
    with pytest.raises(ValueError, match='and bgr_to_rgb=True,'):
        check(dict(STOCK, **NUMBERS))
    right = dict(STOCK, bgr_to_rgb=True, **NUMBERS)
    bgr = dict(PIXELS, channel_order='bgr')
    with pytest.raises(ValueError, match='bgr_to_rgb=False, rgb_to_bgr=F'):
        check(right, pixels=bgr)
    with pytest.raises(ValueError, match=r'in data_preprocessor .*to_rgb=T'):
        check(dict(MMPRETRAIN, **NUMBERS), top=True)


def test_changes_may_be_allowed_and_old_files_record_nothing(check, log):
    check(WRONG['bgr'], pixels=None)
    assert not [r for r in log.records if r.levelname == 'WARNING']
    check(WRONG['bgr'], allow=True)
    assert 'got bgr with mean' in log.text


def test_images_that_cannot_be_traced_are_logged(check, log):
    step = dict(type='mmcv.ImageToTensor', keys=['missing'])
    check(RIGHT['mmengine'], step)
    assert 'are not compared with those of the distillation' in log.text
    with pytest.raises(ValueError, match='the channel conversion so that'):
        check(WRONG['another mean'], step)


def test_numbers_of_the_student_are_recorded():
    model = MODELS.build(distiller_config())
    pixels = describe_pixels(model)
    assert pixels['channel_order'] == model.channel_order
    assert len(pixels['mean']) == len(pixels['std']) == 3
    assert all(type(i) is float for i in pixels['mean'] + pixels['std'])
