import shutil

import pytest

from tests.helpers.cached import make_cache


@pytest.fixture(scope='module')
def written(tmp_path_factory, teacher_folder):
    """Images and features, written once; tests work on copies."""
    folder = tmp_path_factory.mktemp('written')
    make_cache(folder, teacher_folder, num_views=2)
    return folder


@pytest.fixture
def cache(written, tmp_path):
    for name in ('images', 'features'):
        shutil.copytree(written / name, tmp_path / name)
    return tmp_path
