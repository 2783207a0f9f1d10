"""Calls the converter of guided-diffusion checkpoints."""

import torch
from guided_diffusion_to_diffusers import main

FLAGS = dict(
    image_size=16, head_channels=16, schedule='cosine', attention_order='new'
)


def convert(folder, weights, **flags):
    """Call the tool without a process of its own."""
    torch.save(weights, folder / 'adm.pt')
    options = []
    for name, value in {**FLAGS, **flags}.items():
        if value is not None:
            options += ['--' + name.replace('_', '-'), str(value)]
    main([str(folder / 'adm.pt'), str(folder / 'out'), *options])
