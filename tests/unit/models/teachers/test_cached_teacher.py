import json

import diffusers
import pytest
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.registry import DATASETS, MODELS
from mmengine.structures import BaseDataElement
from mmpose.structures import PoseDataSample
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from repfusion_mm.engine.feature_cache.checks import (
    check_cached_features,
    prepare_teacher_inputs,
)
from repfusion_mm.engine.feature_cache.writing import write_features
from repfusion_mm.models.teachers.cached_teacher import compare_keys
from tests.helpers.cached import make_cache, model_config
from tests.helpers.toy import LAYER, save_teacher

OTHER_LAYER = 'mid_block.resnets.0.conv2'
#: Half a unit in the last place of float16, and half its smallest value.
HALF = dict(rtol=2**-11, atol=2**-25)


@pytest.fixture(scope='module')
def cached(tmp_path_factory, teacher_folder):
    return make_cache(
        tmp_path_factory.mktemp('cached'), teacher_folder, num_views=2
    )


def batch_of(dataset, rows=range(4)):
    return pseudo_collate([dataset[row] for row in rows])


def live_batch_of(dataset, rows=range(4)):
    return pseudo_collate([dataset.view(row) for row in rows])


def losses_of(model, batch):
    return model(**model.data_preprocessor(batch, True), mode='loss')


def calls_of(model):
    """Return a list that grows with each forward of the denoiser."""
    calls = []
    model.teacher.live.denoiser.register_forward_pre_hook(
        lambda *args: calls.append(1)
    )
    return calls


def test_cached_features_are_live_ones_rounded_to_float16(cached):
    model, dataset = cached
    rows = range(len(dataset))
    feats, live = (
        model.teacher(*prepare_teacher_inputs(model, batch))[LAYER]
        for batch in (batch_of(dataset, rows), live_batch_of(dataset, rows))
    )
    assert feats.dtype == torch.float32
    torch.testing.assert_close(feats, live, **HALF)
    assert torch.equal(feats, live.half().float())
    assert not torch.equal(feats, live)


def test_a_step_has_the_same_loss_and_gradients_as_a_live_one(cached):
    model, dataset = cached
    calls = calls_of(model)
    model.zero_grad()
    live = losses_of(model, live_batch_of(dataset))
    assert len(calls) == 1
    live['loss_distill'].backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    ours = losses_of(model, batch_of(dataset))
    assert len(calls) == 1
    ours['loss_distill'].backward()
    assert set(ours) == set(live)
    for name in ('loss_distill', 'feature_relative_std'):
        torch.testing.assert_close(ours[name], live[name], rtol=1e-3, atol=0)
    assert ours['timestep_mean'] == live['timestep_mean'] == 100
    for parameter, grad in zip(model.parameters(), expected):
        distance = (parameter.grad - grad).norm()
        assert distance <= 2e-3 * grad.norm()


def test_decoder_and_reward_read_cached_features_too(cached, teacher_folder):
    _, dataset = cached
    config = model_config(teacher_folder)
    config['decoder'] = dict(type='repfusion_mm.ClsDecoder', num_classes=10)
    model = MODELS.build(config)
    batches = live_batch_of(dataset), batch_of(dataset)
    for batch in batches:
        for label, sample in enumerate(batch['data_samples']):
            sample.set_gt_label(label)
    live, ours = (losses_of(model, batch) for batch in batches)
    for name in ('loss_decoder', 'reward'):
        torch.testing.assert_close(ours[name], live[name], rtol=1e-3, atol=0)


SAMPLES = {
    'mmengine': (
        BaseDataElement,
        dict(type='mmengine.ImgDataPreprocessor', bgr_to_rgb=True),
    ),
    'mmpretrain': (
        DataSample,
        dict(type='mmpretrain.ClsDataPreprocessor', to_rgb=True),
    ),
    'mmpose': (
        PoseDataSample,
        dict(type='mmpose.PoseDataPreprocessor', bgr_to_rgb=True),
    ),
    'this package': (
        DataSample,
        dict(type='repfusion_mm.BatchDataPreprocessor', bgr_to_rgb=True),
    ),
    'mmseg': (
        SegDataSample,
        dict(type='mmseg.SegDataPreProcessor', bgr_to_rgb=True, size=(16, 16)),
    ),
}


@pytest.mark.parametrize('project', SAMPLES)
def test_samples_of_every_project_carry_features(
    project, tmp_path, teacher_folder
):
    sample_class, preprocessor = SAMPLES[project]

    class Packed(BaseDataset):
        def load_data_list(self):
            return [{} for _ in range(4)]

        def prepare_data(self, index):
            return dict(
                inputs=torch.randint(0, 256, (3, 16, 16)).byte(),
                data_samples=sample_class(),
            )

    config = model_config(teacher_folder)
    config['data_preprocessor'] = preprocessor
    model = MODELS.build(config)
    dataset = DATASETS.build(dict(
        type='repfusion_mm.CachedFeaturesDataset',
        dataset=Packed(),
        folder=str(tmp_path / 'features'),
    ))  # fmt: skip
    write_features(model, dataset, batch_size=4)
    live = losses_of(model, live_batch_of(dataset))
    calls = calls_of(model)
    ours = losses_of(model, batch_of(dataset))
    assert calls == []
    torch.testing.assert_close(
        ours['loss_distill'], live['loss_distill'], rtol=1e-3, atol=0
    )


def test_a_step_refuses_models_whose_features_change(cached, teacher_folder):
    config = model_config(teacher_folder, input_mode='noised')
    with pytest.raises(ValueError, match="got 'noised'"):
        losses_of(MODELS.build(config), batch_of(cached[1]))
    config = model_config(teacher_folder)
    config['policy'] = dict(type='repfusion_mm.UniformTimestepPolicy')
    with pytest.raises(ValueError, match='one timestep for all images'):
        losses_of(MODELS.build(config), batch_of(cached[1]))


def test_a_batch_of_which_some_samples_carry_features_is_refused(cached):
    model, dataset = cached
    items = [dataset[0], dataset.view(1), dataset.view(2)]
    with pytest.raises(ValueError, match='or for none, got 1 of 3'):
        losses_of(model, pseudo_collate(items))


INVALID = {
    'several timesteps': (
        dict(policy=dict(type='repfusion_mm.UniformTimestepPolicy', low=998)),
        'one timestep .* UniformTimestepPolicy with 2; use Fixed',
    ),
    'noise': (
        dict(teacher=dict(input_mode='noised')),
        "got 'noised', which adds random noise",
    ),
    'batch augments': (
        dict(data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor', to_rgb=True, num_classes=9,
            batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]),
        )),
        'without batch_augments .* ClsDataPreprocessor with them',
    ),
    'augments': (
        dict(data_preprocessor=dict(
            type='repfusion_mm.BatchDataPreprocessor', bgr_to_rgb=True,
            augments=[dict(type='RandomHorizontalFlip')],
        )),
        'without augments .* BatchDataPreprocessor with them',
    ),
    'class': (
        dict(teacher=dict(class_signal='random')),
        "got 'random', which adds a class to the input",
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', INVALID)
def test_models_whose_features_change_are_refused(
    cached, teacher_folder, tmp_path, case
):
    overrides, message = INVALID[case]
    if case == 'class':
        teacher_folder = save_teacher(tmp_path / 'ddpm', num_class_embeds=9)
    config = model_config(teacher_folder, **overrides.get('teacher', {}))
    config.update({k: v for k, v in overrides.items() if k != 'teacher'})
    model = MODELS.build(config)
    with pytest.raises(ValueError, match=message):
        check_cached_features(cached[1], model)


OTHERS = {
    'timestep': lambda c, _: c['policy'].update(timestep=101),
    'dtype': lambda c, _: c['teacher'].update(dtype='bfloat16'),
    'layers': lambda c, _: c['teacher'].update(layers=[OTHER_LAYER]),
    'image_size': lambda c, _: c['teacher'].update(input_size=32),
    'weights': lambda c, other: c['teacher'].update(pretrained=other),
}


@pytest.mark.parametrize('part', OTHERS)
def test_features_of_another_teacher_are_refused(
    cached, teacher_folder, tmp_path, part
):
    other = save_teacher(tmp_path / 'ddpm')
    if part == 'weights':
        edit_weights(other)
    config = model_config(teacher_folder)
    OTHERS[part](config, other)
    model = MODELS.build(config)
    with pytest.raises(ValueError, match=rf'[(;] ?{part}: expected'):
        losses_of(model, batch_of(cached[1]))


def edit_weights(folder):
    denoiser = diffusers.UNet2DModel.from_pretrained(folder)
    with torch.no_grad():
        denoiser.conv_in.bias[0] += 0.1
    denoiser.save_pretrained(folder)


def test_keys_are_compared_part_by_part():
    ours, theirs = dict(a=1, b='x' * 64), dict(a=1, b='y' * 64, c=2)
    with pytest.raises(ValueError) as error:
        compare_keys(json.dumps(theirs), json.dumps(ours))
    assert '(b: expected xxxxxxxxxxxx, got yyyyyyyyyyyy; c: ' in str(
        error.value
    )
    assert 'a: ' not in str(error.value)
    ours['b'] = dict(config=ours['b'])
    with pytest.raises(ValueError, match=r"expected \{'config': 'x{12}'\}"):
        compare_keys(json.dumps(theirs), json.dumps(ours))


def test_the_fingerprint_is_computed_once(cached, monkeypatch):
    model, dataset = cached
    batch = batch_of(dataset)
    losses_of(model, batch)
    monkeypatch.setattr(model.teacher.live, 'fingerprint', lambda: 'again')
    losses_of(model, batch)


def test_another_channel_order_is_detected(cached, teacher_folder):
    """It is not in the key, but live features differ."""
    _, dataset = cached
    config = model_config(teacher_folder)
    check_cached_features(dataset, MODELS.build(config))
    config['data_preprocessor'].pop('bgr_to_rgb')
    config['channel_order'] = 'rgb'
    with pytest.raises(ValueError, match='channel order'):
        check_cached_features(dataset, MODELS.build(config))
