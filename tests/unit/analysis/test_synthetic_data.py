import pytest
import torch
from mmengine.config import Config

from repfusion_mm.analysis.synthetic_data import (
    build_train_loader,
    describe_data,
)
from tests.helpers.launcher import ROOT
from tests.helpers.toy import save_cifar10


@pytest.fixture(autouse=True)
def _without_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read_config(pattern):
    path, *_ = sorted(ROOT.glob(f'configs/distill/{pattern}'))
    return Config.fromfile(path)


def read_learned(folder):
    """Read repfusion_custom.py with a policy that is trained on labels."""
    text = (ROOT / 'configs/distill/repfusion_custom.py').read_text()
    text = text.replace("'../_base_", f"'{ROOT}/configs/_base_")
    path = folder / 'learned.py'
    path.write_text(text.replace('timestep = None', "timestep = 'learned'", 1))
    return Config.fromfile(path)


def set_known_root(cfg):
    for part in cfg.train_dataloader.dataset.datasets:
        part.data_root = 'data/tiny-imagenet-200'


@pytest.mark.parametrize(
    ('pattern', 'shape', 'num_classes'),
    [
        ('repfusion_r18_cifar.py', (3, 32, 32), 10),
        ('repfusion_r*18_tiny-imagenet.py', (3, 64, 64), 200),
        ('*_on-device_tiny-imagenet.py', (3, 64, 64), 200),
        ('repfusion_r*18_imagenet.py', (3, 256, 256), 1000),
        ('repfusion_r*18_celebahq.py', (3, 256, 256), None),
    ],
)
def test_synthetic_images_pass_through_the_pipeline(
    pattern, shape, num_classes
):
    loader = build_train_loader(
        read_config(pattern), 8, batch_size=4, num_workers=0
    )
    assert describe_data(loader).startswith('synthetic images')
    batches = list(loader)
    assert len(batches) == 2
    for batch in batches:
        assert len(batch['inputs']) == len(batch['data_samples']) == 4
        for image, sample in zip(batch['inputs'], batch['data_samples']):
            assert image.shape == shape
            assert image.dtype == torch.uint8
            assert image.float().std() > 10
            assert ('gt_label' in sample) == (num_classes is not None)
            if num_classes:
                assert 0 <= sample.gt_label < num_classes


def test_data_on_disk_are_preferred(tmp_path):
    save_cifar10(tmp_path / 'data/cifar10')
    cfg = read_config('repfusion_r18_cifar.py')
    dataset = cfg.train_dataloader.dataset
    for part in dataset.get('datasets', [dataset]):
        part.type = 'tests.helpers.toy.MiniCIFAR10'
    for num_images, num_batches in ((12, 3), (1000, 10)):
        loader = build_train_loader(
            cfg, num_images, batch_size=4, num_workers=0
        )
        assert describe_data(loader) == (
            'the dataset on this disk (MiniCIFAR10)'
        )
        assert len(list(loader)) == num_batches


def test_parts_of_a_concatenation_keep_their_labels(tmp_path):
    cfg = read_learned(tmp_path)
    with pytest.raises(FileNotFoundError, match="in 'data/mine'"):
        build_train_loader(cfg, 8)
    set_known_root(cfg)
    loader = build_train_loader(cfg, 8, batch_size=4, num_workers=0)
    assert describe_data(loader).startswith('synthetic images')
    samples = next(iter(loader))['data_samples']
    assert sum('gt_label' in sample for sample in samples) == 2


def test_wrappers_of_a_concatenation_are_kept(tmp_path):
    cfg = read_learned(tmp_path)
    cfg.train_dataloader.dataset.type = 'repfusion_mm.SeededConcatDataset'
    set_known_root(cfg)
    loader = build_train_loader(cfg, 8, batch_size=4, num_workers=0)
    dataset = loader.dataset._dataset  # within mmengine's slice
    assert type(dataset).__name__ == 'SeededConcatDataset'


def test_missing_label_maps_are_an_error():
    with pytest.raises(FileNotFoundError, match='only images with class'):
        build_train_loader(read_config('repfusion_r*18_celebamask.py'), 8)
