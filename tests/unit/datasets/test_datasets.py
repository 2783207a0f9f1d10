import pytest

from repfusion_mm import datasets
from repfusion_mm.registry import DATASETS


@pytest.mark.parametrize('name', sorted(DATASETS.modules))
def test_datasets_are_imported_by_name(name):
    dataset = getattr(datasets, name)
    assert dataset is DATASETS.get(f'repfusion_mm.{name}')


def test_other_names_are_not_there():
    with pytest.raises(ImportError, match='Nope'):
        from repfusion_mm.datasets import Nope  # noqa: F401
