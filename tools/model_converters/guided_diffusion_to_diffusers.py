"""Convert a guided-diffusion checkpoint into a diffusers folder.

    guided_diffusion_to_diffusers.py 64x64_diffusion.pt OUT --preset imagenet64
    guided_diffusion_to_diffusers.py 256x256_diffusion_uncond.pt OUT \\
        --preset imagenet256-uncond

Use the folder as a teacher with model.teacher.pretrained=OUT. For checkpoints
without a preset, give --image-size, --head-channels, --attention-order and
--schedule of their training: the weights do not contain them.
"""

import argparse
import math
import os
import shutil
import sys
from pathlib import Path
from typing import List, Optional

import numpy as np
import torch
import torch.nn.functional as F

from repfusion_mm.analysis.teacher_presets import TEACHER_PRESETS
from repfusion_mm.cli import report_errors, script_parser
from repfusion_mm.cli.argument_types import positive
from repfusion_mm.engine.checkpoint.io import read_checkpoint
from repfusion_mm.models.teachers.guided_diffusion_weights import (
    StateDict,
    build_denoiser,
    convert_weights,
    read_architecture,
)

#: The two published teachers of the paper: settings that the weights do not
#: contain.
PRESETS = {
    'imagenet64': dict(
        image_size=64, head_channels=64, attention_order='new',
        schedule='cosine',
    ),
    'imagenet256-uncond': dict(
        image_size=256, head_channels=64, attention_order='legacy',
        schedule='linear',
    ),
}  # fmt: skip
OPTIONS = ('image_size', 'head_channels', 'attention_order', 'schedule')
SCHEDULES = {
    'linear': dict(
        beta_schedule='linear', beta_start=0.0001, beta_end=0.02
    ),
    'cosine': dict(beta_schedule='squaredcos_cap_v2'),
}  # fmt: skip
#: Timesteps at which the two attention orders are compared.
TIMESTEPS = (100, 300, 600)
#: The comparison is inconclusive if both orders leave more noise than this.
MAX_ERROR = 0.5
#: The other order is right if the error is larger by this factor.
MIN_RATIO = 1.05


def merge_preset(args: argparse.Namespace) -> None:
    """Fill the options from the preset."""
    preset = PRESETS.get(args.preset, {})
    for name in OPTIONS:
        given = getattr(args, name)
        known = preset.get(name, given)
        value = known if given is None else given
        option = '--' + name.replace('_', '-')
        if value is None:
            raise ValueError(
                f'expected {option}, which the weights do not contain, or '
                f'--preset {"|".join(PRESETS)}, got neither'
            )
        if value != known:
            raise ValueError(
                f'expected {option} {known} with --preset {args.preset}, got '
                f'{given}; remove one of the two options'
            )
        setattr(args, name, value)


def check_attention_order(
    denoiser, weights: StateDict, config: dict, args: argparse.Namespace
) -> None:
    """Compare how well both attention orders denoise photographs.

    A wrong order loads without an error, but predicts worse.
    """
    order = args.attention_order
    other = 'legacy' if order == 'new' else 'new'
    errors = {}
    for tried in (other, order):  # the denoiser keeps the last one
        denoiser.load_state_dict(convert_weights(weights, config, tried))
        errors[tried] = denoising_error(denoiser, args.schedule)
    figures = (
        'mean squared error of the predicted noise on two photographs: '
        f'{errors[order]:.4f} as {order}, {errors[other]:.4f} as {other}'
    )
    if not all(map(math.isfinite, errors.values())):
        raise ValueError(f'expected finite errors, got {figures}')
    if min(errors.values()) > MAX_ERROR:
        print(f'{figures}: neither denoises, so the order was not checked')
    elif errors[other] * MIN_RATIO < errors[order]:
        raise ValueError(
            f'expected --attention-order {other}, got {order}: {figures}'
        )
    else:
        print(figures)


@torch.no_grad()
def denoising_error(denoiser, schedule: str) -> float:
    """Return the mean squared error of the predicted noise, of variance 1.

    Class-conditional denoisers run without a class.
    """
    from sklearn.datasets import load_sample_images

    photographs = np.stack(load_sample_images().images)[:, :, :427]
    images = F.interpolate(
        torch.from_numpy(photographs).movedim(3, 1) / 127.5 - 1,
        size=(denoiser.config.sample_size,) * 2,
        mode='bilinear',
        antialias=True,
    )
    scheduler = build_scheduler(schedule)
    noise = torch.randn(images.shape, generator=torch.manual_seed(0))
    embedding, denoiser.class_embedding = denoiser.class_embedding, None
    errors = []
    for t in TIMESTEPS:
        timesteps = torch.full((len(images),), t)
        sample = scheduler.add_noise(images, noise, timesteps)
        predicted = denoiser(sample, timesteps).sample[:, :3]
        errors.append((predicted - noise).pow(2).mean().item())
    denoiser.class_embedding = embedding
    return sum(errors) / len(errors)


def build_scheduler(schedule: str):
    """Build the noise schedule of the training, with 1,000 timesteps."""
    from diffusers import DDPMScheduler  # slow to import

    return DDPMScheduler(num_train_timesteps=1000, **SCHEDULES[schedule])


def convert(args: argparse.Namespace) -> None:
    """Write the denoiser and its schedule into a folder, atomically."""
    out = Path(args.out)
    if os.path.lexists(out):
        raise ValueError(
            f'expected {out} not to exist, got a file or folder; choose '
            'another name'
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    merge_preset(args)
    weights, _ = read_checkpoint(args.src, 'give the path of the .pt file')
    config = read_architecture(weights, args.image_size, args.head_channels)
    known = TEACHER_PRESETS.get(f'data/teachers/{args.preset}', {})
    wrong = {k: v for k, v in config.items() if known.get(k, v) != v}
    if wrong:
        raise ValueError(
            f'expected { ({k: known[k] for k in wrong}) } with --preset '
            f'{args.preset}, got {wrong}'
        )
    denoiser = build_denoiser(weights, config, args.attention_order)
    check_attention_order(denoiser, weights, config, args)
    unfinished = out.with_name(out.name + '.tmp')
    shutil.rmtree(unfinished, ignore_errors=True)
    denoiser.save_pretrained(unfinished)
    build_scheduler(args.schedule).save_pretrained(unfinished)
    os.replace(unfinished, out)
    millions = sum(p.numel() for p in denoiser.parameters()) / 1e6
    print(
        f'wrote {out}: {millions:.0f} M parameters, '
        f'{len(config["block_out_channels"])} levels of '
        f'{config["layers_per_block"]} blocks, '
        f'{config["num_class_embeds"] or "no"} classes, attention order '
        f'{args.attention_order}'
    )


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    parser.add_argument('src', help='the .pt file')
    parser.add_argument('out', help='the folder to write; must not exist')
    parser.add_argument('--preset', choices=PRESETS)
    parser.add_argument(
        '--image-size', type=positive, help='height and width in pixels'
    )
    parser.add_argument(
        '--head-channels', type=positive, help='channels of an attention head'
    )
    parser.add_argument(
        '--attention-order',
        choices=['new', 'legacy'],
        help='new if use_new_attention_order was True in the training',
    )
    parser.add_argument(
        '--schedule', choices=SCHEDULES, help='noise schedule of the training'
    )
    args = parser.parse_args(argv)
    with report_errors():
        convert(args)
    return 0


if __name__ == '__main__':
    sys.exit(main())
