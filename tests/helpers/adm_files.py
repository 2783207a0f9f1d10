"""Calls the converter of guided-diffusion checkpoints."""

import torch

from tests.helpers.launcher import Result, run_main

TOOL = 'tools/model_converters/guided_diffusion_to_diffusers.py'
OPTIONS = dict(
    image_size=16,
    head_channels=16,
    schedule='cosine',
    attention_order='new',
    accept_settings=True,
)


def convert(folder, weights, expect=0, **options) -> Result:
    """Convert weights from ``folder / 'adm.pt'`` into ``folder / 'out'``."""
    torch.save(weights, folder / 'adm.pt')
    argv = []
    for name, value in {**OPTIONS, **options}.items():
        option = '--' + name.replace('_', '-')
        if value is True:
            argv.append(option)
        elif value is not None:
            argv += [option, value]
    return run_main(
        TOOL, folder / 'adm.pt', folder / 'out', *argv, expect=expect
    )
