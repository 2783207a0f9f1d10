import numpy as np
import pytest

from repfusion_mm.datasets.transforms import BoxesToMask


def draw(boxes, labels, **extra):
    results = dict(
        gt_bboxes=np.array(boxes, np.float32).reshape(-1, 4),
        gt_bboxes_labels=np.array(labels),
        img_shape=(4, 6),
        **extra,
    )
    found = BoxesToMask()(results)
    assert not {'gt_bboxes', 'gt_bboxes_labels'} & found.keys()
    assert found['seg_fields'] == ['gt_seg_map']
    return found['gt_seg_map'].tolist()


def test_smaller_boxes_are_drawn_over_larger_ones():
    expected = [
        [1, 1, 1, 0, 0, 0],
        [1, 3, 3, 0, 0, 0],
        [1, 3, 3, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert draw([[1, 1, 3, 3], [0, 0, 3, 3]], [2, 0]) == expected
    assert draw([[0, 0, 3, 3], [1, 1, 3, 3]], [0, 2]) == expected


def test_boxes_are_clipped_to_the_image():
    assert draw([[-5, -5, 99, 99]], [1]) == [[2] * 6] * 4
    assert draw([], []) == [[0] * 6] * 4


def test_pixels_of_ignored_boxes_do_not_count():
    mask = draw(
        [[0, 0, 6, 2], [0, 0, 2, 4]], [1, 1],
        gt_ignore_flags=np.array([True, False]),
    )  # fmt: skip
    assert mask == [[2, 2, 255, 255, 255, 255]] * 2 + [[2, 2, 0, 0, 0, 0]] * 2


def test_more_classes_than_a_map_has_values_are_refused():
    assert draw([[0, 0, 6, 4]], [253]) == [[254] * 6] * 4
    for label in (254, 255):
        with pytest.raises(ValueError, match=f'254 .* got class {label}'):
            draw([[0, 0, 6, 4]], [label])
