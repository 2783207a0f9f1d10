"""Convert a guided-diffusion checkpoint into a diffusers folder.

    guided_diffusion_to_diffusers.py 64x64_diffusion.pt OUT --preset imagenet64
    guided_diffusion_to_diffusers.py 256x256_diffusion_uncond.pt OUT \\
        --preset imagenet256-uncond

The folder is a teacher: model.teacher.pretrained=OUT. Other checkpoints of
that code base need --image-size, --head-channels, --attention-order and
--schedule, which their weights do not tell.
"""

import argparse
import math
import os
import shutil
import sys
from pathlib import Path
from typing import List, Optional

import torch
import torch.nn.functional as F
from adm_weights import StateDict, build, convert, read_architecture

import repfusion_mm  # noqa: F401  # heals the stack before diffusers
from repfusion_mm.engine.checkpoint.io import read_checkpoint

#: The two published teachers of the paper: what the weights do not tell, and
#: what they must show.
PRESETS = {
    'imagenet64': dict(
        image_size=64,
        head_channels=64,
        attention_order='new',
        schedule='cosine',
        shows=dict(
            block_out_channels=(192, 384, 576, 768),
            layers_per_block=3,
            num_class_embeds=1000,
            out_channels=6,
        ),
    ),
    'imagenet256-uncond': dict(
        image_size=256,
        head_channels=64,
        attention_order='legacy',
        schedule='linear',
        shows=dict(
            block_out_channels=(256, 256, 512, 512, 1024, 1024),
            layers_per_block=2,
            num_class_embeds=None,
            out_channels=6,
        ),
    ),
}
FLAGS = ('image_size', 'head_channels', 'attention_order', 'schedule')
SCHEDULES = {
    'linear': dict(
        beta_schedule='linear', beta_start=0.0001, beta_end=0.02
    ),
    'cosine': dict(beta_schedule='squaredcos_cap_v2'),
}  # fmt: skip
#: At which t the attention orders are compared, and when that tells.
NOISE_LEVELS = (100, 300, 600)
MAX_ERROR = 0.5
MIN_RATIO = 1.05


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('src', help='the .pt file')
    parser.add_argument('out', help='the folder to write; must not exist')
    parser.add_argument('--preset', choices=PRESETS)
    parser.add_argument('--image-size', type=positive, help='side in pixels')
    parser.add_argument(
        '--head-channels', type=positive, help='channels of an attention head'
    )
    parser.add_argument(
        '--attention-order',
        choices=['new', 'legacy'],
        help='use_new_attention_order of the training: True is new',
    )
    parser.add_argument(
        '--schedule', choices=SCHEDULES, help='noise schedule of the training'
    )
    return parser.parse_args(argv)


def positive(text: str) -> int:
    """Read a positive integer; argparse names the flag where it is none."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def settle_flags(args: argparse.Namespace) -> None:
    """Fill the flags from the preset.

    Raises:
        ValueError: One is missing, or contradicts the preset.
    """
    preset = PRESETS.get(args.preset, {})
    for name in FLAGS:
        given, known = getattr(args, name), preset.get(name)
        flag = '--' + name.replace('_', '-')
        if given is None and known is None:
            raise ValueError(
                f'expected {flag}, which the weights do not tell, or '
                f'--preset {"|".join(PRESETS)}; got neither'
            )
        if None not in (given, known) and given != known:
            raise ValueError(
                f'expected {flag} {known} with --preset {args.preset}, got '
                f'{given}; leave one of the two out'
            )
        setattr(args, name, known if given is None else given)


def check_attention_order(
    denoiser, weights: StateDict, config: dict, args: argparse.Namespace
) -> None:
    """Let both orders remove noise from photographs, and compare them.

    Raises:
        ValueError: The other order does it clearly better.
    """
    order = args.attention_order
    other = 'legacy' if order == 'new' else 'new'
    errors = {}
    for tried in (other, order):  # so that the denoiser keeps the latter
        denoiser.load_state_dict(convert(weights, config, tried))
        errors[tried] = denoising_error(denoiser, args.schedule)
    figures = (
        'share of the noise that is left on two photographs: '
        f'{errors[order]:.4f} as {order}, {errors[other]:.4f} as {other}'
    )
    if not all(map(math.isfinite, errors.values())):
        raise ValueError(f'expected numbers, got {figures}')
    if min(errors.values()) > MAX_ERROR:
        print(f'{figures}: it denoises neither way, which tells nothing')
    elif errors[other] * MIN_RATIO < errors[order]:
        raise ValueError(
            f'expected --attention-order {other}, got {order}: ' + figures
        )
    else:
        print(figures)


@torch.no_grad()
def denoising_error(denoiser, schedule: str) -> float:
    """Return the mean squared error of the predicted noise, of variance one.

    Class-conditional denoisers get no class.
    """
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    images = torch.stack(
        [
            F.interpolate(
                torch.from_numpy(image[:, :427].copy()).movedim(2, 0)[None]
                / 127.5 - 1,
                size=(denoiser.config.sample_size,) * 2,
                mode='bilinear',
                antialias=True,
            )[0]
            for image in photographs
        ]
    )  # fmt: skip
    scheduler = build_scheduler(schedule)
    noise = torch.randn(images.shape, generator=torch.manual_seed(0))
    embedding, denoiser.class_embedding = denoiser.class_embedding, None
    errors = []
    for t in NOISE_LEVELS:
        timesteps = torch.full((len(images),), t)
        sample = scheduler.add_noise(images, noise, timesteps)
        predicted = denoiser(sample, timesteps).sample[:, :3]
        errors.append((predicted - noise).pow(2).mean().item())
    denoiser.class_embedding = embedding
    return sum(errors) / len(errors)


def build_scheduler(schedule: str):
    """Build the noise schedule of the training, of 1,000 timesteps."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(num_train_timesteps=1000, **SCHEDULES[schedule])


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    out = Path(args.out)
    if os.path.lexists(out):
        raise ValueError(f'expected a folder to make, got {out}: it is there')
    out.parent.mkdir(parents=True, exist_ok=True)
    settle_flags(args)
    weights, _ = read_checkpoint(args.src, 'give the path of the .pt file')
    config = read_architecture(weights, args.image_size, args.head_channels)
    shows = PRESETS.get(args.preset, {}).get('shows', {})
    wrong = {key: config[key] for key in shows if shows[key] != config[key]}
    if wrong:
        raise ValueError(
            f'expected {shows} of --preset {args.preset}, got {wrong}'
        )
    denoiser = build(weights, config, args.attention_order)
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


if __name__ == '__main__':
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f'error: {error}')
