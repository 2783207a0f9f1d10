"""What the distillation of faces reads.

All configs are trained in tests/system/test_benchmark_configs.py.
"""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from tests.helpers.launcher import ROOT
from tests.helpers.miniature import check_distillation


@pytest.fixture(autouse=True)
def _in_site(site, monkeypatch):
    monkeypatch.chdir(site)


@pytest.mark.slow
def test_the_teacher_gets_images_in_its_range(monkeypatch):
    check_distillation('repfusion_resnet18_celebamask', monkeypatch)


def test_the_distillation_of_faces_reads_training_images_only(site):
    """The reference implementation distills on the test images, too."""
    faces = Config.fromfile(ROOT / 'configs/_base_/datasets/celebahq.py')
    dataset = DATASETS.build(faces.train_dataloader.dataset)
    seen = {
        Path(info['img_path']).stem
        for info in map(dataset.get_data_info, range(len(dataset)))
    }
    lists = {
        split: site / f'data/CelebAMask-HQ/splits/{split}.txt'
        for split in ('train', 'val', 'test')
    }
    ids = {split: set(p.read_text().split()) for split, p in lists.items()}
    assert seen == ids['train']
    assert ids['val'] and ids['test']
    assert not seen & (ids['val'] | ids['test'])
