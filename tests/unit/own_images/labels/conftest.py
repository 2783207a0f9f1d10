import pytest

from tests.helpers.own_images import make_folder


@pytest.fixture
def root(tmp_path):
    return make_folder(tmp_path)
