"""Bring the files of a pipeline from the hub, or from its cache."""

from __future__ import annotations

import contextlib
import difflib
import re
from pathlib import Path
from typing import List, Optional, Sequence

from repfusion_mm.models.teachers.loading.folders import Part
from repfusion_mm.models.teachers.loading.single_files import (
    FINETUNED,
    PRETRAINED,
    advise_on_file,
)
from repfusion_mm.models.teachers.loading.weights import (
    find_files,
    select_weights,
)

#: What describes a pipeline: its parts, their configs, the noise schedule.
CONFIGS = (
    'model_index.json',
    'config.json',
    '*/config.json',
    'scheduler_config.json',
    '*/scheduler_config.json',
)
#: How names of files end that describe a tokenizer or text encoder.
VOCABULARIES = ('.jinja', '.json', '.model', '.txt')
#: What names of the weights of text encoders begin with.
WEIGHTS = ('model', 'pytorch_model')
#: What the settings of a teacher name.
KINDS = {
    PRETRAINED: 'denoiser',
    FINETUNED: 'denoiser',
    'model.teacher.vae': 'autoencoder',
}


def fetch(pretrained: str, setting: str = PRETRAINED) -> Path:
    """Return the folder of a pipeline or model, without its weights.

    Args:
        pretrained: A folder, which is returned unchanged, or a hub id
            ``USER/NAME`` where there is no folder ``USER``, whose configs are
            downloaded into the hub's cache. Without a network, the cache is
            used.
        setting: The setting that names it; see ``KINDS``.

    Raises:
        OSError: There is no such folder, and the hub does not return it.
        ValueError: ``pretrained`` is neither.
    """
    if not isinstance(pretrained, (str, Path)) or not str(pretrained):
        raise ValueError(
            f'expected {setting} to be a hub id or a folder, '
            f'got {pretrained!r}; correct it'
        )
    path = Path(pretrained).expanduser()
    if path.is_dir():
        return path
    is_id = re.fullmatch(r'[\w.-]+/[\w.-]+', str(pretrained))
    # A folder of this name is hardly a user of the hub: the path is mistyped.
    if path.is_file() or not is_id or path.parent.is_dir():
        raise no_folder(path, setting)
    from huggingface_hub import try_to_load_from_cache

    try:
        return fetch_parts(str(pretrained), CONFIGS, setting=setting)
    except ConnectionError:  # part of the pipeline may be in the cache
        for name in ('model_index.json', 'config.json'):
            file = try_to_load_from_cache(str(pretrained), name)
            if isinstance(file, str):
                return Path(file).parent
        raise


def fetch_parts(
    pretrained: str,
    patterns: Sequence[str],
    revision: Optional[str] = None,
    setting: str = PRETRAINED,
) -> Path:
    """Return the folder of a pipeline, with the files of ``patterns``.

    Args:
        pretrained: A folder, which is returned unchanged, or a hub id.
        patterns: What is downloaded, such as ``'text_encoder/*'``.
        revision: The commit on the hub; by default the latest one.
        setting: The setting that names it; see ``KINDS``.

    Raises:
        OSError: The hub does not return them, and they are not in its cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import GatedRepoError

    path = Path(pretrained).expanduser()
    if path.is_dir():
        return path
    try:
        folder = snapshot_download(
            pretrained, revision=revision, allow_patterns=[*patterns]
        )
        return Path(folder)
    except GatedRepoError as error:
        raise PermissionError(
            f'expected access to {pretrained!r} on the hub, got none; accept '
            f'its license at https://huggingface.co/{pretrained}, and run '
            '"hf auth login" on this machine'
        ) from error
    except Exception as error:  # of httpx, requests and the hub
        if Path(path.parts[0]).is_dir():  # a folder, not a user of the hub
            raise no_folder(path, setting) from error
        raise unreachable(pretrained, setting=setting) from error


def fetch_weights(
    pretrained: str, part: Part, setting: str = PRETRAINED
) -> Path:
    """Return the folder of a part of a pipeline, with its weights.

    Only one format and one variant of the weights is downloaded; none if the
    cache has one.

    Args:
        pretrained: The folder or hub id in which the part was found.
        part: The part.
        setting: The setting that names it; see ``KINDS``.

    Raises:
        OSError: The hub does not return them, and they are not in its cache.
        ValueError: The hub has no weights of the part.
    """
    if Path(pretrained).expanduser().is_dir():
        return part.folder
    commit = (part.folder.parent if part.name else part.folder).name
    try:
        find_files(part.folder)
        return part.folder
    except ValueError:  # not in the cache, or not all
        names = select_weights(
            _list_names(pretrained, part.name, commit, setting),
            where=f' in {part.name!r} of {pretrained!r} on the hub',
        )
    prefix = f'{part.name}/' if part.name else ''
    names = [prefix + name for name in names]
    folder = fetch_parts(pretrained, names, commit, setting)
    return folder / part.name


def fetch_text_encoders(pretrained: str, parts: Sequence[str]) -> Path:
    """Return the folder of a pipeline, with its text encoders.

    Only one format and one variant of their weights is downloaded. Without a
    network, those in the cache are used.

    Args:
        pretrained: A folder, which is returned unchanged, or a hub id.
        parts: The sub-folders of text encoders and tokenizers.

    Raises:
        OSError: The pipeline is neither on the hub nor in its cache.
    """
    folder = fetch(pretrained)
    if Path(pretrained).expanduser().is_dir():
        return folder
    files: List[str] = []
    for part in parts:
        try:
            names = _list_names(pretrained, part, folder.name)
        except ConnectionError:
            return folder
        kept = [*filter(is_vocabulary, names)]
        with contextlib.suppress(ValueError):  # tokenizers have no weights
            kept += select_weights(names, WEIGHTS)
        files += [f'{part}/{name}' for name in kept]
    return fetch_parts(pretrained, files, folder.name)


def is_vocabulary(name: str) -> bool:
    """Whether a file describes a tokenizer or text encoder."""
    return name.endswith(VOCABULARIES) and '.index.' not in name


def _list_names(
    pretrained: str, part: str, commit: str, setting: str = PRETRAINED
) -> List[str]:
    """Return the names of the files in a folder of the hub."""
    from huggingface_hub import HfApi

    try:
        names = HfApi().list_repo_files(pretrained, revision=commit)
    except Exception as error:  # of httpx, requests and the hub
        raise unreachable(pretrained, 'the weights of', setting) from error
    paths = map(Path, names)
    return [path.name for path in paths if path.parent == Path(part)]


def no_folder(path: Path, setting: str = PRETRAINED) -> FileNotFoundError:
    """Return the error of a folder that does not exist."""
    kind = KINDS[setting]
    expected = f'expected a folder with a diffusers {kind} at {str(path)!r}'
    advice = advise_on_file(path, setting) if path.is_file() else ''
    if advice:
        return FileNotFoundError(f'{expected}, got {advice}')
    got = 'a file' if path.is_file() else 'no such folder'
    train = (
        'train one with tools/train.py configs/teacher/..., convert a '
        'guided-diffusion checkpoint with '
        'tools/model_converters/guided_diffusion_to_diffusers.py, or '
    )
    if path.parent.is_dir():
        names = [p.name for p in path.parent.iterdir() if p.is_dir()]
        near = difflib.get_close_matches(path.name, names)
        if near:
            got = f'{got}, but {", ".join(near)},'
    return FileNotFoundError(
        f'{expected}, got {got} in {str(path.parent.resolve())!r}; '
        f'{train if setting == PRETRAINED else ""}set '
        f'{setting} to a hub id or to a folder that exists'
    )


def unreachable(
    pretrained: str, what: str = '', setting: str = PRETRAINED
) -> ConnectionError:
    """Return the error of a hub id that neither hub nor cache returns."""
    return ConnectionError(
        f'expected {what or "the " + KINDS[setting]} {pretrained!r} on this '
        f'disk or on the hub, got neither (there is no '
        f'folder {pretrained} in {Path.cwd()}, '
        'it is not in the cache, and the hub did not return it); if it is a '
        'folder, correct its path; if it is on the hub, run "hf download '
        f'{pretrained} --local-dir TEACHER" on a machine with a network, copy '
        'the folder TEACHER to this machine, and add --cfg-options '
        f'{setting}=TEACHER'
    )
