"""Check the labels of a dataset before the first iteration.

:mod:`repfusion_mm.datasets.wrappers` defines the leaves, readers and infos of
a dataset; :mod:`repfusion_mm.models.utils.labels` which labels count.
"""

from __future__ import annotations

import itertools
import logging
import math
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Set, Tuple

from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from torch.utils.data import DataLoader, Subset

from repfusion_mm.datasets.image_files import is_local
from repfusion_mm.datasets.wrappers import (
    copied_pipelines,
    find_backend_args,
    get_wrapped,
    iter_infos,
    iter_leaves,
    iter_readers,
)
from repfusion_mm.engine.preflight.batches import check_packed
from repfusion_mm.engine.preflight.categories import check_categories
from repfusion_mm.engine.preflight.ignored_labels import check_ignored
from repfusion_mm.models.decoders import TaskDecoder
from repfusion_mm.utils.seeding import seeded

#: The existence of files is checked for this many labeled images at most.
MAX_FILES = 10_000
#: Number of labeled images of each dataset that are read.
NUM_READ = 8
#: Number of images that are read if the first ``NUM_READ`` have no label that
#: counts, or if the infos do not show which images are labeled.
NUM_TRIED = 64


class Selection(NamedTuple):
    """Images of a dataset to read, and what its infos show about labels."""

    #: Indices of images to choose from.
    rows: Sequence[int]
    #: Numbers of images to read, until a label counts.
    numbers: Sequence[int]
    #: Whether the infos have any label.
    any_labeled: bool
    #: Whether the infos have a label for each image in ``rows``.
    all_labeled: bool


def check_labels(dataset: Any, model: Any, num_workers: int = 0) -> None:
    """Refuse labels that do not fit, and a learned policy without labels.

    All labels in the infos of the dataset are checked. A few labeled images of
    each part are read, to check the labels that the pipeline returns.

    Args:
        dataset: The training dataset.
        model: A distiller with a decoder.
        num_workers: If not zero, a worker process reads the images: this
            process then does not open files that a dataset keeps open, and
            the workers of the training do not share them.

    Raises:
        ValueError: The labels do not fit.
        FileNotFoundError: Local files of labeled images are missing.
    """
    decoder = model.decoder
    check_ignored(dataset, model)
    any_labeled, num_ignored = False, 0
    classes: Set[int] = set()
    for reader in iter_readers(dataset):
        selection = select_images(reader, decoder)
        samples = read_until_labeled(reader, selection, model, num_workers)
        classes |= find_classes(samples, decoder)
        has_label = any(map(decoder.has_label, samples))
        if selection.all_labeled and samples and decoder.label_fields:
            check_fields(samples, decoder, reader)
            any_labeled |= has_label
            if not has_label:
                num_ignored += len(samples)
        else:
            any_labeled |= has_label or selection.any_labeled
    if len(classes) == 1 and decoder.num_classes > 1:
        warn_one_class(classes.pop(), decoder)
    if model.policy.learnable and not any_labeled:
        raise_unlabeled(dataset, decoder, num_ignored)


def select_images(reader: Any, decoder: Any) -> Selection:
    """Select images to read, and check all labels in the infos.

    Raises:
        ValueError: A label in the infos does not fit the decoder.
        FileNotFoundError: Local files of labeled images are missing.
    """
    num_labeled, all_labeled = 0, True
    rows: Sequence[int] = []
    for leaf in iter_leaves(reader):
        check_categories(leaf)
        rows, labels, paths = find_labels(leaf, decoder, reader)
        decoder.check_labels(labels, paths)
        num_labeled += len(rows)
        all_labeled &= len(rows) == len(leaf)
    if get_wrapped(reader) is None and hasattr(reader, 'get_data_info'):
        # The reader is the only leaf, so that ``rows`` are its rows.
        return Selection(rows, (NUM_READ, NUM_TRIED), bool(rows), bool(rows))
    # The infos do not say which images of a wrapper are labeled.
    return Selection(
        range(len(reader)),
        (NUM_TRIED,),
        num_labeled > 0,
        num_labeled > 0 and all_labeled,
    )


def read_until_labeled(
    reader: Any, selection: Selection, model: Any, num_workers: int
) -> list:
    """Return data samples of the selected images, after checking their labels.

    More images are read if no label counts in the first ones, or if their
    label maps contain one class only.

    Raises:
        ValueError: A label does not fit the decoder.
    """
    samples: list = []
    rows, decoder = selection.rows, model.decoder
    for number in selection.numbers:
        step = max(1, math.ceil(len(rows) / number))
        samples = read_samples(reader, rows[::step], num_workers)
        labeled = check_samples(samples, decoder)
        check_one_hot(samples, model)
        one_class = len(find_classes(samples, decoder)) == 1
        if (labeled and not one_class) or len(rows) <= number:
            break
    return samples


def raise_unlabeled(dataset: Any, decoder: Any, num_ignored: int) -> None:
    """Raise an error: a learned policy would get no reward.

    Args:
        dataset: The training dataset.
        decoder: The decoder of the model.
        num_ignored: Number of labeled images that were read and in which no
            label counts.

    Raises:
        ValueError: Always.
    """
    if num_ignored:
        raise ValueError(
            'expected labels that are not ignored, whose rewards train the '
            f'policy, got none in {num_ignored} labeled images that were '
            'read: all pixels or boxes are ignored, all keypoints have weight '
            '0, or all keypoints or boxes are outside of the image; correct '
            'the labels or the pipeline, or use FixedTimestepPolicy or '
            'UniformTimestepPolicy'
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


def warn_one_class(found: int, decoder: Any) -> None:
    """Log a warning that the label maps contain one class only."""
    print_log(
        f'expected two classes or more in label maps, got only class {found} '
        f'in those that were read, where {decoder.ignore_index} is ignored '
        f'(decoder.ignore_index); the values must be the indices of classes, '
        f'0 to {decoder.num_classes - 1}, not 0 and 255',
        logger='current',
        level=logging.WARNING,
    )


def find_labels(
    leaf: Any, decoder: Any, reader: Any = None
) -> Tuple[List[int], list, List[Optional[str]]]:
    """Return rows, labels and paths of the labeled images of a dataset.

    Args:
        leaf: The dataset.
        decoder: The decoder that reads the labels.
        reader: The wrapper whose pipeline reads the images, if any.

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


def read_samples(reader: Any, rows: Sequence[int], num_workers: int) -> list:
    """Return the data samples of some rows of a dataset.

    The random states of this process and the transforms do not change.
    """
    loader = DataLoader(
        Subset(reader, rows),
        collate_fn=pseudo_collate,
        num_workers=min(num_workers, len(rows), 1),
    )
    samples: list = []
    with seeded(0), copied_pipelines(reader):
        for batch in loader:
            if isinstance(batch, dict):
                check_packed(batch)
                samples += batch.get('data_samples') or []
    return samples


def check_samples(samples: Sequence, decoder: Any) -> bool:
    """Check the labels in data samples, and return whether any counts.

    Raises:
        ValueError: A label does not fit the decoder.
    """
    for sample in samples:
        decoder.read(decoder.samples([sample], 1))
    return any(decoder.has_label(sample) for sample in samples)


def check_fields(samples: Sequence, decoder: Any, reader: Any) -> None:
    """Refuse a pipeline that does not pack the labels of a dataset.

    Raises:
        ValueError: No sample of labeled images has a field for the decoder.
    """
    if any(map(decoder.has_field, samples)):
        return
    keys = [
        f'{key} (empty)' if key in decoder.label_fields else key
        for key in sorted({*itertools.chain(*(s.keys() for s in samples))})
    ]
    raise ValueError(
        f'expected a pipeline that packs {" or ".join(decoder.label_fields)}, '
        f'which {type(decoder).__name__} reads, got data samples with '
        f'{", ".join(keys) or "no labels"} from {type(reader).__name__}; load '
        'the labels (LoadAnnotations, GenerateTarget), and end the pipeline '
        "with your project's PackInputs"
    )


def check_one_hot(samples: Sequence, model: Any) -> None:
    """Refuse a data preprocessor with another number of classes.

    It makes one-hot labels only in batches whose images are all labeled. In
    partly labeled datasets, the first such batch may come late in training.

    Raises:
        ValueError: Its one-hot labels would not fit the decoder.
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
    """Describe the labels of a dataset that has none for ``decoder``."""
    infos = {
        key: value
        for leaf in iter_leaves(dataset)
        for info in iter_infos(leaf)
        for key, value in info.items()
        if value is not None  # as seg_map_path of mmdet's boxes
    }
    readers = {
        key: cls.__name__
        for cls in TaskDecoder.__subclasses__()
        for key in (cls.info_key, *cls.label_fields)
    }
    found = [
        f'{key}, which marks no image as labeled'
        if key == decoder.info_key
        else f'{key}, which {name} reads'
        for key, name in readers.items()
        if key in infos
    ]
    return ', '.join(found) or 'no labels'
