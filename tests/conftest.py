import os
from unittest import mock

import pytest
import torch
from mmengine.registry import init_default_scope

from repfusion_mm.utils.compat import READS_SAFELY  # heals the stack as well

torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _same_draws():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _same_environment():
    """What the tools set for their own process ends with the test."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def fresh_compiler(tmp_path, monkeypatch):
    """Nothing that was compiled before."""
    if not READS_SAFELY:
        pytest.skip('torch 2.1 compiles no pass that ends early: seen there')
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'inductor'))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def no_compiler(fresh_compiler):
    """A machine on which torch.compile finds no C++ compiler."""
    from torch._inductor import config

    # Not pytest's monkeypatch: once it has put an option of this module back,
    # the module says that there is none.
    with config.patch({'cpp.cxx': ('nowhere',), 'fx_graph_cache': False}):
        yield


@pytest.fixture(scope='session')
def teacher_folder(tmp_path_factory):
    from tests.helpers.toy import save_teacher

    return save_teacher(tmp_path_factory.mktemp('teacher') / 'ddpm')


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    """A folder with the data and teachers that the configs name."""
    from tests.helpers.miniature import make_site

    site = tmp_path_factory.mktemp('site')
    make_site(site)
    return site
