"""Read a feature cache: the teacher's features of a dataset on disk.

A cache is a folder with ``LAYER.npy`` (rows x C x H x W, float16) for each
layer, the CRC-32 of the input and of the features of each row, and
``cache.json`` with the teacher's fingerprint and the settings of the dataset.
The folder is written atomically.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Dict

import numpy as np

FORMAT = 1
META = 'cache.json'
INPUT_CRCS = 'input_crcs.npy'
FEATURE_CRCS = 'feature_crcs.npy'
META_FIELDS = {
    'format', 'key', 'num_images', 'num_views', 'seed', 'input_shape',
    'data_set',
}  # fmt: skip
WRITE = 'write it with tools/cache_features.py and the config of this run'
REWRITE = WRITE + ', and --overwrite'


def crc_of(array: np.ndarray, start: int = 0) -> int:
    """Return the CRC-32 of an array's bytes."""
    return zlib.crc32(np.ascontiguousarray(array).data, start)


def temporary_folder(folder: Path) -> Path:
    """Return the temporary folder in which a cache is written."""
    return folder.with_name(folder.name + '.tmp')


class FeatureReader:
    """Read the rows of the cache in ``folder``, each checked by its CRC.

    Raises:
        FileNotFoundError: There is no cache.
        ValueError: It is damaged, or has another format.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.meta = read_meta(self.folder)
        self.key_text = key_to_text(self.meta['key'])
        num_rows = self.meta['num_images'] * self.meta['num_views']
        self.layers = {
            layer: self._map(f'{layer}.npy', '<f2', (num_rows, *shape))
            for layer, shape in self.meta['key']['layers'].items()
        }
        self.input_crcs = self._map(INPUT_CRCS, '<u4', (num_rows,))
        self.feature_crcs = self._map(FEATURE_CRCS, '<u4', (num_rows,))
        if hash_crcs(self.input_crcs) != self.meta['data_set']:
            raise self._damaged(INPUT_CRCS, 'other images than ' + META)

    def read(self, row: int) -> Dict[str, np.ndarray]:
        """Return the features of a row: for each layer C x H x W float16.

        Raises:
            ValueError: They have changed on disk.
        """
        feats = {layer: np.array(a[row]) for layer, a in self.layers.items()}
        crc = 0
        for feat in feats.values():
            crc = crc_of(feat, crc)
        if crc != self.feature_crcs[row]:
            files = [f'{layer}.npy' for layer in feats] + [FEATURE_CRCS]
            raise self._damaged(' or '.join(files), f'a changed row {row}')
        return feats

    def _map(self, name: str, dtype: str, shape: tuple) -> np.ndarray:
        path = self.folder / name
        if path.name != name:
            raise self._damaged(META, f'the file {name!r}, a path')
        try:
            array = np.load(path, mmap_mode='r', allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(name, str(error)) from error
        if (array.dtype, array.shape) != (np.dtype(dtype), shape):
            raise self._damaged(name, f'{array.dtype} of {array.shape}')
        size = path.stat().st_size
        if size != array.offset + array.nbytes:
            raise self._damaged(name, f'{size} bytes')
        return array

    def _damaged(self, name: str, got: str) -> ValueError:
        return ValueError(
            f'expected an unchanged feature cache at {str(self.folder)!r}, '
            f'got a damaged {name} ({got}); remove that folder, then {WRITE}, '
            'which keeps the caches of other datasets'
        )


def read_meta(folder: Path) -> dict:
    """Read ``cache.json`` of a complete cache."""
    if not (folder / META).is_file():
        got = f'a folder without {META}' if folder.is_dir() else 'none'
        if temporary_folder(folder).is_dir():
            got += ', next to one whose writing was interrupted'
        raise FileNotFoundError(
            f'expected a feature cache at {str(folder)!r}, got {got}; {WRITE}'
        )
    try:
        meta = json.loads((folder / META).read_text(encoding='utf-8'))
    except ValueError:
        meta = None
    found = meta.get('format') if isinstance(meta, dict) else 'no JSON object'
    if (
        found != FORMAT
        or set(meta) != META_FIELDS
        or not isinstance(meta['key'], dict)
        or not isinstance(meta['key'].get('layers'), dict)
    ):
        raise ValueError(
            f'expected {META} of format {FORMAT} in {str(folder)!r}, with '
            f'{sorted(META_FIELDS)}, got format {found!r} or other fields; '
            + REWRITE
        )
    return meta


def key_to_text(key: dict) -> str:
    """Return a key as JSON, equal for equal keys."""
    return json.dumps(key, sort_keys=True)


def hash_crcs(input_crcs: np.ndarray) -> str:
    """Return the SHA-256 of the CRCs of a dataset's images."""
    return hashlib.sha256(np.ascontiguousarray(input_crcs).data).hexdigest()
