"""Every config is trained for two iterations, as it stands.

The configs are found, not listed. A finetune config starts from the student
that its distillation exports here.
"""

import re
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from tests.miniature import distil, options_for
from tests.test_configs import CONFIGS, find_init, name

DISTILL = [path for path in CONFIGS if path.parent.name == 'distill']
FINETUNE = [p for p in CONFIGS if p.parent.parent.name == 'finetune']


@pytest.fixture(autouse=True)
def _in_the_site(site, monkeypatch):
    monkeypatch.chdir(site)


@pytest.mark.parametrize('path', DISTILL, ids=name)
def test_every_distillation_trains_two_iterations_and_exports(path):
    student = torch.load(distil(path.stem), weights_only=True)
    assert all(v.isfinite().all() for v in student['state_dict'].values())


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
            distil(distilled)
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
