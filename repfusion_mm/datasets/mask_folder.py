"""A folder of images with a folder of label maps."""

from __future__ import annotations

import os.path as osp
from typing import Dict, List

from mmengine.logging import print_log

from repfusion_mm.datasets.image_files import list_files, path_within
from repfusion_mm.datasets.image_folder import ImageFolderDataset
from repfusion_mm.registry import DATASETS


@DATASETS.register_module()
class MaskFolderDataset(ImageFolderDataset):
    """The images of a folder that have a label map in another folder.

    The label map of ``a/1.jpg`` is ``a/1.png`` there, or has any other
    extension. In contrast to mmseg's ``BaseSegDataset``, images may have
    several extensions, and a label map without an image is an error.

    Args:
        masks: Folder of the label maps, relative to ``data_root`` and outside
            of it, such as ``'../masks'``.
        data_root: Folder of the images.
        **kwargs: Other arguments of ``ImageFolderDataset``.

    Raises:
        FileNotFoundError: There is no such folder, or no label map in it.
        ValueError: A label map has no image; two label maps have the same
            image, or two images the same label map.
    """

    def __init__(self, masks: str, data_root: str = '', **kwargs) -> None:
        self.masks = osp.join(osp.expanduser(data_root), osp.expanduser(masks))
        super().__init__(data_root=data_root, with_label=False, **kwargs)

    def load_data_list(self) -> List[dict]:
        """List images and their label maps."""
        if not osp.isdir(self.masks):
            raise FileNotFoundError(
                f'expected a folder of label maps at {self.masks!r}, got no '
                'such folder; correct masks'
            )
        root = osp.realpath(self.img_prefix)
        if osp.commonpath([osp.realpath(self.masks), root]) == root:
            raise ValueError(
                f'expected masks outside of the folder of the images, got '
                f'{self.masks!r}, whose label maps would be taken for images; '
                "move them, and name their folder, such as masks='../masks'"
            )
        masks = self._by_stem(list_files(self.masks).files, self.masks)
        infos = super().load_data_list()
        paths = [path_within(self.img_prefix, i['img_path']) for i in infos]
        images = self._by_stem(paths, self.img_prefix)
        alone = sorted(masks[stem] for stem in masks.keys() - images.keys())
        if alone or not masks:
            raise ValueError(
                f'expected label maps in {self.masks!r} with the names of '
                f'images in {self.img_prefix!r}, got '
                + (
                    f'{len(alone)} of {len(masks)} without an image: '
                    f'{", ".join(alone[:3])}; rename or remove them'
                    if alone
                    else 'none; correct masks'
                )
            )
        print_log(
            f'{self.masks}: {len(masks)} label maps of {len(infos)} images',
            logger='current',
        )
        return [
            dict(
                info,
                seg_map_path=osp.join(
                    self.masks, masks[osp.splitext(path)[0]]
                ),
                seg_fields=[],
                label_map=None,
                reduce_zero_label=False,
            )
            for info, path in zip(infos, paths)
            if osp.splitext(path)[0] in masks
        ]

    @staticmethod
    def _by_stem(paths: List[str], folder: str) -> Dict[str, str]:
        """Return paths by their names without extension."""
        found: Dict[str, str] = {}
        for path in paths:
            other = found.setdefault(osp.splitext(path)[0], path)
            if other != path:
                raise ValueError(
                    f'expected files in {folder!r} whose names differ in more '
                    f'than the extension, got {other!r} and {path!r}; rename '
                    'one of them'
                )
        return found
