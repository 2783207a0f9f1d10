"""Write a feature cache atomically."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np

from repfusion_mm.datasets.feature_cache.files import (
    FEATURE_CRCS,
    FORMAT,
    INPUT_CRCS,
    META,
    crc_of,
    hash_crcs,
    temporary_folder,
)
from repfusion_mm.utils.folders import replace_folder


class FeatureWriter:
    """Write the files that ``FeatureReader`` reads.

    Use it as a context manager. The cache appears when the block ends without
    an exception and all rows were written.

    Args:
        folder: Folder of the cache. An existing cache is replaced at the end.
        key: What the features belong to; ``key['layers']`` holds (C, H, W) of
            each layer.
        settings: ``num_images``, ``num_views`` and ``seed`` of the rows.
    """

    def __init__(self, folder: str, key: dict, settings: dict) -> None:
        self.folder = Path(folder).resolve()  # it may be a link
        self.temporary = temporary_folder(self.folder)
        self.key = key
        self.settings = settings
        self.num_rows = settings['num_images'] * settings['num_views']

    def __enter__(self) -> FeatureWriter:
        self.input_shape: Tuple[int, ...] = ()
        self.input_crcs: List[int] = []
        self.feature_crcs: List[int] = []
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        # Written sequentially, not through a memory map, with which a full
        # disk is a bus error instead of an exception.
        self.files = {}
        for layer, shape in self.key['layers'].items():
            file = (self.temporary / f'{layer}.npy').open('wb')
            shape = (self.num_rows, *shape)
            header = dict(descr='<f2', fortran_order=False, shape=shape)
            np.lib.format.write_array_header_1_0(file, header)
            self.files[layer] = file
        return self

    def write(
        self, inputs: Sequence[np.ndarray], feats: Dict[str, np.ndarray]
    ) -> None:
        """Append N packed images and, for each layer, N x C x H x W floats.

        Raises:
            ValueError: Images of different shapes, or features that exceed
                the range of float16.
        """
        for image in inputs:
            self.input_shape = self.input_shape or image.shape
            if image.shape != self.input_shape:
                raise ValueError(
                    'expected images of one shape, because padding depends on '
                    f'the batch, got {self.input_shape} and {image.shape}; '
                    'resize or crop them in the pipeline'
                )
            self.input_crcs.append(crc_of(image))
        crcs = [0] * len(inputs)
        for layer, file in self.files.items():
            rows = self._to_half(layer, feats[layer])
            file.write(rows.tobytes())
            crcs = [crc_of(row, crc) for row, crc in zip(rows, crcs)]
        self.feature_crcs += crcs

    def __exit__(self, kind, error, trace) -> None:
        for file in self.files.values():
            file.close()
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def _to_half(self, layer: str, feats: np.ndarray) -> np.ndarray:
        with np.errstate(over='ignore'):
            half = feats.astype('<f2')
        if not np.isfinite(half).all():
            raise ValueError(
                f'expected features of {layer!r} within +-65504, the range of '
                f'float16, got up to {np.abs(feats).max():.3g}; choose '
                'another layer, or distill without a cache'
            )
        return half

    def _finish(self) -> None:
        if len(self.input_crcs) != self.num_rows:
            raise ValueError(
                f'expected {self.num_rows} rows, got {len(self.input_crcs)}'
            )
        crcs = np.array(self.input_crcs, dtype='<u4')
        feature_crcs = np.array(self.feature_crcs, dtype='<u4')
        np.save(self.temporary / INPUT_CRCS, crcs)
        np.save(self.temporary / FEATURE_CRCS, feature_crcs)
        meta = dict(
            format=FORMAT,
            key=self.key,
            **self.settings,
            input_shape=list(self.input_shape),
            data_set=hash_crcs(crcs),
        )
        text = json.dumps(meta, indent=2) + '\n'
        (self.temporary / META).write_text(text, encoding='utf-8')
        replace_folder(self.temporary, self.folder)
