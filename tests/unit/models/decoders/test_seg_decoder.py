import pytest
import torch
import torch.nn.functional as F

from repfusion_mm.models import SegDecoder
from tests.helpers.dense_samples import seg_samples

FEAT = torch.randn(4, 6, 2, 2)


def test_pixels_are_averaged_within_each_image():
    net = SegDecoder(3, in_channels=6)
    maps = torch.randint(0, 3, (4, 8, 8))
    maps[1] = 255
    maps[2, :4] = 255
    samples = seg_samples([maps[0], maps[1], maps[2], None])
    losses, labeled = net.loss(FEAT, samples)
    assert labeled.tolist() == [True, False, True, False]
    logits = F.interpolate(net(FEAT), size=(8, 8), mode='bilinear')
    for i in (0, 2):
        expected = F.cross_entropy(
            logits[i : i + 1], maps[i : i + 1], ignore_index=255
        )
        torch.testing.assert_close(losses[i], expected)
    assert losses[[1, 3]].tolist() == [0.0, 0.0]
    losses.sum().backward()
    with pytest.raises(ValueError, match=r'in \[0, 2\] .*got \[7\]'):
        net.loss(FEAT, seg_samples([maps[0] * 0 + 7]))


def test_batches_without_a_label_map_train():
    net = SegDecoder(3, in_channels=6, hidden_channels=(4,))
    for samples in (None, seg_samples([None] * 4)):
        losses, labeled = net.loss(FEAT, samples)
        assert losses.tolist() == [0.0] * 4
        assert not labeled.any()
        losses.sum().backward()


def test_a_negative_ignored_label_is_not_255_in_maps_of_bytes():
    """mmdet packs label maps as uint8."""
    net = SegDecoder(3, in_channels=6, ignore_index=-1)
    maps = torch.full((8, 8), 255, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r'in \[0, 2\] .*got \[255\]'):
        net.loss(FEAT[:1], seg_samples([maps]))
