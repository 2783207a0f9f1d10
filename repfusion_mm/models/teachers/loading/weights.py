"""Build diffusers models without allocating parameters, and load weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple
from zipfile import is_zipfile

import torch
import torch.nn as nn
from mmengine.logging import print_log
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_parameter_registration_hook

from repfusion_mm.utils.messages import BYTES, find_reason, scale

#: Where a tensor of a model is: its file, and its name there.
Locations = Dict[str, Tuple[Path, str]]

STEMS = ('diffusion_pytorch_model',)
FORMATS = ('safetensors', 'bin')  # the first one is preferred
#: First bytes of a git-lfs pointer file.
POINTER = b'version https://git-lfs'
#: Names in attention layers of 2021 and 2022, and those of today.
OLD_NAMES = {
    'query': 'to_q',
    'key': 'to_k',
    'value': 'to_v',
    'proj_attn': 'to_out.0',
}
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
#: Bytes that are read before a file is mapped again: pages of a mapped file
#: that were read count as memory of this process until it is unmapped.
CHUNK = 32 << 20


def build_empty(cls: Any, config: dict, meta_model: nn.Module) -> Any:
    """Build a diffusers model whose parameters are on the meta device.

    Buffers, such as positional embeddings, are computed, as most are in no
    file of weights. If all are in the file, they are on the meta device, too:
    those of Stable Diffusion 3.5 take seconds and more than 1 GB. Parameters
    are frozen. Neither memory nor time is spent on random weights.

    Args:
        cls: The class of the model.
        config: Its config.
        meta_model: A copy on the meta device.
    """
    buffers = dict(meta_model.named_buffers())
    if buffers and buffers.keys() <= meta_model.state_dict().keys():
        with torch.device('meta'):
            return cls.from_config(config).eval().requires_grad_(False)

    def on_meta(_module: nn.Module, _name: str, parameter: Any) -> Any:
        if parameter is None:
            return None
        return nn.Parameter(parameter.to('meta'), requires_grad=False)

    handle = register_module_parameter_registration_hook(on_meta)
    try:
        return cls.from_config(config).eval()
    finally:
        handle.remove()


def select_weights(
    names: Sequence[str], stems: Sequence[str] = STEMS, where: str = ''
) -> List[str]:
    """Return those names of files in a model's folder that hold its weights.

    Prefers files without a variant, then safetensors over ``.bin``. A variant,
    such as ``fp16``, is selected if it is the only one.

    Args:
        names: The names of the files.
        stems: What the names of weights begin with.
        where: The folder, for errors.

    Raises:
        ValueError: There are no weights, or only those of several variants.
    """
    found: Dict[Tuple[str, str], List[str]] = {}
    for name in sorted(names):
        kind = _variant_and_format(name)
        if kind and name.split('.')[0].split('-')[0] in stems:
            found.setdefault(kind, []).append(name)
    variants = sorted({variant for variant, _ in found})
    if not variants or (len(variants) > 1 and variants[0]):
        got = f'only the variants {variants}' if variants else f'{names}'
        raise ValueError(
            f'expected {stems[0]}.safetensors{where}, got {got}; rename the '
            f'wanted file to {stems[0]}.safetensors, or download the folder '
            'again'
        )
    groups = (found.get((variants[0], name)) for name in FORMATS)
    return next(filter(None, groups))


def _variant_and_format(name: str) -> Optional[Tuple[str, str]]:
    """Split a name such as ``diffusion_pytorch_model.fp16.safetensors``.

    Versions of diffusers put the variant in different places.
    """
    _, *words = re.sub(r'-\d+-of-\d+', '', name).split('.')
    formats = [word for word in words if word in FORMATS]
    if len(formats) != 1 or words[-1] not in (*FORMATS, 'json'):
        return None
    ignored = (*FORMATS, 'index', 'json')
    return '.'.join(w for w in words if w not in ignored), formats[0]


def find_files(folder: Path, stems: Sequence[str] = STEMS) -> List[Path]:
    """Return the files of a model's weights, which all exist.

    Args:
        folder: Their folder.
        stems: What their names begin with.

    Raises:
        ValueError: There are none, or shards are missing.
    """
    names = sorted(path.name for path in folder.iterdir())
    files = select_weights(names, stems, f' in {str(folder)!r}')
    indexes = [name for name in files if name.endswith('.json')]
    if indexes:
        try:
            index = json.loads(
                (folder / indexes[0]).read_text(encoding='utf-8')
            )
            files = sorted(set(index['weight_map'].values()))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise weights_error(folder, f'damaged {indexes[0]}') from error
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise weights_error(folder, f'no {missing[:5]}, which the index names')
    if not indexes and len(files) > 1:
        raise weights_error(folder, f'{files[:3]} without their index.json')
    return [folder / name for name in files]


def locate_weights(
    model: nn.Module, folder: Path, unused: Sequence[str] = ()
) -> Locations:
    """Find each tensor of a complete model in the files of a folder.

    Only headers are read, except of ``.bin`` files in PyTorch's old format.

    Args:
        model: The model.
        folder: The folder.
        unused: Tensors that the files may hold, and the model does not.

    Raises:
        ValueError: Names or shapes differ, shards are missing, a file is
            damaged, or the weights are quantized.
    """
    expected = model.state_dict()
    found: Locations = {}
    unexpected, wrong, quantized = [], [], []
    ignored = dict(model.named_buffers())
    paths = find_files(folder)
    left_out = []
    size = sum(p.stat().st_size for p in paths if p.suffix == '.bin')
    if size:
        print_log(
            f'teacher: the .bin files in {str(folder)!r} take up to '
            f'{scale(size, BYTES)} more memory while they are read than '
            'safetensors, which save_pretrained writes',
            logger='current',
        )
    for path in paths:
        for name, tensor in _open(path).items():
            key = _rename(name, expected)
            if key not in expected:
                if name in unused:
                    left_out.append(name)
                elif key not in ignored:
                    unexpected.append(name)
                continue
            found[key] = path, name
            value = expected[key]
            if tensor.shape != value.shape:
                shapes = tuple(tensor.shape), tuple(value.shape)
                wrong.append('{} {} instead of {}'.format(name, *shapes))
            if value.is_floating_point() and tensor.dtype not in FLOATS:
                quantized.append(name)
    if quantized:
        raise weights_error(
            folder,
            f'integers, quantized weights, in {quantized[:3]}',
            'use the original weights, which are not quantized',
        )
    mismatches = dict(
        missing=[name for name in expected if name not in found],
        unexpected=unexpected,
        shapes=wrong,
    )
    if any(mismatches.values()):
        text = '; '.join(
            f'{kind} {names[:3]}' + ' and others' * (len(names) > 3)
            for kind, names in mismatches.items()
            if names
        )
        raise weights_error(folder, text)
    if left_out:
        print_log(
            f'teacher: {left_out} in {str(folder)!r} is not used, as in '
            'diffusers',
            logger='current',
        )
    return found


@torch.no_grad()
def load_weights(
    model: nn.Module,
    locations: Locations,
    dtype: Optional[torch.dtype] = None,
) -> None:
    """Read the tensors that are left in a model, and no others.

    Args:
        model: From :func:`build_empty`; sub-modules may have been removed.
        locations: From :func:`locate_weights`.
        dtype: That of the parameters; None keeps the dtype of the files.

    Raises:
        ValueError: A file cannot be read, or a value is not finite.
    """
    state: Dict[str, torch.Tensor] = {}
    names: Dict[Path, Dict[str, str]] = {}
    for key in model.state_dict():
        path, name = locations[key]
        names.setdefault(path, {})[name] = key
    for path, keys in names.items():
        for name, tensor in _read(path, list(keys)):
            floats = dtype is not None and tensor.is_floating_point()
            value = tensor.to(dtype if floats else tensor.dtype, copy=True)
            if not _is_finite(value):
                raise nonfinite_error(path, name, tensor, value.dtype)
            state[keys[name]] = value
    model.load_state_dict(state, assign=True)


def weights_error(
    folder: Path,
    got: object,
    advice: str = 'the download is incomplete or mixes two models: download '
    'the folder again',
) -> ValueError:
    """Return the error of weights that cannot be used."""
    return ValueError(
        f'expected weights in {str(folder)!r} that can be read safely and '
        f'match its config.json, got {got}; {advice}'
    )


def _open(path: Path) -> Dict[str, torch.Tensor]:
    """Map a file; tensors are read when they are used."""
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        tensors = torch.load(
            path, map_location='cpu', weights_only=True, mmap=is_zipfile(path)
        )
        if all(map(torch.is_tensor, tensors.values())):
            return tensors
        raise TypeError(f'{path.name} has values that are no tensors')
    except Exception as error:  # safetensors, pickle and torch raise many
        with path.open('rb') as file:
            is_pointer = file.read(len(POINTER)) == POINTER
        if is_pointer:
            raise ValueError(
                f'expected weights in {str(path)!r}, got a git-lfs pointer; '
                'run git lfs pull in its folder'
            ) from error
        raise weights_error(path.parent, find_reason(error)) from error


def _read(path: Path, names: List[str]) -> Iterator[Tuple[str, torch.Tensor]]:
    tensors: Dict[str, torch.Tensor] = {}
    size = 0
    for name in names:
        if not tensors or size > CHUNK:
            tensors.clear()
            tensors = _open(path)
            size = 0
        tensor = tensors[name]
        size += tensor.nbytes
        yield name, tensor


def _rename(name: str, expected: Dict[str, torch.Tensor]) -> str:
    owner, _, kind = name.rpartition('.')
    owner, _, old = owner.rpartition('.')
    new = f'{owner}.{OLD_NAMES.get(old)}.{kind}'
    return new if name not in expected and new in expected else name


def _is_finite(value: torch.Tensor) -> bool:
    if not value.is_floating_point() or not value.numel():
        return True
    # Unlike isfinite(), it needs no memory.
    return bool(torch.stack(torch.aminmax(value)).isfinite().all())


def nonfinite_error(
    path: Path, name: str, tensor: torch.Tensor, dtype: torch.dtype
) -> ValueError:
    if not _is_finite(tensor):
        return weights_error(
            path.parent,
            f'NaN or Inf in {[name]}',
            'the file is damaged, or its training failed: use another one',
        )
    return ValueError(
        f'expected values of {name!r} in {str(path)!r} that {dtype} can hold, '
        'got larger ones; set model.teacher.dtype to bfloat16 or float32'
    )
