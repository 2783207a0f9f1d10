"""Learned policies on every task, with a known best timestep."""

import pytest
import torch
import torch.nn as nn
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from mmpose.structures import PoseDataSample
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from repfusion_mm.analysis.report.checks import run_checks
from repfusion_mm.analysis.report.runs import read_run
from repfusion_mm.models.teachers.base import BaseTeacher
from tests.helpers.dense_samples import det_samples
from tests.helpers.memory_run import config
from tests.helpers.toy import distiller_config

pytestmark = pytest.mark.slow
BEST, WIDTH, SIDE = 300, 120, 16


@MODELS.register_module()
class OracleTeacher(BaseTeacher):
    """Return the image at t = 300, and more noise the further t is from it.

    With an infinite width it returns the image at every timestep.
    """

    num_timesteps = 1000
    image_size = SIDE
    feature_shapes = dict(pixels=(3, 8, 8))

    def __init__(self, width=WIDTH):
        super().__init__()
        self.width = width

    def forward(self, images, timesteps, data_samples=None):
        shown = torch.exp(-0.5 * ((timesteps - BEST) / self.width) ** 2)
        shown = shown.view(-1, 1, 1, 1)
        pixels = nn.functional.avg_pool2d(images * 2 - 1, 2)
        noise = torch.randn_like(pixels)
        return dict(pixels=shown * pixels + (1 - shown) * noise)


def scene(num_images):
    """Return images of a bright square in one of three colors, and labels."""
    images = torch.zeros(num_images, 3, SIDE, SIDE)
    colors = torch.randint(3, (num_images,))
    corners = torch.randint(0, SIDE // 2, (num_images, 2)) // 2 * 2
    maps = torch.zeros(num_images, SIDE, SIDE, dtype=torch.long)
    for image, label_map, color, (x, y) in zip(images, maps, colors, corners):
        image[color, y : y + 8, x : x + 8] = 255
        label_map[y : y + 8, x : x + 8] = 1 + color
    return images, colors, maps, (corners + 4.0) / SIDE


def class_samples(colors, maps, centers):
    return [DataSample().set_gt_label(c) for c in colors]


def mask_samples(colors, maps, centers):
    samples = [SegDataSample() for _ in maps]
    for sample, label_map in zip(samples, maps):
        sample.gt_sem_seg = PixelData(data=label_map[None])
    return samples


def pose_samples(colors, maps, centers):
    samples = [PoseDataSample() for _ in centers]
    for sample, center in zip(samples, centers):
        sample.gt_instance_labels = InstanceData(
            keypoint_labels=center[None, None],
            keypoint_weights=torch.ones(1, 1),
        )
    return samples


def box_samples(colors, maps, centers):
    boxes = []
    for color, center in zip(colors.tolist(), (centers * SIDE).tolist()):
        x, y = (i - 4 for i in center)
        boxes.append([(x, y, x + 8, y + 8, color)])
    return det_samples(boxes, size=(SIDE, SIDE))


STUDENT = dict(
    type='mmpretrain.ResNet_CIFAR',
    depth=18,
    stem_channels=4,
    base_channels=4,
    num_stages=1,
    strides=(1,),
    dilations=(1,),
    out_indices=(0,),
)


@pytest.mark.parametrize(
    ('decoder', 'label'),
    [
        (dict(type='ClsDecoder', num_classes=3), class_samples),
        (dict(type='SegDecoder', num_classes=4), mask_samples),
        (dict(type='KeypointDecoder', num_keypoints=1), pose_samples),
        (
            dict(type='DetDecoder', num_classes=3, hidden_channels=(16,)),
            box_samples,
        ),
    ],
    ids=['classes', 'masks', 'keypoints', 'boxes'],
)
def test_the_policy_finds_the_best_timestep(decoder, label):
    decoder = dict(decoder, type=f'repfusion_mm.{decoder["type"]}')
    model = MODELS.build(
        distiller_config(
            teacher=dict(type='OracleTeacher'),
            student=STUDENT,
            decoder=decoder,
        )
    )
    parts = model.optim_parts()
    optimizer = torch.optim.Adam(
        [
            dict(params=parts['policy'].parameters(), lr=1e-3),
            dict(params=parts['decoder'].parameters(), lr=1e-2),
        ]
    )
    steps = 120
    for step in range(steps):
        model.policy.entropy_weight = 0.1 * max(0, 1 - 2 * step / steps)
        images, *labels = scene(32)
        losses = model(images / 255 * 2 - 1, label(*labels), mode='loss')
        optimizer.zero_grad()
        (losses['loss_decoder'] + losses['loss_policy']).backward()
        optimizer.step()
    probs = model.policy(scene(32)[0] / 255).probs.mean(0)
    timesteps = torch.arange(1000)
    shown = torch.exp(-0.5 * ((timesteps - BEST) / WIDTH) ** 2)
    # Timesteps near the peak are as good as the peak.
    assert (probs * shown).sum() > 0.85


@DATASETS.register_module()
class SceneDataset(BaseDataset):
    """Scenes with a class label."""

    def load_data_list(self):
        self.images, colors, *_ = scene(1024)
        self.samples = class_samples(colors, None, None)
        return [dict(gt_label=color) for color in colors.tolist()]

    def prepare_data(self, idx):
        return dict(
            inputs=self.images[idx].to(torch.uint8),
            data_samples=self.samples[idx],
        )


@pytest.mark.parametrize(
    ('width', 'words'),
    [(WIDTH, 'learned to prefer t = '), (float('inf'), 'learned nothing: in')],
    ids=['one_peak', 'all_equal'],
)
def test_a_run_tells_whether_the_policy_learned(tmp_path, width, words):
    torch.manual_seed(0)
    hook = dict(type='repfusion_mm.TimestepPolicyHook')
    decoder = dict(type='repfusion_mm.ClsDecoder', num_classes=3)
    cfg = config(
        tmp_path,
        [hook],
        student=STUDENT,
        teacher=dict(type='OracleTeacher', width=width),
        decoder=decoder,
    )
    cfg.train_dataloader.batch_size = 32
    cfg.train_dataloader.dataset.datasets = [dict(type='SceneDataset')]
    cfg.optim_wrapper.decoder.optimizer.lr = 1e-2
    cfg.default_hooks.logger.interval = 8
    runner = Runner.from_cfg(cfg)
    runner.train()
    log = (tmp_path / runner.timestamp / f'{runner.timestamp}.log').read_text()
    verdicts = [i for i in log.splitlines() if 'The policy learned' in i]
    assert len(verdicts) == 1
    assert words in verdicts[0]
    warnings = [c.warning for c in run_checks(read_run(tmp_path))]
    reported = [w for w in warnings if w and 'policy learned nothing' in w]
    assert len(reported) == ('nothing' in words)
