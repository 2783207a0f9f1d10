import copy
import math

import pytest
import torch

from repfusion_mm.models import DetDecoder
from tests.helpers.dense_samples import det_samples

FEAT = torch.randn(4, 6, 4, 8)
#: Centers in row 1, column 1 and in row 2, column 6 of 4 x 8 cells.
BOXES = [(0, 8, 24, 40, 0), (40, 24, 64, 56, 2)]


def losses_of(samples, feat=FEAT, num_classes=3):
    torch.manual_seed(0)
    return DetDecoder(num_classes, in_channels=6).loss(feat, samples)


def focal_loss(logits, target):
    """Eq. 1 of CenterNet, arXiv 1904.07850, of one image."""
    total, num_boxes = 0.0, 0
    p = logits.sigmoid().flatten().tolist()
    for y_hat, y in zip(p, target.flatten().tolist()):
        if y == 1:
            num_boxes += 1
            total -= (1 - y_hat) ** 2 * math.log(y_hat)
        else:
            total -= (1 - y) ** 4 * y_hat**2 * math.log(1 - y_hat)
    return total / num_boxes


def test_the_loss_is_the_focal_loss_of_gaussians_around_centers():
    net = DetDecoder(3, in_channels=6)
    target = torch.zeros(3, 4, 8)
    for c, row, column, left, top, right, bottom in (
        (0, 1, 1, 0, 8, 24, 40),
        (2, 2, 6, 40, 24, 64, 56),
    ):
        # Sides in cells of 8 x 16 pixels, as in TTFNet.
        across = 0.54 * (right - left) / 8 / 6
        down = 0.54 * (bottom - top) / 16 / 6
        for i in range(4):
            for j in range(8):
                exponent = ((j - column) / across) ** 2 / 2
                exponent += ((i - row) / down) ** 2 / 2
                target[c, i, j] = math.exp(-exponent)
    losses, labeled = net.loss(FEAT, det_samples([BOXES] * 4))
    assert labeled.all()
    for i in range(4):
        expected = focal_loss(net(FEAT)[i], target)
        assert losses[i].item() == pytest.approx(expected, rel=1e-4)


def test_images_without_a_box_that_counts_are_unlabeled():
    boxes = [
        BOXES,
        [],
        [(70, 0, 90, 20, 0), (-9, 3, 0, 30, 1), (5, 5, 5, 20, 1)],
        [],
    ]
    ignored = [[], [], [], [(0, 0, 64, 64, 0)]]
    losses, labeled = losses_of(det_samples(boxes, ignored))
    assert labeled.tolist() == [True, False, False, False]
    assert losses[0] > 0
    assert not losses[1:].any()
    losses, labeled = losses_of(None)
    assert not labeled.any() and not losses.any()


def test_classes_that_the_decoder_does_not_have_are_refused():
    net = DetDecoder(3, in_channels=6)
    with pytest.raises(ValueError, match=r'\[0, 2\] .* got 3'):
        net.loss(FEAT, det_samples([[(0, 8, 24, 40, 3)]] * 4))
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=f'got {wrong} in a.jpg'):
            net.check_labels([[dict(bbox_label=wrong)]], ['a.jpg'])


def test_boxes_are_clipped_to_the_image():
    inside = [[(0, 16, 64, 64, 1)]] * 4
    outside = [[(-5, 16, 80, 99, 1)]] * 4
    for found, expected in zip(
        losses_of(det_samples(outside)), losses_of(det_samples(inside))
    ):
        assert torch.equal(found, expected)


def test_other_boxes_of_a_batch_do_not_change_the_loss_of_an_image():
    several, _ = losses_of(det_samples([BOXES, BOXES[:1], [], BOXES]))
    for i, boxes in enumerate((BOXES, BOXES[:1])):
        alone, _ = losses_of(det_samples([boxes]), FEAT[i : i + 1])
        torch.testing.assert_close(alone[0], several[i])


def test_cells_of_ignored_boxes_do_not_count_but_centers_in_them_do():
    net = DetDecoder(3, in_channels=6)
    feat = FEAT.clone()
    samples = det_samples([BOXES] * 4, [[(0, 0, 24, 64, 1)]] * 4)
    before, _ = net.loss(feat, samples)
    feat[:, :, 3, 0] = 9  # covered, without a center
    torch.testing.assert_close(net.loss(feat, samples)[0], before)
    feat[:, :, 1, 1] = 9  # covered, with a center
    assert (net.loss(feat, samples)[0] - before).abs().min() > 1e-4


def test_boxes_are_relative_to_the_padded_image():
    padded = det_samples([BOXES] * 4, size=(64, 64))
    for sample in padded:
        sample.set_metainfo(dict(batch_input_shape=(128, 64)))
    moved = [(x, y / 2, right, bottom / 2, c) for x, y, right, bottom, c in
             BOXES]  # fmt: skip
    found, _ = losses_of(padded)
    torch.testing.assert_close(found, losses_of(det_samples([moved] * 4))[0])


def test_training_finds_the_centers():
    torch.manual_seed(0)
    net = DetDecoder(3, in_channels=6)
    net.init_weights()
    assert (net(FEAT).sigmoid() < 0.5).float().mean() > 0.9
    samples = det_samples([[BOXES[0]], [BOXES[1]], BOXES, BOXES[:1]])
    feat = torch.zeros(4, 6, 4, 8)
    for i, channels in enumerate(([0], [2], [0, 2], [0])):
        for c in channels:
            row, column = (1, 1) if c == 0 else (2, 6)
            feat[i, c, row, column] = 1
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        loss = net.loss(feat, samples)[0].mean()
        loss.backward()
        optimizer.step()
    p = net(feat).sigmoid()
    assert p[2, 0, 1, 1] > 0.8 and p[2, 2, 2, 6] > 0.8
    assert p[3, 2].max() < 0.2


@pytest.mark.parametrize(
    ('box', 'message'),
    [
        ((0, 0, 9, 9, 3), r'in \[0, 2\] .* got 3 in a.jpg; set model.decoder'),
        ((0, 0, math.nan, 9, 1), 'finite corners, got .* in a.jpg'),
    ],
)
def test_invalid_boxes_are_refused(box, message):
    samples = det_samples([BOXES, [box]])
    for sample in samples:
        sample.set_metainfo(dict(img_path='a.jpg'))
    with pytest.raises(ValueError, match=message):
        losses_of(samples, FEAT[:2])


def test_boxes_need_the_size_of_the_image():
    samples = det_samples([BOXES] * 4)
    samples = [copy.deepcopy(sample) for sample in samples]
    for sample in samples:
        del sample.img_shape
    with pytest.raises(ValueError, match="add 'img_shape' to meta_keys"):
        losses_of(samples)


def test_boxes_need_classes():
    samples = [copy.deepcopy(sample) for sample in det_samples([BOXES] * 4)]
    for sample in samples:
        del sample.gt_instances.labels
    with pytest.raises(ValueError, match='set with_label=True of LoadAnn'):
        losses_of(samples)


def test_classes_are_checked_before_training():
    decoder = DetDecoder(3, in_channels=6)
    crowd = dict(bbox_label=0, ignore_flag=1)
    assert decoder.find_label(dict(instances=[crowd])) is None
    assert decoder.find_label(dict(instances=[])) is None
    infos = [dict(instances=[dict(bbox_label=i), crowd]) for i in (2, 3)]
    labels = [decoder.find_label(info) for info in infos]
    assert labels[0] == [dict(bbox_label=2)]
    decoder.check_labels(labels[:1], ['a.jpg'])
    with pytest.raises(ValueError, match=r'got 3 in b.jpg; set model'):
        decoder.check_labels(labels, ['a.jpg', 'b.jpg'])
