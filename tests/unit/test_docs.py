"""Documents match the code."""

import functools
import inspect
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

from repfusion_mm.models import FeatureRegressor
from tests.helpers.launcher import ROOT, run_main
from tests.helpers.levels import levels_config
from tests.helpers.toy import batch

PROJECTS = sorted((ROOT / 'docs/projects').glob('*.md'))
PAGES = [
    path
    for pattern in ('*.md', 'docs/**/*.md', 'projects/**/*.md')
    for path in sorted(ROOT.glob(pattern))
]
FOLDERS = 'configs|docs|projects|repfusion_mm|requirements|tests|tools'
PATH = rf'(?<![\w/.-])(?:{FOLDERS})/[\w./-]*\w'
MAKEFILE = (ROOT / 'Makefile').read_text()
SCRIPT = r'(?:tools|projects)/[\w/]+\.py|-m projects\.[\w.]+'


def name(page):
    return str(page.relative_to(ROOT).with_suffix(''))


@functools.lru_cache(maxsize=None)
def help_of(script):
    if script.startswith('-m '):
        script = script[3:].replace('.', '/') + '.py'
    return run_main(script, '--help').output


def anchors(page):
    """Return the anchors of a page's headings, as the site and GitHub."""
    headings = re.findall(r'^#+ (.*)$', page.read_text(), re.M)
    words = [re.sub(r'[^\w -]', '', heading.lower()) for heading in headings]
    return [heading.strip().replace(' ', '-') for heading in words]


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_links_and_paths_exist(page):
    text = page.read_text()
    for link in re.findall(r'\]\(([^)]*)\)', text):
        if link.startswith(('http', 'mailto:')):
            continue
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link
    for path in re.findall(PATH, text):
        if '...' in path or path.startswith('docs/_build'):
            continue
        # A table of contents is relative to its page and leaves out .md.
        found = (ROOT / path, page.parent / path, page.parent / f'{path}.md')
        assert any(candidate.exists() for candidate in found), path


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_scripts_have_the_options_that_pages_name(page):
    commands = page.read_text().replace('\\\n', ' ')
    for line in commands.splitlines():
        script = re.search(SCRIPT, line)
        if not script:
            continue
        for option in re.findall(r' (--[a-z][\w-]*)', line[script.end() :]):
            assert option in help_of(script[0]), line


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_scripts_that_need_the_repository_find_it(page):
    """``projects`` and ``tests`` are not installed, as the package is."""
    for line in page.read_text().splitlines():
        for script in re.findall(r'python ([\w/]+\.py)', line):
            path = ROOT / script
            if not path.exists() or 'PYTHONPATH=. ' in line:
                continue
            found = re.findall(
                r'^(?:from|import) (?:projects|tests)\b',
                path.read_text(),
                re.M,
            )
            assert not found, f'{line}: use python -m, or PYTHONPATH=.'


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_targets_of_make_exist(page):
    targets = set(re.findall(r'^([\w -]+):', MAKEFILE, re.M))
    targets = {target for line in targets for target in line.split()}
    code = re.findall(r'(?:^|`)make ([a-z-]+)', page.read_text(), re.M)
    assert set(code) <= targets


@pytest.mark.parametrize('page', PROJECTS, ids=lambda path: path.stem)
def test_another_project_loads_the_student(page, tmp_path, monkeypatch, log):
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
    cfg.model.pop('data_preprocessor', None)
    network = MODELS.build(cfg.model)
    network.init_weights()
    expected = re.search(r'`(loaded [^`]*)`', text)[1]
    expected = ' '.join(expected.split())
    assert any(line.startswith(expected) for line in log.messages)
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(value, weights[key]), key


def test_the_example_of_a_cached_config_keeps_the_dataset(tmp_path):
    text = (ROOT / 'docs/feature_cache.md').read_text()
    config = re.findall(r'```python\n(.*?)```', text, re.S)[0]
    folder = f'{ROOT}/configs/distill/'
    (tmp_path / 'cached.py').write_text(config.replace('./', folder))
    base = Config.fromfile(f'{folder}repfusion_resnet18_celebahq.py')
    ours = Config.fromfile(tmp_path / 'cached.py').train_dataloader
    theirs = base.train_dataloader
    (dataset,) = ours.dataset.pop('datasets')
    assert [dataset.pop('dataset')] == theirs.dataset.pop('datasets')
    assert ours == theirs
    cls = DATASETS.get(dataset.pop('type'))
    assert set(dataset) < set(inspect.signature(cls).parameters)


def test_the_example_of_several_layers_trains():
    text = (ROOT / 'docs/teachers.md').read_text()
    (section,) = re.findall(r'\n## Several layers\n(.*?)\n## ', text, re.S)
    model = levels_config()
    del model['connector']
    cfg = Config(dict(model=model))
    for example in re.findall(r'```python\n(.*?)```', section, re.S):
        cfg.merge_from_dict(Config.fromstring(example, '.py').to_dict())
    model = MODELS.build(cfg.model)
    data = model.data_preprocessor(batch(size=32), True)
    assert model.loss(**data)['loss_distill'] > 0
    assert isinstance(model.connectors, FeatureRegressor)
