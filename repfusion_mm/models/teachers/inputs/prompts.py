"""The text that a denoiser is conditioned on, encoded once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from repfusion_mm.models.teachers.families import Condition, DenoiserFamily
from repfusion_mm.models.teachers.loading.fingerprint import (
    hash_config,
    hash_files,
)
from repfusion_mm.models.teachers.loading.folders import (
    diffusers_class,
    find_pipelines,
    read_index,
)
from repfusion_mm.models.teachers.loading.hub import (
    WEIGHTS,
    fetch,
    fetch_text_encoders,
    is_vocabulary,
)
from repfusion_mm.models.teachers.loading.weights import find_files

#: Where encoded prompts are kept, unless the user names a file.
PROMPT_FOLDER = Path('work_dirs', 'prompts')
#: Packages whose classes may encode text.
LIBRARIES = ('transformers', 'diffusers')
#: Size in bytes of text encoders' files above which they run in bfloat16, as
#: T5-XXL (19 GB in float32), Gemma-2 and Qwen2.5-VL; CLIP is smaller.
BF16_THRESHOLD_BYTES = 5_000_000_000
#: Labels of the key's fields in error messages.
KEY_LABELS = dict(
    denoiser='denoiser (config hash)',
    prompt='text',
    text_encoders='text encoder (hash)',
)


def load_condition(
    family: DenoiserFamily,
    denoiser: Any,
    pretrained: Optional[str],
    prompt: Optional[str],
    file: Optional[str],
) -> Condition:
    """Return what the denoiser is conditioned on, without class labels.

    It is read from a file, which is written first if it does not exist. That
    needs the text encoders of the pipeline and the package transformers. They
    run on the CPU, in float32, or in bfloat16 if their files are larger than
    5 GB, and are released afterwards.

    Args:
        family: The family of the denoiser.
        denoiser: The denoiser, which needs no weights.
        pretrained: Folder or hub id of the pipeline; None for a denoiser of
            random weights, which is conditioned on zeros.
        prompt: One text for all images; None: the unconditional input of the
            pipeline.
        file: The file, or None for one in ``work_dirs/prompts``.

    Raises:
        ImportError: transformers is needed and not installed.
        OSError: The text encoders are needed and missing.
        ValueError: The file belongs to another denoiser, text or text
            encoder, or is damaged. Text encoders that are not on this disk
            are not compared.
    """
    if not isinstance(prompt, (str, type(None))):
        raise ValueError(
            'expected model.teacher.prompt to be one text for all images, got '
            f'{prompt!r}; correct it'
        )
    zeros = family.zero_condition(family.num_tokens)
    if not zeros or pretrained is None:
        for name, value in (('prompt', prompt), ('prompt_file', file)):
            if value is not None:
                raise ValueError(
                    f'expected model.teacher.{name}=None for a denoiser '
                    f'without text encoders, got {value!r}; remove it'
                )
        return zeros
    if torch.empty(0).is_meta:  # nothing is read on the meta device
        return zeros
    folder = fetch(pretrained).resolve()
    if prompt is None:
        unconditional = family.unconditional(read_index(folder))
        if unconditional is not None:
            if file is not None:
                raise ValueError(
                    'expected model.teacher.prompt_file=None, because the '
                    'unconditional input of this pipeline is zeros, got '
                    f'{file!r}; remove it, or set model.teacher.prompt'
                )
            return unconditional
    key = dict(denoiser=hash_config(denoiser), prompt=prompt or '')
    payload: list = [None]
    if is_main_process():
        key.update(_hash_encoders(folder))
        path = _prompt_path(folder, key, file)
        if not path.is_file():
            _check_writable(path)
            condition = _encode(family, denoiser, pretrained, prompt or '')
            key.update(_hash_encoders(folder))  # they may be downloaded now
            path = _prompt_path(folder, key, file)
            _write(path, condition, key)
        payload = [_read(path, key)]
    broadcast_object_list(payload)
    return payload[0]


def _hash_encoders(folder: Path) -> Dict[str, str]:
    """Return the hash of the files that encode text, {} if one is missing."""
    files: List[Path] = []
    texts = _text_parts(read_index(folder))
    with contextlib.suppress(OSError, ValueError):  # incomplete or missing
        for part in (_find_pipeline(folder) / name for name in texts):
            small = [p for p in part.iterdir() if is_vocabulary(p.name)]
            if part.name.startswith('text_encoder'):
                files += find_files(part, WEIGHTS)
            elif not small:
                return {}
            files += small
        return dict(text_encoders=hash_files(files)) if texts else {}
    return {}


def _prompt_path(
    folder: Path, key: Dict[str, str], file: Optional[str]
) -> Path:
    """Return the file of a prompt, which may not exist."""
    if file is not None:
        return Path(file).expanduser()
    key = dict(key)
    encoders = key.pop('text_encoders', '')
    text = json.dumps([str(folder), key])
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = PROMPT_FOLDER / f'{folder.name}-{name}-{encoders[:12]}.safetensors'
    if encoders:
        return path
    files = PROMPT_FOLDER.glob('*.safetensors')
    found = [p for p in files if f'-{name}-' in p.name]
    if len(found) > 1:
        raise ValueError(
            f'expected one encoded prompt of {str(folder)!r}, whose text '
            f'encoders are not on this disk, got {sorted(map(str, found))}; '
            'set model.teacher.prompt_file to one of them'
        )
    return found[0] if found else path


def _find_pipeline(folder: Path) -> Path:
    """Return the pipeline of a folder, which may be that of a part of it."""
    places = (folder, *find_pipelines(folder))
    return next(p for p in places if (p / 'model_index.json').is_file())


def _encode(
    family: DenoiserFamily, denoiser: Any, pretrained: str, prompt: str
) -> Condition:
    folder = fetch(pretrained)
    index = read_index(folder)
    advice = (
        'download the complete pipeline, or set model.teacher.prompt_file to '
        'a file that was written where it is'
    )
    texts = _text_parts(index)
    if not any(name.startswith('text_encoder') for name in texts):
        raise FileNotFoundError(
            f'expected a pipeline with text encoders at {pretrained!r}, got '
            f'none in its model_index.json; {advice}'
        )
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'expected transformers, which encodes the prompt {prompt!r}, got '
            'none; pip install transformers, or set model.teacher.prompt_file '
            'to a file that was written where it is installed'
        ) from error
    folder = _find_pipeline(fetch_text_encoders(pretrained, texts))
    missing = [name for name in texts if not (folder / name).is_dir()]
    if missing:
        raise FileNotFoundError(
            f'expected the text encoders {missing} in {str(folder)!r}, got '
            f'none; {advice}'
        )
    cls = diffusers_class(index['_class_name'], 'pipeline')
    others = {
        name: denoiser if name == family.component else None
        for name, value in index.items()
        if isinstance(value, list) and name not in texts
    }
    try:
        size = sum(
            path.stat().st_size
            for name in texts
            if name.startswith('text_encoder')
            for path in find_files(folder / name, WEIGHTS)
        )
        dtype = (
            torch.bfloat16 if size > BF16_THRESHOLD_BYTES else torch.float32
        )
        print_log(
            f'teacher: encoding the prompt {prompt!r} once, in {dtype}',
            'current',
        )
        with warnings.catch_warnings():
            # torch_dtype is deprecated in newer versions, but dtype is
            # unknown to older ones.
            warnings.simplefilter('ignore', FutureWarning)
            pipeline = cls.from_pretrained(
                folder, torch_dtype=dtype, low_cpu_mem_usage=False, **others
            )
    except ImportError:  # names the package
        raise
    except Exception as error:  # transformers and safetensors raise many
        reason = ' '.join(str(error).split())[:200]
        raise OSError(
            f'expected the files of {texts} in {str(folder)!r}, got an error '
            f'({reason}); download the folder again, or set '
            'model.teacher.prompt_file to a file that was written elsewhere'
        ) from error
    with torch.no_grad(), _forwarded_warnings():
        condition = family.encode_prompt(pipeline, prompt)
    return {name: value.cpu() for name, value in condition.items()}


class _Forward(logging.Handler):
    """Log records of another library as warnings of this run."""

    def emit(self, record: logging.LogRecord) -> None:
        print_log(
            f'teacher: {record.getMessage()}', 'current', logging.WARNING
        )


@contextlib.contextmanager
def _forwarded_warnings() -> Iterator[None]:
    """Log what diffusers warns of, such as a text that is cut off."""
    logger = logging.getLogger('diffusers')
    handler = _Forward(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _text_parts(index: Dict[str, Any]) -> List[str]:
    """Return the parts of a pipeline that encode text.

    Raises:
        ValueError: One is of a package that a pipeline may not load.
    """
    texts = [
        name
        for name, value in index.items()
        if name.startswith(('text_encoder', 'tokenizer'))
        and isinstance(value, list)
        and value[0]
    ]
    for name in texts:
        if index[name][0] not in LIBRARIES:
            raise ValueError(
                f'expected {name!r} of model_index.json to be a class of '
                f'{" or ".join(LIBRARIES)}, got {index[name]}, whose code '
                'would run; use another pipeline'
            )
    return texts


def _check_writable(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        got = 'a folder' if path.is_dir() else 'one that cannot be written'
        raise OSError(
            f'expected the file of the encoded prompt, {str(path)!r}, got '
            f'{got}; set model.teacher.prompt_file to a file that can be '
            'written'
        )


def _write(path: Path, condition: Condition, key: Dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    tensors = {name: value.contiguous() for name, value in condition.items()}
    # save_file() would write a file that other users cannot read.
    temporary.write_bytes(save(tensors, metadata=key))
    temporary.replace(path)
    print_log(f'teacher: wrote the encoded prompt to {path}', 'current')


def _read(path: Path, key: Dict[str, str]) -> Condition:
    try:
        with safe_open(path, 'pt') as file:
            theirs = file.metadata() or {}
            condition = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f'expected an encoded prompt at {str(path)!r}, got a file that '
            f'cannot be read ({" ".join(str(error).split())[:200]}); delete '
            'it to regenerate it'
        ) from error
    for name, value in key.items():
        if theirs.get(name) != value:
            raise ValueError(
                f'expected {str(path)!r} to hold a prompt encoded for this '
                f'{KEY_LABELS[name]}, {value[:40]!r}, got '
                f'{str(theirs.get(name))[:40]!r}; set '
                'model.teacher.prompt_file to another file, or delete this '
                'one to regenerate it'
            )
    return condition
