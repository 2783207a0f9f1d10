"""Check the labels of a dataset before the first iteration."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any, List, Optional, Sequence, Set, Tuple

from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from torch.utils.data import DataLoader, Subset

from repfusion_mm.datasets.image_files import is_local
from repfusion_mm.datasets.wrappers import (
    find_backend_args,
    get_wrapped,
    iter_infos,
    iter_leaves,
    iter_readers,
)
from repfusion_mm.engine.preflight.batches import check_packed
from repfusion_mm.engine.preflight.ignored_labels import check_ignored
from repfusion_mm.models.decoders import TaskDecoder
from repfusion_mm.utils.seeding import seeded

#: The existence of files is checked for this many labeled images at most.
MAX_FILES = 10_000
#: Number of labeled images of each dataset that are read and checked, and the
#: number if no label counts in these, or it is unknown which are labeled.
NUM_READ, NUM_TRIED = 8, 64


def check_labels(dataset: Any, model: Any, num_workers: int = 0) -> None:
    """Refuse labels that do not fit, and a learned policy without any.

    All labels in the infos of the dataset are checked. A few labeled images of
    each part are read, which shows what the pipeline makes of their labels.

    Args:
        dataset: The training dataset.
        model: A distiller with a decoder.
        num_workers: If not zero, images are read in another process, so that
            files that a dataset keeps open are not shared with it.

    Raises:
        ValueError: The labels do not fit.
        FileNotFoundError: Local files of labeled images are missing.
    """
    decoder = model.decoder
    check_ignored(dataset, model)
    any_labeled, num_ignored = False, 0
    classes: Set[int] = set()
    for reader in iter_readers(dataset):
        num_labeled, all_labeled = 0, True
        rows: Sequence[int] = []
        for leaf in iter_leaves(reader):
            rows, labels, paths = find_labels(leaf, decoder, reader)
            decoder.check_labels(labels, paths)
            num_labeled += len(rows)
            all_labeled &= len(rows) == len(leaf)
        # The infos do not say which images of a wrapper are labeled.
        is_leaf = get_wrapped(reader) is None
        numbers = [NUM_READ, NUM_TRIED]
        if not is_leaf or not hasattr(reader, 'get_data_info'):
            rows, numbers = range(len(reader)), [NUM_TRIED]
        for number in numbers:
            some = rows[:: -(-len(rows) // number) or 1]
            samples = read_samples(reader, some, num_workers)
            labeled = check_samples(samples, decoder)
            check_one_hot(samples, model)
            new = find_classes(samples, decoder)
            if (labeled and len(new) != 1) or len(rows) <= number:
                break
        classes |= new
        is_known = num_labeled and (is_leaf or all_labeled)
        if is_known and samples and decoder.label_fields:
            if not any(map(decoder.has_field, samples)):
                raise_unpacked(samples, decoder, reader)
            if not labeled:
                num_ignored += len(samples)
                continue
        any_labeled |= bool(num_labeled) or labeled
    if len(classes) == 1 and decoder.num_classes > 1:
        warn_one_class(classes, decoder)
    if not model.policy.learnable or any_labeled:
        return
    if num_ignored:
        raise ValueError(
            'expected labels that count, as rewards that train the policy, '
            f'got none in {num_ignored} labeled images that were read: all '
            'pixels are ignored, or all keypoints have weight 0 or are '
            'outside of the image; correct the labels or the pipeline, or use '
            'FixedTimestepPolicy or UniformTimestepPolicy'
        )
    raise ValueError(
        'expected labeled images, whose rewards train the policy, with '
        f'{decoder.info_key}, which {type(decoder).__name__} reads, got '
        f'{type(dataset).__name__} with '
        f'{describe_labels(dataset, decoder)}; give '
        'labels to some images, change model.decoder, or use '
        'FixedTimestepPolicy or UniformTimestepPolicy'
    )


def find_classes(samples: Sequence, decoder: Any) -> Set[int]:
    """Return the classes that count in label maps, if a decoder reads them."""
    if not hasattr(decoder, 'ignore_index'):
        return set()
    found: Set[int] = set()
    for sample in samples:
        targets, counts = decoder.read([sample])
        found.update(targets[counts].unique().tolist())
    return found


def warn_one_class(classes: Set[int], decoder: Any) -> None:
    """Say that the label maps contain one class only."""
    print_log(
        f'expected two classes or more in label maps, got only {classes} in '
        f'those that were read, where {decoder.ignore_index} is ignored '
        f'(decoder.ignore_index); the values must be the indices of classes, '
        f'0 to {decoder.num_classes - 1}, not 0 and 255',
        logger='current',
        level=logging.WARNING,
    )


def find_labels(
    leaf: Any, decoder: Any, reader: Any = None
) -> Tuple[List[int], list, List[Optional[str]]]:
    """Return rows, labels and paths of the labeled images of a dataset.

    ``reader`` is a wrapper whose pipeline reads its images, if any.

    Raises:
        FileNotFoundError: Local files of labeled images are missing.
    """
    rows, labels, paths = [], [], []
    missing: List[str] = []
    args = [*find_backend_args(leaf), *find_backend_args(reader)]
    for row, info in enumerate(iter_infos(leaf)):
        label = decoder.find_label(info)
        if label is None:
            continue
        rows.append(row)
        labels.append(label)
        paths.append(info.get('img_path'))
        if len(labels) > MAX_FILES:
            continue
        missing += [
            str(path)
            for path in (paths[-1], info.get('seg_map_path'))
            if path
            and all(is_local(str(path), arg) for arg in args)
            and not Path(path).exists()
        ]
    if missing:
        raise FileNotFoundError(
            f'expected a file for every labeled image, got {len(missing)} '
            f'missing files: {missing[:5]}; correct the list of labels or '
            'its data_prefix'
        )
    return rows, labels, paths


def read_samples(leaf: Any, rows: Sequence[int], num_workers: int) -> list:
    """Return the data samples of some rows of a dataset.

    The random states of this process do not change.
    """
    loader = DataLoader(
        Subset(leaf, rows),
        collate_fn=pseudo_collate,
        num_workers=min(num_workers, len(rows), 1),
    )
    samples: list = []
    with seeded(0):
        for batch in loader:
            if isinstance(batch, dict):
                check_packed(batch)
                samples += batch.get('data_samples') or []
    return samples


def check_samples(samples: Sequence, decoder: Any) -> bool:
    """Check the labels in data samples; return whether any counts."""
    for sample in samples:
        decoder.read(decoder.samples([sample], 1))
    return any(decoder.has_label(sample) for sample in samples)


def raise_unpacked(samples: Sequence, decoder: Any, leaf: Any) -> None:
    """Say that a pipeline does not pack the labels of a dataset."""
    keys = sorted({*itertools.chain(*(s.keys() for s in samples))})
    raise ValueError(
        f'expected a pipeline that packs {" or ".join(decoder.label_fields)}, '
        f'which {type(decoder).__name__} reads, got data samples with '
        f'{", ".join(keys) or "no labels"} from {type(leaf).__name__}; load '
        'the labels (LoadAnnotations, GenerateTarget), and end the pipeline '
        "with your project's PackInputs"
    )


def check_one_hot(samples: Sequence, model: Any) -> None:
    """Refuse a data preprocessor that makes labels of another length.

    It makes none in batches with an unlabeled image, so that the first one may
    be late in a run.
    """
    preprocessor, decoder = model.data_preprocessor, model.decoder
    expected = getattr(decoder, 'num_classes', None)
    if (
        not getattr(preprocessor, 'to_onehot', False)
        or 'gt_score' not in decoder.label_fields
        or any('num_classes' in sample for sample in samples)
        or preprocessor.num_classes == expected
    ):
        return
    raise ValueError(
        f'expected model.data_preprocessor.num_classes={expected}, as in '
        'model.decoder, because the data preprocessor makes one-hot labels, '
        f'got {preprocessor.num_classes}; set '
        f'model.data_preprocessor.num_classes={expected}'
    )


def describe_labels(dataset: Any, decoder: Any) -> str:
    """Return which labels a dataset without any for ``decoder`` has."""
    infos = {
        key: value
        for leaf in iter_leaves(dataset)
        for info in iter_infos(leaf)
        for key, value in info.items()
    }
    readers = {
        key: cls.__name__
        for cls in TaskDecoder.__subclasses__()
        for key in (cls.info_key, *cls.label_fields)
    }
    found = [
        f'{key}={infos[key]} (unlabeled) in all images'
        if key == decoder.info_key
        else f'{key}, which {name} reads'
        for key, name in readers.items()
        if key in infos
    ]
    return ', '.join(found) or 'no labels'
