"""Write a teacher's features to disk, whole or not at all."""

from __future__ import annotations

import json
import os
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
    fingerprint_of,
    unfinished_of,
)


class FeatureWriter:
    """Write the files that ``FeatureReader`` reads.

    Use it in a ``with``: what was written is kept only when the block ends
    without an exception and every row is there.

    Args:
        folder: The cache; one that lies there is replaced at the end.
        key: What the features belong to; ``key['layers']`` has the (C, H, W)
            of each layer.
        settings: ``num_images``, ``num_views`` and ``seed`` of the rows.
    """

    def __init__(self, folder: str, key: dict, settings: dict) -> None:
        self.folder = Path(folder)
        self.unfinished = unfinished_of(self.folder)
        self.key = key
        self.settings = settings
        self.num_rows = settings['num_images'] * settings['num_views']

    def __enter__(self) -> FeatureWriter:
        self.input_shape: Tuple[int, ...] = ()
        self.input_crcs: List[int] = []
        self.feature_crcs: List[int] = []
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(parents=True)
        # Written in order and not through a map: a full disk is an error
        # then, not a bus error.
        self.files = {}
        for layer, shape in self.key['layers'].items():
            file = (self.unfinished / f'{layer}.npy').open('wb')
            header = dict(
                descr='<f2',
                fortran_order=False,
                shape=(self.num_rows, *shape),
            )
            np.lib.format.write_array_header_1_0(file, header)
            self.files[layer] = file
        return self

    def write(
        self, inputs: Sequence[np.ndarray], feats: Dict[str, np.ndarray]
    ) -> None:
        """Append the rows of a batch.

        Args:
            inputs: N images as the data set packs them.
            feats: Per layer N x C x H x W floats.

        Raises:
            ValueError: Images of several shapes, or features that float16
                does not hold.
        """
        for image in inputs:
            self.input_shape = self.input_shape or image.shape
            if image.shape != self.input_shape:
                raise ValueError(
                    'expected images of one shape, since padding to the '
                    f"batch's largest would depend on the batch, got "
                    f'{self.input_shape} and {image.shape}; resize or crop '
                    'them in the pipeline'
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
            shutil.rmtree(self.unfinished, ignore_errors=True)

    def _to_half(self, layer: str, feats: np.ndarray) -> np.ndarray:
        with np.errstate(over='ignore'):
            half = feats.astype('<f2')
        if not np.isfinite(half).all():
            raise ValueError(
                f'expected features of {layer!r} within +-65504, which '
                f'float16 holds, got up to {np.abs(feats).max():.3g}; choose '
                'another layer, or distil without a cache'
            )
        return half

    def _finish(self) -> None:
        if len(self.input_crcs) != self.num_rows:
            raise ValueError(
                f'expected {self.num_rows} rows, got {len(self.input_crcs)}'
            )
        crcs = np.array(self.input_crcs, dtype='<u4')
        np.save(self.unfinished / INPUT_CRCS, crcs)
        crcs_of_feats = np.array(self.feature_crcs, dtype='<u4')
        np.save(self.unfinished / FEATURE_CRCS, crcs_of_feats)
        meta = dict(
            format=FORMAT,
            key=self.key,
            **self.settings,
            input_shape=list(self.input_shape),
            data_set=fingerprint_of(crcs),
        )
        text = json.dumps(meta, indent=2) + '\n'
        (self.unfinished / META).write_text(text)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(self.unfinished, self.folder)
