"""Explain files of weights that are not a model of diffusers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

#: The setting of a teacher's denoiser, and of one that is finetuned.
PRETRAINED = 'model.teacher.pretrained'
FINETUNED = 'model.denoiser.pretrained'


def advise_on_file(file: Path, setting: str = PRETRAINED) -> str:
    """Return what a file of weights is, and what to do with it, or ''.

    Args:
        file: The file, which exists.
        setting: The setting that names it, a denoiser's or an autoencoder's.
    """
    advice = advise_on_part(file, setting)
    if advice:
        return advice
    for name in ('config.json', 'model_index.json'):
        if file.with_name(name).is_file():
            folder = str(file.parent)
            return f'a file; set {setting} to its folder, {folder!r}'
    if file.suffix not in ('.safetensors', '.ckpt'):
        return ''
    is_vae = setting.endswith('vae')
    cls = 'AutoencoderKL' if is_vae else 'StableDiffusionPipeline'
    return (
        f'the file {file.name}; convert it: {cls}.from_single_file('
        f'{str(file)!r}).save_pretrained(FOLDER), or so with the diffusers '
        f'class of another model, and set {setting}=FOLDER'
    )


def advise_on_part(file: Path, setting: str = PRETRAINED) -> str:
    """Return what to do with a quantized model or a LoRA, or ''."""
    if file.suffix == '.gguf':
        return (
            f'quantized weights, {file.name}, which are not supported; set '
            f'{setting} to the original weights'
        )
    if file.suffix not in ('.safetensors', '.bin'):
        return ''
    with file.open('rb') as opened:  # safetensors begin with all names
        head = opened.read(1 << 16)
    if 'lora' in file.name.lower() or re.search(rb'["._]lora[._]', head):
        return (
            f'a LoRA, {file.name}, which changes another model; load that '
            f'with its pipeline of diffusers, call load_lora_weights('
            f'{str(file)!r}), fuse_lora() and save_pretrained(FOLDER), and '
            f'set {setting}=FOLDER'
        )
    return ''


def check_files(
    folder: Path,
    advise: Callable = advise_on_part,
    setting: str = PRETRAINED,
) -> None:
    """Refuse a folder whose weights are not those of a diffusers model.

    Args:
        folder: The folder.
        advise: What explains a file.
        setting: The setting that names the model.

    Raises:
        FileNotFoundError: They are quantized, a LoRA, or in another format.
    """
    files = sorted(path for path in folder.glob('*') if path.is_file())
    if any(path.name.startswith('diffusion_pytorch_model') for path in files):
        return
    for advice in filter(None, (advise(file, setting) for file in files)):
        raise FileNotFoundError(
            f'expected weights of diffusers in {str(folder)!r}, got {advice}'
        )
