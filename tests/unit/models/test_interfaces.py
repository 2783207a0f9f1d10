"""What users extend tells which method is missing, when it is built."""

import pytest

from repfusion_mm.models.connectors.base import MultiLevelConnector
from repfusion_mm.models.decoders.base import TaskDecoder
from repfusion_mm.models.losses.base import DistillLoss
from repfusion_mm.models.normalizers.base import BaseNormalizer
from repfusion_mm.models.teachers.base import BaseTeacher
from repfusion_mm.models.teachers.families.base import DenoiserFamily


@pytest.mark.parametrize(
    ('interface', 'method', 'arguments'),
    [
        (BaseTeacher, 'forward', ()),
        (DenoiserFamily, 'forward_kwargs', ({},)),
        (DistillLoss, 'forward', ()),
        (BaseNormalizer, 'normalize', (8,)),
        (MultiLevelConnector, 'forward', ([], [])),
        (TaskDecoder, 'loss', ()),
    ],
)
def test_a_subclass_without_its_method_cannot_be_built(
    interface, method, arguments
):
    unfinished = type('Unfinished', (interface,), {})
    with pytest.raises(TypeError, match=f'abstract .*{method}'):
        unfinished(*arguments)
    finished = type('Finished', (unfinished,), {method: lambda self: None})
    finished(*arguments)
