"""What the documentation says, done."""

import inspect
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

from tests.unit.test_configs import ROOT

PAGES = sorted((ROOT / 'docs/projects').glob('*.md'))
PATH = r'(?<![\w/])(?:configs|tools|docs|tests)/[\w./-]+\w'
DOCS = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.stem)
def test_a_project_of_ones_own_loads_the_student(page, tmp_path, monkeypatch):
    text = page.read_text()
    distilled, config = re.findall(r'```python\n(.*?)```', text, re.S)
    student = {}
    exec(distilled, student)
    init_default_scope('mmpretrain')
    weights = MODELS.build(student['student']).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'student.pth')

    monkeypatch.chdir(tmp_path)
    Path('config.py').write_text(config)
    cfg = Config.fromfile('config.py')
    init_default_scope(page.stem)
    said = []
    monkeypatch.setattr(
        'repfusion_mm.engine.checkpoint.initializers.print_log',
        lambda message, **kwargs: said.append(message),
    )
    cfg.model.pop('data_preprocessor', None)
    network = MODELS.build(cfg.model)
    network.init_weights()
    promised = re.search(r'`(loaded [^`]*)`', text)[1]
    assert said[0].startswith(' '.join(promised.split()))
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_a_cached_config_wraps_what_it_inherits(tmp_path):
    text = (ROOT / 'docs/feature_cache.md').read_text()
    config = re.findall(r'```python\n(.*?)```', text, re.S)[0]
    folder = f'{ROOT}/configs/distill/'
    (tmp_path / 'cached.py').write_text(config.replace('./', folder))
    base = Config.fromfile(f'{folder}repfusion_r18_celebahq.py')
    ours = Config.fromfile(tmp_path / 'cached.py').train_dataloader
    dataset = ours.pop('dataset')
    assert dataset.pop('dataset') == base.train_dataloader.pop('dataset')
    assert ours == base.train_dataloader
    cls = DATASETS.get(dataset.pop('type'))
    assert set(dataset) < set(inspect.signature(cls).parameters)


@pytest.mark.parametrize('page', DOCS, ids=lambda path: path.stem)
def test_what_pages_name_is_there(page):
    text = page.read_text()
    for link in re.findall(r'\]\(([^)#]*)\)', text):
        if not link.startswith('http'):
            assert (page.parent / link).exists(), link
    for path in re.findall(PATH, text):
        if '...' not in path:
            assert (ROOT / path).exists(), path
