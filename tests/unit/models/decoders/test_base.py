import pytest
import torch

from repfusion_mm.models import (
    ClsDecoder,
    DetDecoder,
    KeypointDecoder,
    SegDecoder,
)
from tests.helpers.dense_samples import (
    det_samples,
    pose_samples,
    seg_samples,
)
from tests.helpers.toy import batch

FEAT = torch.randn(4, 6, 2, 2)
MAPS = [torch.zeros(8, 8, dtype=torch.long)] * 4
ALL = dict(
    ClsDecoder=(ClsDecoder(10, 6), lambda: batch(4)['data_samples']),
    SegDecoder=(SegDecoder(3, 6), lambda: seg_samples(MAPS)),
    DetDecoder=(
        DetDecoder(3, 6),
        lambda: det_samples([[(0, 0, 9, 9, 1)]] * 4),
    ),
    KeypointDecoder=(
        KeypointDecoder(5, 6),
        lambda: pose_samples(torch.full((4, 5, 2), 0.5), torch.ones(4, 5)),
    ),
)


@pytest.mark.parametrize('other', ALL)
@pytest.mark.parametrize('name', ALL)
def test_labels_of_another_task_are_refused(name, other):
    net, samples = ALL[name][0], ALL[other][1]()
    if name == other:
        assert net.loss(FEAT, samples)[1].all()
        return
    kind = type(samples[0]).__name__
    with pytest.raises(ValueError, match=f'for {name}, got {kind} .*{other}'):
        net.loss(FEAT, samples)
