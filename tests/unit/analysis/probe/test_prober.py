"""A prober of made-up images and of a teacher whose features are known."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from repfusion_mm.analysis.probe.prober import (
    Prober,
    check_repeated,
    find_task,
)
from repfusion_mm.analysis.probe.tasks.classification import ClassTask
from repfusion_mm.analysis.probe.tasks.keypoints import KeypointTask
from repfusion_mm.analysis.probe.tasks.masks import MaskTask
from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.losses.utils import pool
from tests.helpers.dense_samples import pose_samples, seg_samples
from tests.helpers.toy import AUTOENCODER, DENOISER, LAYER

NUM = 12


class Teacher:
    """Returns the image plus its timestep, in two layers."""

    num_timesteps = 1000
    input_mode = 'clean'

    def __init__(self):
        self.calls = []

    def __call__(self, images, timesteps):
        self.calls.append((timesteps[0].item(), self.input_mode))
        maps = images + timesteps[:, None, None, None]
        return dict(low=maps, high=-maps[..., ::2, ::2])


def prober_of(task, teacher=None):
    images = torch.rand(NUM, 3, 4, 4, generator=torch.manual_seed(0))
    prober = Prober.__new__(Prober)  # without a config
    vars(prober).update(
        task=task,
        targets=[np.array(i % 3) for i in range(NUM)],
        teacher=teacher or Teacher(),
        input_mode='clean',
        grids=dict(low=(4, 4), high=(2, 2)),
        batches=images.split(5),
        seed=0,
        _latents={},
        cfg=Config(dict(model=dict(teacher=dict(type='Teacher')))),
        model=SimpleNamespace(external_hashes={'a': 'b'}),
    )
    return prober, images


def class_task():
    return ClassTask([np.array(i % 3) for i in range(NUM)])


def test_samples_without_a_label_have_no_task():
    assert find_task(()) is None
    assert find_task(DataSample()) is find_task(SegDataSample()) is None
    assert find_task(DataSample().set_gt_label(1)) is ClassTask
    assert find_task(DataSample().set_gt_score([0.5, 0.5])) is ClassTask
    assert find_task(*seg_samples([torch.zeros(2, 2)])) is MaskTask
    points = torch.rand(1, 2, 2)
    assert find_task(*pose_samples(points, torch.ones(1, 2))) is KeypointTask


def test_boxes_are_refused_with_what_makes_masks_of_them():
    sample = DataSample()
    sample.set_field(InstanceData(labels=torch.ones(2)), 'gt_instances')
    with pytest.raises(ValueError, match=r'got boxes .*BoxesToMask'):
        find_task(sample)


def test_what_makes_scores_too_high_is_said():
    prober, images = prober_of(class_task())
    vars(prober).update(is_truncated=False, num_dropped=0, paths=set())
    assert prober.summary() == f'{NUM} labeled images'
    images[1] = images[0]
    assert '(1 of them equal others in all pixels' in prober.summary()
    vars(prober).update(paths={'a.jpg', 'b.jpg'}, num_dropped=2)
    assert 'without 2, the only ones of their class' in prober.summary()
    assert 'instances of 2 images: those of the same' in prober.summary()


def test_a_repeated_image_is_refused():
    def check(*keys):
        seen = set()
        for path, number in keys:
            metainfo = dict(img_path=path, id=number)
            metainfo = {k: v for k, v in metainfo.items() if v is not None}
            check_repeated(DataSample(metainfo=metainfo), seen)

    check(('a/1.jpg', None), ('a/2.jpg', None), ('b/1.jpg', None))
    check(('a/1.jpg', 1), ('a/1.jpg', 2))  # two instances
    check((None, None), (None, None))  # unknown
    for repeat in ('a/1.jpg', 'a/./1.jpg'):
        with pytest.raises(ValueError, match=f'once .* got {repeat} twice'):
            check(('a/1.jpg', None), ('a/2.jpg', None), (repeat, None))


@pytest.mark.parametrize(('last', 'kept'), [((5, 0), 11), ((5, 6), NUM)])
def test_few_single_images_of_a_draw_are_dropped(last, kept):
    prober, images = prober_of(class_task())
    labels = (0, 1, 0, 1, 2, 2, 3, 3, 4, 4, *last)
    prober.targets = [np.array(label) for label in labels]
    prober._drop_single_images()
    assert len(prober.targets) == kept
    rows = [i for i in range(NUM) if kept == NUM or i != 10]
    assert torch.equal(torch.cat(prober.batches), images[rows])
    assert [int(i) for i in prober.targets] == [labels[i] for i in rows]


def test_features_are_those_of_all_images_in_order():
    prober, images = prober_of(class_task())
    feats = prober.features(7, 'noised')
    assert prober.teacher.calls == [(7, 'noised')] * 3
    expected = pool(images + 7)[:, None].numpy()
    np.testing.assert_allclose(feats['low'], expected, rtol=1e-6)
    expected = -pool(images[..., ::2, ::2] + 7)[:, None].numpy()
    np.testing.assert_allclose(feats['high'], expected, rtol=1e-6)


@pytest.mark.parametrize('posterior', ['mean', 'sample'])
def test_latents_are_encoded_once_for_all_timesteps(posterior):
    prober, _ = prober_of(class_task())
    images = torch.rand(NUM, 3, 16, 16)
    prober.batches = images.split(5)
    latents = dict(in_channels=4, out_channels=4, sample_size=8)
    teacher = DiffusersTeacher(
        [LAYER], config={**DENOISER, **latents}, vae=AUTOENCODER,
        dtype='float32', posterior=posterior,
    )  # fmt: skip
    prober.teacher, encoded = teacher, []
    teacher.encoder.register_forward_hook(
        lambda module, inputs, output: encoded.append(len(output.mean))
    )
    found = [
        prober.features(t, mode)[LAYER]
        for t in (0, 500)
        for mode in ('clean', 'noised')
    ]
    assert encoded == [5, 5, 2]
    torch.manual_seed(prober.seed + 500)
    maps = [
        teacher(part, torch.full((len(part),), 500))[LAYER]
        for part in prober.batches
    ]
    expected = pool(torch.cat(maps))[:, None].numpy()
    np.testing.assert_array_equal(found[-1], expected)


def test_scipy_is_missed_before_features_are_computed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'scipy.stats', None)
    with pytest.raises(ImportError, match='scipy'):
        Prober(Config(dict(model=dict(teacher=dict(type='unknown')))))


def test_an_interrupted_probe_computes_what_is_missing(tmp_path):
    prober, _ = prober_of(class_task())
    first = prober.probe([0, 5], ['clean'], tmp_path)
    assert [*first] == [
        ('clean', layer, t) for layer in ('low', 'high') for t in (0, 5)
    ]
    (tmp_path / 'features/clean_5.npz').unlink()
    (tmp_path / 'features/clean_5.tmp').write_bytes(b'partial')
    prober, _ = prober_of(class_task())
    second = prober.probe([0, 5], ['clean', 'noised'], tmp_path)
    assert prober.teacher.calls[::3] == [
        (5, 'clean'), (0, 'noised'), (5, 'noised')
    ]  # fmt: skip
    for key, m in first.items():
        np.testing.assert_array_equal(m.skill, second[key].skill)
    assert not list(tmp_path.rglob('*.tmp'))


@pytest.mark.parametrize(
    ('edit', 'part'),
    [
        (dict(model=SimpleNamespace(external_hashes={'a': 'c'})), 'hashes.a'),
        (dict(targets=[np.array(0)] * NUM), 'images.labels'),
        (dict(batches=[torch.zeros(NUM, 3, 4, 4)]), 'images.pixels'),
        (
            dict(cfg=Config(dict(model=dict(teacher=dict(layers=[1]))))),
            'teacher.layers',
        ),
    ],
)
def test_features_of_other_teachers_and_images_are_refused(
    tmp_path, edit, part
):
    prober, _ = prober_of(class_task())
    prober.probe([0], ['clean'], tmp_path)
    vars(prober).update(edit)
    with pytest.raises(ValueError, match=f'{part}.*give another --out'):
        prober.probe([0], ['clean'], tmp_path)


def test_features_that_are_not_finite_are_refused(tmp_path):
    class Broken(Teacher):
        def __call__(self, images, timesteps):
            return dict(low=images / (timesteps[0] - 5))

    prober, _ = prober_of(class_task(), Broken())
    with pytest.raises(ValueError, match='NaN or Inf in low at t = 5; set'):
        prober.probe([0, 5], ['clean'], tmp_path)
    assert [p.name for p in tmp_path.rglob('*.npz')] == ['clean_0.npz']


@pytest.mark.parametrize(
    ('length', 'given', 'expected'),
    [
        (1000, None, [*range(0, 1000, 50), 999]),
        (1000, [300, 0, 300], [0, 300]),
        (1, None, [0]),
        (7, None, [*range(7)]),
    ],
)
def test_timesteps_are_of_the_schedule(length, given, expected):
    prober, _ = prober_of(class_task())
    prober.teacher.num_timesteps = length
    assert prober.select_timesteps(given) == expected
    message = rf'--timesteps in \[0, {length - 1}\].*got \[-1, 1000\]'
    with pytest.raises(ValueError, match=message):
        prober.select_timesteps([0, -1, 1000])


def test_input_modes_are_those_of_the_teacher():
    prober, _ = prober_of(class_task())
    assert prober.select_modes(None) == ['clean']
    assert prober.select_modes(['noised']) == ['noised']
    prober.input_mode = None
    assert prober.select_modes(None) == ['clean']
    with pytest.raises(ValueError, match='Teacher, which has no noise'):
        prober.select_modes(['clean'])
