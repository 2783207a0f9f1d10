"""Every config is trained for two iterations, as it stands.

The configs are found, not listed. A finetune config starts from the student
that its distillation exports here.
"""

import re
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from repfusion_mm.engine.checkpoint.io import load_from_local
from repfusion_mm.models import DiffusersTeacher
from tests.helpers.miniature import distill, options_for
from tests.unit.test_configs import CONFIGS, ROOT, find_init, name

DISTILL = [path for path in CONFIGS if path.parent.name == 'distill']
FINETUNE = [p for p in CONFIGS if p.parent.parent.name == 'finetune']


@pytest.fixture(autouse=True)
def _in_the_site(site, monkeypatch):
    monkeypatch.chdir(site)


@pytest.fixture
def samples(monkeypatch):
    """What denoisers are given."""
    seen = []
    original = DiffusersTeacher._to_denoiser_input

    def spy(self, images, timesteps):
        seen.append(original(self, images, timesteps))
        return seen[-1]

    monkeypatch.setattr(DiffusersTeacher, '_to_denoiser_input', spy)
    return seen


@pytest.mark.parametrize('path', DISTILL, ids=name)
def test_every_distillation_trains_two_iterations_and_exports(path, samples):
    """Fault 1 of the public code: teachers see ImageNet-normalised images."""
    student = load_from_local(distill(path.stem))
    assert all(v.isfinite().all() for v in student['state_dict'].values())
    batch = samples[-1]
    assert batch.min() >= -1 and batch.max() <= 1
    assert batch.min() < -0.5 and batch.max() > 0.5


def test_faces_are_distilled_from_training_images_alone(site):
    """Fault 12 of the public code: the students see the test images."""
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


@pytest.mark.parametrize('path', FINETUNE, ids=name)
def test_every_finetuning_runs_alone_and_is_evaluated(path, site):
    alone = site / path.stem
    alone.mkdir()
    config = shutil.copy(path, alone)
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options_for(path))
    cfg.work_dir = str(alone)
    init = find_init(cfg.model)
    if '-repfusion' in path.stem:
        distilled = init.checkpoint.split('/')[1]
        if not (site / init.checkpoint).exists():
            distill(distilled)
    else:
        assert init is None
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    metrics = runner.test()
    assert metrics
    log = next(alone.glob('*/*.log')).read_text()
    loaded = re.search(r'loaded (\d+)/\1 tensors of', log)
    assert (loaded is not None) == ('-repfusion' in path.stem)
