"""Small models and data in their real formats."""

import pickle
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np
import torch
from mmpretrain.datasets import CIFAR10
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample

LAYER = 'mid_block.resnets.1.conv2'
DENOISER = dict(
    type='UNet2DModel',
    sample_size=16,
    block_out_channels=(8, 16),
    layers_per_block=1,
    norm_num_groups=4,
    attention_head_dim=4,
    down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
    up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
)
SCHEDULER = dict(type='DDPMScheduler', num_train_timesteps=1000)
#: Of 16 x 16 images; latents are 4 x 8 x 8.
AUTOENCODER = dict(
    type='AutoencoderKL',
    sample_size=16,
    block_out_channels=(4, 8),
    down_block_types=('DownEncoderBlock2D',) * 2,
    up_block_types=('UpDecoderBlock2D',) * 2,
    norm_num_groups=4,
)
#: A data preprocessor whose outputs are RGB in [-1, 1].
PIXELS = dict(
    type='mmengine.ImgDataPreprocessor',
    mean=[127.5] * 3,
    std=[127.5] * 3,
    bgr_to_rgb=True,
)


def save_teacher(folder: Path, **overrides) -> str:
    """Write a miniature denoiser as diffusers writes one."""
    from repfusion_mm.models.teachers.loading.denoiser import build_denoiser
    from repfusion_mm.models.teachers.loading.scheduler import build_scheduler

    torch.manual_seed(0)
    build_denoiser({**DENOISER, **overrides}).save_pretrained(folder)
    build_scheduler(SCHEDULER).save_pretrained(folder)
    return str(folder)


def distiller_config(**overrides) -> dict:
    """Return the config of a distiller that runs in milliseconds."""
    config = dict(
        type='repfusion_mm.RepFusion',
        data_preprocessor=dict(PIXELS),
        student=dict(
            type='mmpretrain.ResNet_CIFAR',
            depth=18,
            stem_channels=8,
            base_channels=8,
        ),
        teacher=dict(
            type='repfusion_mm.DiffusersTeacher',
            config=DENOISER,
            layers=[LAYER],
        ),
        policy=dict(type='repfusion_mm.LearnedTimestepPolicy'),
        decoder=dict(type='repfusion_mm.ClsDecoder', num_classes=10),
        distill_loss=dict(type='repfusion_mm.HintLoss'),
    )
    config.update(overrides)
    return config


def labeled_samples(labels: Sequence[Optional[int]]) -> List[DataSample]:
    """Return a data sample for each label; None leaves one unlabeled."""
    samples = [DataSample() for _ in labels]
    for sample, label in zip(samples, labels):
        if label is not None:
            sample.gt_label = torch.tensor([label])
    return samples


def batch(num_images: int = 4, labels=range(10), size: int = 16) -> dict:
    """Return images and samples; a label of None leaves one unlabeled."""
    samples = labeled_samples(labels[:num_images])
    images = torch.randint(0, 256, (num_images, 3, size, size))
    return dict(inputs=list(images.to(torch.uint8)), data_samples=samples)


@DATASETS.register_module()
class MiniCIFAR10(CIFAR10):
    """CIFAR-10 in its real format, without the sums of the real files."""

    train_list = [[f'data_batch_{i}', None] for i in range(1, 6)]
    test_list = [['test_batch', None]]
    meta = dict(filename='batches.meta', key='label_names', md5=None)


def save_cifar10(root: Path, num_each: int = 8) -> None:
    """Write a miniature CIFAR-10: five training batches and one for test."""
    folder = root / 'cifar-10-batches-py'
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [f'data_batch_{i}' for i in range(1, 6)] + ['test_batch']:
        content = dict(
            data=rng.integers(0, 256, (num_each, 3072), dtype=np.uint8),
            labels=rng.integers(0, 10, num_each).tolist(),
        )
        (folder / name).write_bytes(pickle.dumps(content))
    names = dict(label_names=[f'class {i}' for i in range(10)])
    (folder / 'batches.meta').write_bytes(pickle.dumps(names))
