"""Whatever the pixel format: right images for the teacher, or an error."""

import copy
import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mmengine.registry import MODELS

from repfusion_mm.models.utils.image_check import MAX_DARK
from repfusion_mm.models.utils.image_range import to_unit_range
from tests.helpers.dense_samples import seg_samples
from tests.helpers.strategies import seeds
from tests.helpers.toy import (
    DENOISER,
    SCHEDULER,
    distiller_config,
    labeled_samples,
)

MEAN = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
STD = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
NUMBERS = dict(mean=MEAN.flatten().tolist(), std=STD.flatten().tolist())

#: What a pipeline may make of images of 3 x H x W in [0, 255].
SCALES = {
    '8 bits': lambda x: x,
    '16 bits': lambda x: x * 257,
    '12 bits': lambda x: x * 16,
    '0 to 1': lambda x: x / 255,
    '-1 to 1': lambda x: x / 127.5 - 1,
    '-0.5 to 0.5': lambda x: x / 255 - 0.5,
    'normalized': lambda x: (x - MEAN) / STD,
    'normalized twice': lambda x: ((x - MEAN) / STD - MEAN) / STD,
    'normalized, then to 1': lambda x: (x - MEAN) / STD / 255,
    'mean subtracted': lambda x: x - MEAN,
    'NaN': lambda x: x / x * x,
}
DTYPES = (
    'uint8', 'uint16', 'int16', 'int32', 'int64', 'float32', 'float64',
)  # fmt: skip
LAYOUTS = {
    '3 x H x W': lambda x: x,
    'H x W x 3': lambda x: x.movedim(0, -1),
    'alpha': lambda x: torch.cat([x, x[:1]]),
    'gray': lambda x: x[:1],
    'H x W': lambda x: x[0],
}
PREPROCESSORS = (
    dict(type='mmengine.ImgDataPreprocessor'),
    dict(type='mmengine.ImgDataPreprocessor', **NUMBERS),
    dict(type='mmpretrain.ClsDataPreprocessor', **NUMBERS),
    dict(type='mmseg.SegDataPreProcessor', size=(12, 12), **NUMBERS),
    dict(type='mmpose.PoseDataPreprocessor', **NUMBERS),
    dict(type='repfusion_mm.BatchDataPreprocessor', **NUMBERS),
    dict(type='mmengine.ImgDataPreprocessor', mean=[0.485, 0.456, 0.406],
         std=[0.229, 0.224, 0.225]),
)  # fmt: skip
MODEL = {}
MASK = torch.ones(12, 12, dtype=torch.long)


def build(config):
    """Return a model with a data preprocessor that saw no batch yet."""
    key = str(config)
    if key not in MODEL:
        MODEL[key] = MODELS.build(dict(
            type='repfusion_mm.DenoisingDiffusion', denoiser=DENOISER,
            scheduler=SCHEDULER, channel_order='rgb', data_preprocessor=config,
        ))  # fmt: skip
    return copy.deepcopy(MODEL[key])


def images_of(config, inputs):
    """Return the RGB images in [0, 1] that a teacher gets of a batch."""
    model = build(config)
    data = dict(inputs=inputs, data_samples=labeled_samples([None] * 4))
    for _ in range(2 * MAX_DARK**2):  # batches of 0 and 1 show no scale
        output = model.data_preprocessor(copy.deepcopy(data), False)
        if inputs[0].is_floating_point() or inputs[0].float().max() > 1:
            break
    return to_unit_range(output['inputs'], model.data_preprocessor, 'rgb')


def noise(seed, num_images=4):
    """Return 8-bit RGB images with dark and bright values."""
    generator = torch.Generator().manual_seed(seed)
    shape = num_images, 3, 12, 12
    return torch.randint(0, 256, shape, generator=generator).float()


@given(
    seeds,
    st.sampled_from([*SCALES]),
    st.sampled_from([None, *SCALES]),
    st.sampled_from(DTYPES),
    st.sampled_from([*LAYOUTS]),
    st.sampled_from(PREPROCESSORS),
    st.booleans(),
)
def test_any_pixel_format_is_right_or_refused(
    seed, scale, other, dtype, layout, config, stacked
):
    """The last image may have another scale than the rest."""
    true = noise(seed)
    dtype = getattr(torch, dtype, torch.int32)  # torch < 2.3 lacks uint16
    is_mixed = other not in (None, scale)
    # Next to others, images with values below 0.02 are taken for black ones.
    assume(not is_mixed or 'normalized, then to 1' not in (scale, other))
    assume(not is_mixed or dtype.is_floating_point)
    scales = [scale] * 3 + [other or scale]
    images = [
        LAYOUTS[layout](SCALES[s](image)) for s, image in zip(scales, true)
    ]
    inputs = [image.to(dtype) for image in images]
    # Values that a dtype cannot hold are lost, not hidden.
    lost = [
        (image.nan_to_num() - cast.double()).abs().max()
        for image, cast in zip(images, inputs)
    ]
    assume(max(lost) <= 1)
    if stacked:
        inputs = torch.stack(inputs)
    expected = true / 255
    if layout == 'gray':
        expected = expected[:, :1].expand_as(expected)
    try:
        found = images_of(config, inputs)
    except (ValueError, AssertionError):
        is_right = {*scales} == {'8 bits'} and layout == '3 x H x W'
        assert not is_right or config is PREPROCESSORS[-1]
        return
    torch.testing.assert_close(found, expected, atol=1 / 255, rtol=0)


@pytest.mark.parametrize(
    ('scale', 'dtype', 'fragments'),
    [
        ('16 bits', 'int32', ['int32', 'more than 8 bits', 'color_type']),
        ('12 bits', 'float32', ['float32', 'more than 8 bits']),
        ('0 to 1', 'float32', ['in [0, 1]', 'remove ToTensor']),
        ('-1 to 1', 'float32', ['already normalized', 'remove Normalize']),
        ('normalized', 'float32', ['already normalized', 'Normalize']),
        ('mean subtracted', 'float32', ['a mean was subtracted']),
        ('NaN', 'float32', ['NaN or Inf']),
    ],
)
@pytest.mark.parametrize('config', PREPROCESSORS[:3])
def test_the_error_names_the_cause(scale, dtype, fragments, config):
    images = SCALES[scale](noise(0)).to(getattr(torch, dtype))
    with pytest.raises(ValueError, match=r'expected RGB images in \[0, 255\]'):
        images_of(config, [*images])
    with pytest.raises(ValueError) as caught:
        images_of(config, images)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize('name', ['DenoisingDiffusion', 'distiller'])
@pytest.mark.parametrize('stacked', [False, True])
@pytest.mark.parametrize(
    ('scale', 'cause'),
    [
        ('0 to 1', 'remove ToTensor'),
        ('-1 to 1', 'remove Normalize'),
        ('normalized', 'remove Normalize'),
        ('mean subtracted', 'remove Normalize'),
    ],
)
def test_one_image_of_another_scale_is_refused(scale, cause, stacked, name):
    images = noise(0, 16)
    images[9] = SCALES[scale](images[9])
    model = build(PREPROCESSORS[1])
    if name == 'distiller':
        model = MODELS.build(distiller_config())
    with pytest.raises(ValueError, match=cause):
        model.data_preprocessor(
            dict(inputs=images if stacked else [*images.to(torch.float32)])
        )


def test_black_images_among_others_are_not_refused():
    """Also after a random change of brightness, in floating point."""
    full = noise(0)
    dark = [
        0 * full[0],
        0 * full[0] - 2.1,
        0 * full[0] + 0.7,
        (full[0] > 99) * 0.9,
        (full[0] / 64).floor() * 0.8 - 1.3,
        (full[0] > 128) * 1.0,
    ]
    for image in dark:
        images = torch.stack([*full, image])
        found = images_of(PREPROCESSORS[1], [*images])
        torch.testing.assert_close(
            found, (images / 255).clamp(0, 1), atol=1e-4, rtol=0
        )


@pytest.mark.parametrize('high', [2, 15, 31, 32])
def test_images_of_a_few_dark_levels_are_logged(high, log):
    """Label maps that are given as images, or digits of 4 bits."""
    images = (noise(0) / 255 * high).round().to(torch.uint8)
    model = build(PREPROCESSORS[0])
    for _ in range(2):
        model.data_preprocessor(dict(inputs=[*images]))
    message = f'no values above {high} of 255'
    assert log.text.count(message) == (1 if high < 32 else 0)


def legitimate():
    """Yield unusual images that are nevertheless right."""
    full = noise(1)
    digits = torch.zeros(4, 3, 12, 12)
    digits[:, :, 3:8, 5] = 255
    yield 'digits on black', digits
    yield 'masks', (full > 127) * 255.0
    yield 'white documents', torch.full_like(full, 255)
    yield 'mostly black thumbnails', torch.cat([full[:1], 0 * full[1:]])
    yield 'dark medical images', (full / 16).round()
    yield 'very dark images', (full / 128).round()
    yield 'label maps', (full / 255 * 19).floor()
    yield 'solarized', torch.where(full < 128, full, 255 - full)
    yield 'erased', torch.where(torch.rand(4, 1, 12, 12) < 0.8, 0 * full, full)
    yield 'saturated sky', torch.where(full < 200, full, 255.0 + 0 * full)
    yield 'gray', full[:, :1].expand_as(full)
    yield 'one color', torch.tensor([250.0, 3, 120])[:, None, None] + 0 * full


@pytest.mark.parametrize(
    ('images', 'config'),
    [
        pytest.param(images, config, id=f'{name}-{i}')
        for (name, images), (i, config) in itertools.product(
            legitimate(), enumerate(PREPROCESSORS[:-1])
        )
    ],
)
def test_unusual_images_are_not_refused(images, config):
    for dtype in (torch.uint8, torch.float32):
        found = images_of(config, [*images.to(dtype)])
        torch.testing.assert_close(found, images / 255, atol=1e-4, rtol=0)


def test_overshoots_of_float_images_are_not_refused():
    """Of cubic interpolation, and of color augmentation without clipping."""
    for images in (noise(0) * 1.2 - 25, noise(0) + 12, noise(0) - 12):
        found = images_of(PREPROCESSORS[1], [*images])
        assert found.min() >= 0 and found.max() <= 1


def test_bright_images_that_are_not_clipped_are_not_refused():
    """PhotoMetricDistortion: 32 is added, then a factor of 1.5."""
    white = (255 - noise(0) / 16 + 32) * 1.5
    assert images_of(PREPROCESSORS[1], [*white]).min() == 1
    with pytest.raises(ValueError, match='more than 8 bits'):
        images_of(PREPROCESSORS[1], [*white * 1.2])
    with pytest.raises(ValueError, match='more than 8 bits'):
        images_of(PREPROCESSORS[1], [*white.to(torch.int32)])


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
@pytest.mark.parametrize('wrong', ['0 to 1', '12 bits'])
def test_the_first_bright_batch_is_checked(dtype, wrong):
    """The slices of volumes, and crops of dark fields, may be black."""
    model = build(PREPROCESSORS[0])
    black = torch.zeros(4, 3, 12, 12, dtype=dtype)
    mask = noise(0).gt(99).to(dtype)
    for images in (black, mask, black, mask):
        output = model.data_preprocessor(dict(inputs=images))['inputs']
        torch.testing.assert_close(output, images.float())
    right, wrong = noise(0), SCALES[wrong](noise(0))
    copy.deepcopy(model).data_preprocessor(dict(inputs=right.to(dtype)))
    with pytest.raises(ValueError, match=r'expected RGB images in \[0, 255'):
        model.data_preprocessor(dict(inputs=wrong))


def test_only_black_images_and_masks_of_0_and_1_are_refused():
    black = torch.zeros(16, 3, 12, 12, dtype=torch.uint8)
    mask = noise(0, 16).gt(99).to(torch.uint8)
    for last, batches, cause in (
        (black, MAX_DARK**2, 'they are black'),
        (mask, MAX_DARK, 'masks of 0 and 1 by 255'),
    ):
        model = build(PREPROCESSORS[0])
        for _ in range(batches - 1):
            model.data_preprocessor(dict(inputs=[*last]))
        with pytest.raises(ValueError, match=cause) as caught:
            model.data_preprocessor(dict(inputs=[*last]))
        assert f'{batches * 16} images' in str(caught.value)


def test_mean_and_std_of_images_in_0_to_1_are_refused():
    with pytest.raises(ValueError, match='multiply mean and std by 255'):
        images_of(PREPROCESSORS[-1], noise(0).to(torch.uint8))
    for mean, std, wrong in (
        ([0.485, 0.456, 0.406], NUMBERS['std'], 'mean'),
        (NUMBERS['mean'], [0.229, 0.224, 0.225], 'std'),
    ):
        config = dict(type='mmengine.ImgDataPreprocessor', mean=mean, std=std)
        with pytest.raises(ValueError, match=f'; multiply {wrong} by 255'):
            images_of(config, noise(0).to(torch.uint8))
    for mean, std in (([0.0] * 3, [255.0] * 3), ([0.0] * 3, [1.0] * 3)):
        config = dict(type='mmengine.ImgDataPreprocessor', mean=mean, std=std)
        images_of(config, noise(0).to(torch.uint8))


def test_a_data_preprocessor_with_a_scale_of_its_own_is_refused():
    from mmengine.model import ImgDataPreprocessor

    class Halves(ImgDataPreprocessor):
        def forward(self, data, training=False):
            data = super().forward(data, training)
            return {**data, 'inputs': data['inputs'] / 127.5 - 1}

    MODELS.register_module(module=Halves)
    try:
        with pytest.raises(ValueError, match='Halves or its augments change'):
            images_of(dict(type='Halves'), noise(0).to(torch.uint8))
    finally:
        MODELS.module_dict.pop('Halves')


def test_a_few_images_of_16_bits_or_with_alpha_are_refused():
    images = [*noise(0).to(torch.uint8)]
    large = (noise(1)[0] * 257).to(torch.int32)
    with pytest.raises(ValueError, match=r'int32 and uint8 .* more than 8'):
        images_of(PREPROCESSORS[0], [*images, large])
    alpha = torch.cat([images[0], images[0][:1]])
    with pytest.raises(ValueError, match='alpha'):
        images_of(PREPROCESSORS[2], [*images, alpha])
    model = MODELS.build(distiller_config())
    model.data_preprocessor(dict(inputs=images))
    with pytest.raises(ValueError, match='more than 8 bits'):
        model.data_preprocessor(dict(inputs=[*images[1:], large]))


def test_only_the_first_batch_is_checked():
    model = MODELS.build(distiller_config())
    model.data_preprocessor(dict(inputs=[*noise(0)]))
    model.data_preprocessor(dict(inputs=[*noise(0) / 255]))
    model = MODELS.build(distiller_config())
    with pytest.raises(ValueError, match='in \\[0, 1\\]'):
        model.data_preprocessor(dict(inputs=[*noise(0) / 255]))


@pytest.mark.parametrize(
    ('config', 'name'),
    [
        (dict(type='mmengine.ImgDataPreprocessor', pad_size_divisor=32),
         'pad_size_divisor=32'),
        (dict(type='mmpretrain.ClsDataPreprocessor', pad_size_divisor=8),
         'pad_size_divisor=8'),
        (dict(type='mmseg.SegDataPreProcessor', size=(16, 16)), 'size='),
        (dict(type='mmseg.SegDataPreProcessor', size_divisor=8),
         'size_divisor=8'),
        (dict(type='mmseg.SegDataPreProcessor'), 'size to'),
        (dict(type='mmpretrain.SelfSupDataPreprocessor'), 'ImgDataPrep'),
    ],
)  # fmt: skip
def test_padded_or_separate_images_are_refused(config, name):
    model = build({**config, **NUMBERS})
    data = dict(inputs=[*noise(0)], data_samples=seg_samples(4 * [MASK]))
    if 'SelfSup' in config['type']:
        data = dict(inputs=[noise(0)], data_samples=None)
    with pytest.raises(ValueError, match=name):
        model.data_preprocessor(data, True)


def test_images_of_several_sizes_are_refused():
    """They would be padded with the mean, on which the model is trained."""
    model = build(PREPROCESSORS[1])
    images = [*noise(0)]
    images[2] = images[2][:, :10]
    with pytest.raises(ValueError, match=r'got \(10, 12\) and \(12, 12\)'):
        model.data_preprocessor(dict(inputs=images), True)


def test_a_missing_size_is_named_also_in_distributed_training():
    """It passes training=True as a keyword."""
    model = build(dict(type='mmseg.SegDataPreProcessor', **NUMBERS))
    data = dict(inputs=[*noise(0)], data_samples=seg_samples(4 * [MASK]))
    with pytest.raises(ValueError, match='expected one of size and size_div'):
        model.data_preprocessor(data, training=True)


def test_sizes_that_need_no_padding_are_not_refused():
    for padding in (dict(size=(12, 12)), dict(size_divisor=4)):
        config = dict(type='mmseg.SegDataPreProcessor', **padding, **NUMBERS)
        samples = seg_samples(4 * [MASK])
        data = dict(inputs=[*noise(0)], data_samples=samples)
        build(config).data_preprocessor(data, True)
