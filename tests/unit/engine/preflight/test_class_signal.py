"""Labels that condition a teacher are checked before training."""

from types import SimpleNamespace

import pytest
from mmengine.dataset import BaseDataset, ConcatDataset

from repfusion_mm.engine.preflight.class_signal import check_class_signal

TEACHER = SimpleNamespace(label_classes=3)


class Listed(BaseDataset):
    """Labels in memory. None leaves an image unlabeled."""

    def __init__(self, *labels):
        self.labels = labels
        super().__init__()

    def load_data_list(self):
        return [
            dict(img_path=f'{i}.png')
            | ({} if label is None else dict(gt_label=label))
            for i, label in enumerate(self.labels)
        ]


def test_classes_of_the_teacher_are_accepted():
    check_class_signal(ConcatDataset([Listed(0, 2), Listed([1])]), TEACHER)
    check_class_signal(Listed(None, None), TEACHER)  # the pipeline's


@pytest.mark.parametrize(
    ('datasets', 'got'),
    [
        ([Listed(0, 3)], r'got \[3\] for 1\.png'),
        ([Listed(0, -1)], r'got \[-1\] for 1\.png'),
        ([Listed(0, [1, 2])], r'got \[1, 2\] for 1\.png'),
        ([Listed(0, 1), Listed(None)], r'got none for 0\.png'),
    ],
)
def test_other_labels_are_refused(datasets, got):
    with pytest.raises(ValueError, match=rf'label in \[0, 2\].*{got}'):
        check_class_signal(ConcatDataset(datasets), TEACHER)
