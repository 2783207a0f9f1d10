import pytest
import torch
from mmengine.registry import init_default_scope

import repfusion_mm  # noqa: F401  # heals the stack before it is imported

torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _same_draws():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def teacher_folder(tmp_path_factory):
    from tests.toy import save_teacher

    return save_teacher(tmp_path_factory.mktemp('teacher') / 'ddpm')


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    """A folder with the data and teachers that the configs name."""
    from tests.miniature import make_site

    site = tmp_path_factory.mktemp('site')
    make_site(site)
    return site
