"""A folder of images, with labels for all, some or none of them."""

from __future__ import annotations

import logging
import os.path as osp
from typing import List, Optional, Sequence

from mmengine.fileio import get_file_backend
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from repfusion_mm.datasets.image_files import (
    EXTENSIONS,
    check_listable,
    class_conflicts,
    extension,
    find_extensions,
    is_local,
    list_files,
    log_listing,
    read_list,
)
from repfusion_mm.datasets.wrappers import check_filter
from repfusion_mm.registry import DATASETS
from repfusion_mm.utils.arguments import check_flags, check_list


@DATASETS.register_module()
class ImageFolderDataset(CustomDataset):
    """All images of a folder, or those of a list.

    In contrast to mmpretrain's ``CustomDataset``, it uses all images that
    OpenCV reads, ignores hidden files and folders, logs the number of images
    by extension and what is left out, expands ``~``, and reads lists with
    blank lines, tabs or a byte order mark.

    Args:
        data_root: Folder of ``data_prefix`` and ``ann_file``.
        data_prefix: Folder of the images.
        ann_file: List of images, one ``path`` or ``path label`` a line. By
            default, all images of the folder are used.
        with_label: Whether images have labels: those of the list or, without
            one, their subfolders, which are numbered in the order of
            ``classes`` if these are their names, and sorted otherwise.
        extensions: Extensions of images. By default, the usual ones and all
            others whose files OpenCV recognizes.
        lazy_init: As in mmpretrain's ``CustomDataset``.
        **kwargs: Other arguments of mmpretrain's ``CustomDataset``.

    Raises:
        FileNotFoundError: There is no such folder or list, or no image in the
            folder.
        ValueError: The list is malformed; the number of subfolders is not
            that of ``classes``; subfolders have names of classes, but would
            get other indices; mmengine cannot list the folder's URL; or an
            argument would be ignored, such as ``filter_cfg``.
    """

    #: Engine checks need not log the files again.
    logs_files = True

    def __init__(
        self,
        data_root: str = '',
        extensions: Optional[Sequence[str]] = None,
        lazy_init: bool = False,
        **kwargs,
    ) -> None:
        data_root = osp.expanduser(data_root)
        check_listable(data_root)
        check_list('ImageFolderDataset.extensions', extensions)
        super().__init__(
            data_root=data_root,
            extensions=extensions or EXTENSIONS,
            lazy_init=True,
            **kwargs,
        )
        check_flags('ImageFolderDataset', with_label=self.with_label)
        check_filter(self)
        self.finds_extensions = extensions is None
        if not lazy_init:
            self.full_init()

    def is_valid_file(self, filename: str) -> bool:
        """Return whether a file is an image; '' means without extension."""
        if '' in self.extensions and not extension(filename):
            return True
        return filename.lower().endswith(tuple(filter(None, self.extensions)))

    def load_data_list(self) -> List[dict]:
        """List images and labels."""
        check_listable(self.img_prefix)
        backend = get_file_backend(self.img_prefix, enable_singleton=True)
        if self.ann_file:
            entries = read_list(self.ann_file, self.with_label)
            if not self.with_label:
                self._check_unlabeled(entries[0][0])
        else:
            entries = self._list_folder()
        data_list = []
        for path, label in entries:
            info = dict(img_path=backend.join_path(self.img_prefix, path))
            if label is not None:
                info['gt_label'] = label
            data_list.append(info)
        return data_list

    def _check_unlabeled(self, line: str) -> None:
        """Refuse a list with labels, which would be taken for paths."""
        name, *label = line.rsplit(None, 1)
        paths = [osp.join(self.img_prefix, i) for i in (line, name)]
        if label and not osp.isfile(paths[0]) and osp.isfile(paths[1]):
            raise ValueError(
                f'expected one path per line in {self.ann_file}, got '
                f'{line!r}, which ends in a label; set with_label=True in the '
                'dataset'
            )

    def _list_folder(self) -> list:
        root = self.img_prefix.rstrip('/') or '/'
        if is_local(root) and not osp.isdir(root):
            raise FileNotFoundError(
                f'expected a folder of images at {root!r}, got no such '
                'folder; correct data_root or data_prefix'
            )
        listing = list_files(root)
        if self.finds_extensions and is_local(root):
            self.extensions = find_extensions(root, listing.files)
        images = [path for path in listing.files if self.is_valid_file(path)]
        flat = []
        if self.with_label:
            flat = [path for path in images if '/' not in path]
            images = [path for path in images if '/' in path]
        log_listing(root, listing, images)
        if flat and not images:
            raise FileNotFoundError(
                f'expected images in subfolders (classes) of {root!r}, got '
                f'{len(flat)} images, but none in a subfolder; set '
                'with_label=False or move them into a folder for each class'
            )
        if not images:
            where = 'subfolders (classes) of ' if self.with_label else ''
            raise FileNotFoundError(
                f'expected images in {where}{root!r}, got '
                f'{len(listing.files)} files, none of them with one of '
                f'{", ".join(self.extensions)}; correct data_root or '
                'data_prefix'
            )
        if not self.with_label:
            return [(path, None) for path in images]
        return self._number_classes(listing.folders, images)

    def _number_classes(self, folders: List[str], images: List[str]) -> list:
        """Return images with the numbers of their folders."""
        if self.CLASSES is None:
            self._metainfo['classes'] = tuple(folders)
        elif len(self.CLASSES) != len(folders):
            raise ValueError(
                f'expected {len(self.CLASSES)} subfolders of '
                f'{self.img_prefix!r}, as many as classes, got '
                f'{len(folders)}: {folders[:20]}; correct classes or the '
                'folder'
            )
        if {*self.CLASSES} == {*folders}:
            folders = [*self.CLASSES]
        self.folder_to_idx = {name: i for i, name in enumerate(folders)}
        conflicts = class_conflicts(self.folder_to_idx, self.CLASSES)
        if conflicts:
            raise ValueError(
                f'expected classes to be the names of all subfolders of '
                f'{self.img_prefix!r}, or of none, got {conflicts[:20]}, '
                'whose index in classes is not that in the sorted subfolders '
                f'{folders[:20]}; correct classes or the folder'
            )
        entries = [
            (path, self.folder_to_idx[path.split('/')[0]]) for path in images
        ]
        numbers = {number for _, number in entries}
        empty = [name for i, name in enumerate(folders) if i not in numbers]
        if empty:
            names = ', '.join(empty[:10]) + (' ...' if empty[10:] else '')
            print_log(
                f'{self.img_prefix}: {len(empty)} of {len(folders)} class '
                f'folders have no images: {names}',
                logger='current',
                level=logging.WARNING,
            )
        return entries
