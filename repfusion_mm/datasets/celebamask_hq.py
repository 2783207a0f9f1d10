"""CelebAMask-HQ for mmsegmentation."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Sequence

import mmcv
import numpy as np
from mmcv.transforms import RandomFlip
from mmseg.datasets import BaseSegDataset

from repfusion_mm.datasets.wrappers import check_filter
from repfusion_mm.registry import DATASETS

#: Number of label maps that are checked before the first iteration.
NUM_CHECKED = 100


@DATASETS.register_module()
class CelebAMaskHQDataset(BaseSegDataset):
    """Faces with 19 classes (MaskGAN, arXiv 1907.11922).

    ``tools/dataset_converters/celebamask_hq.py`` writes the label maps and
    lists. A hundred label maps are checked when the dataset is initialized,
    and each one when it is loaded.

    Args:
        img_suffix: Suffix of the images.
        seg_map_suffix: Suffix of the label maps.
        **kwargs: Arguments of mmseg's ``BaseSegDataset``.

    Raises:
        ValueError: The pipeline flips images without swapping left and right,
            or a label map has a value other than the 19 classes and 255.
        FileNotFoundError: Images or label maps are missing.
    """

    METAINFO = dict(
        classes=(
            'background', 'skin', 'l_brow', 'r_brow', 'l_eye', 'r_eye',
            'eye_g', 'l_ear', 'r_ear', 'ear_r', 'nose', 'mouth', 'u_lip',
            'l_lip', 'neck', 'neck_l', 'cloth', 'hair', 'hat',
        ),
        palette=[
            [0, 0, 0], [204, 0, 0], [76, 153, 0], [204, 204, 0],
            [51, 51, 255], [204, 0, 204], [0, 255, 255], [255, 204, 204],
            [102, 51, 0], [255, 0, 0], [102, 204, 0], [255, 255, 0],
            [0, 0, 153], [0, 0, 204], [255, 51, 153], [0, 204, 204],
            [0, 51, 0], [255, 153, 51], [0, 204, 0],
        ],
        # Classes to swap when a face is mirrored.
        left_right_pairs=[(2, 3), (4, 5), (7, 8)],
    )  # fmt: skip

    def __init__(
        self,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        **kwargs,
    ) -> None:
        super().__init__(
            img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs
        )
        check_filter(self)
        pairs = self.METAINFO['left_right_pairs']
        for transform in self.pipeline.transforms:
            if isinstance(transform, RandomFlip):
                check_flip(transform, pairs)

    def load_data_list(self) -> List[dict]:
        """Load the list, and check the files in it."""
        if self.ann_file and not Path(self.ann_file).is_file():
            raise FileNotFoundError(
                f'expected the list of images at {self.ann_file!r}, got no '
                'such file; tools/dataset_converters/celebamask_hq.py writes '
                'it'
            )
        data_list = super().load_data_list()
        if self.backend_args is None:  # local files
            self._check_files(data_list)
        return data_list

    def prepare_data(self, idx: int) -> Optional[dict]:
        """Load one image, and check the classes of its label map.

        Returns:
            The data; None if the pipeline skips the image.
        """
        data = super().prepare_data(idx)
        if data is None:
            return None
        sample = data.get('data_samples')
        if sample is not None and 'gt_sem_seg' in sample:
            label_map = sample.gt_sem_seg.data.numpy()
            self._check_classes(label_map, sample.seg_map_path)
        return data

    def _check_files(self, data_list: List[dict]) -> None:
        missing = [
            path
            for info in data_list
            for path in (info['img_path'], info['seg_map_path'])
            if not Path(path).is_file()
        ]
        if missing or not data_list:
            raise FileNotFoundError(
                'expected an image and a label map for each of '
                f'{len(data_list)} names in {self.ann_file!r}, got '
                f'{len(missing)} missing: {missing[:5]}; run '
                'tools/dataset_converters/celebamask_hq.py'
            )
        every = max(1, len(data_list) // NUM_CHECKED)
        for info in data_list[::every]:
            label_map = mmcv.imread(info['seg_map_path'], flag='unchanged')
            self._check_classes(label_map, info['seg_map_path'])

    def _check_classes(self, label_map: np.ndarray, path: str) -> None:
        count = len(self.METAINFO['classes'])
        wrong = label_map[(label_map >= count) & (label_map != 255)]
        if len(wrong):
            raise ValueError(
                f'expected classes 0 to {count - 1} (or 255, ignored) in '
                f'{path}, got {np.unique(wrong)[:5].tolist()}; convert it '
                'again with tools/dataset_converters/celebamask_hq.py'
            )


def check_flip(flip: RandomFlip, pairs: Sequence) -> None:
    """Raise a ValueError if a flip does not swap pairs of classes."""
    swaps = {tuple(sorted(pair)) for pair in flip.swap_seg_labels or ()}
    if swaps != set(pairs):
        raise ValueError(
            f'expected RandomFlip with swap_seg_labels={list(pairs)}, for '
            'left and right brows, eyes and ears, got '
            f'{flip.swap_seg_labels}'
        )
