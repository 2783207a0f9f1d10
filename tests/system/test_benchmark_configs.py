"""Every config is trained for two iterations on miniature data.

The configs are found on disk. A finetune config starts from the student that
its distillation exports.
"""

import re

import pytest

from tests.helpers.miniature import check_distillation, finetune
from tests.unit.test_configs import DISTILL, FINETUNE, name


@pytest.fixture(autouse=True)
def _in_site(site, monkeypatch):
    monkeypatch.chdir(site)


@pytest.mark.parametrize('path', DISTILL, ids=name)
def test_every_distillation_trains_and_exports(path, monkeypatch):
    check_distillation(path.stem, monkeypatch)


@pytest.mark.parametrize('path', FINETUNE, ids=name)
def test_every_network_is_finetuned_in_a_separate_folder(path, site):
    metrics, log = finetune(path, site)
    assert metrics
    loaded = re.search(r'loaded (\d+)/\1 tensors of', log)
    assert (loaded is not None) == ('-repfusion' in path.stem)
