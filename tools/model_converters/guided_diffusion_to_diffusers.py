"""Convert a guided-diffusion checkpoint into a diffusers folder.

    guided_diffusion_to_diffusers.py 64x64_diffusion.pt OUT --preset imagenet64
    guided_diffusion_to_diffusers.py 256x256_diffusion_uncond.pt OUT \\
        --preset imagenet256-uncond

Use the folder as a teacher with model.teacher.pretrained=OUT. For checkpoints
without a preset, give --image-size, --attention-order, --schedule, and
--head-channels or --num-heads of their training, and --diffusion-steps unless
it was 1000: the weights do not contain them. A fixed number of heads over
several widths (--num-heads 4 with num_head_channels -1, as in the published
128 x 128 model) cannot be represented by UNet2DModel and is refused.
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
from repfusion_mm.models.teachers.noise_schedule import read_alphas_cumprod

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
OPTIONS = ('image_size', 'attention_order', 'schedule')
SCHEDULES = ('linear', 'cosine')
#: Values of alphas_cumprod at which settings are compared.
NOISE_LEVELS = (0.9, 0.7, 0.4, 0.1)
#: The comparison is inconclusive if all settings leave more noise than this.
MAX_ERROR = 0.5
#: Another setting is right if the error of the given one is larger by this.
MIN_RATIO = 1.05
#: guided-diffusion's default of num_heads.
COMMON_HEADS = 4
#: Usual values of num_head_channels.
COMMON_SIZES = (16, 32, 64, 128)
#: Steps of the published guided-diffusion and improved-diffusion models.
COMMON_STEPS = (1000, 4000)


def merge_preset(args: argparse.Namespace) -> None:
    """Fill the options from the preset."""
    preset = PRESETS.get(args.preset, {})
    if preset and (args.num_heads, args.diffusion_steps) != (None, 1000):
        raise ValueError(
            f'expected neither --num-heads nor --diffusion-steps with '
            f'--preset {args.preset}, got one of them; remove it'
        )
    heads = (args.head_channels, args.num_heads)
    if not preset and (heads[0] is None) == (heads[1] is None):
        raise ValueError(
            'expected exactly one of --head-channels (num_head_channels of '
            'the training) and --num-heads (if that was -1), which the '
            f'weights do not contain, got {heads[0]} and {heads[1]}'
        )
    if args.diffusion_steps != 1000 and args.rescale_timesteps is None:
        raise ValueError(
            'expected --rescale-timesteps yes or no, as in the training, '
            f'with --diffusion-steps {args.diffusion_steps}, got neither: '
            'the weights do not contain it'
        )
    for name in (*OPTIONS, *(['head_channels'] if preset else [])):
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


def check_settings(
    denoiser, weights: StateDict, config: dict, args: argparse.Namespace
) -> None:
    """Compare how well other settings denoise photographs.

    Wrong settings load without an error, but predict worse. A preset is only
    compared with the other attention order.
    """
    given = dict(
        attention_order=args.attention_order,
        schedule=args.schedule,
        diffusion_steps=args.diffusion_steps,
        rescale_timesteps=args.rescale_timesteps,
        num_heads=None,
        head_channels=config['attention_head_dim'],
    )
    others = find_alternatives(config, args)
    errors = {}
    # The denoiser keeps the settings that are tried last.
    for text, change in [*others.items(), ('the given settings', {})]:
        tried = {**given, **change}
        order, num_heads = tried['attention_order'], tried['num_heads']
        size = tried['head_channels']
        architecture = {**config, 'attention_head_dim': size}
        denoiser.load_state_dict(
            convert_weights(weights, architecture, order, num_heads)
        )
        for module in denoiser.modules():
            if hasattr(module, 'to_q'):
                width = module.to_q.out_features
                module.heads = num_heads or width // (size or width)
        scheduler = build_scheduler(
            tried['schedule'],
            tried['diffusion_steps'],
            tried['rescale_timesteps'],
        )
        errors[text] = denoising_error(denoiser, scheduler.alphas_cumprod)
    figures = (
        'mean squared error of the predicted noise on two photographs: '
        + ', '.join(f'{v:.4f} with {k}' for k, v in errors.items())
    )
    error = errors.pop('the given settings')
    best = min(errors, key=errors.__getitem__)
    if not all(map(math.isfinite, (error, *errors.values()))):
        raise ValueError(f'expected finite errors, got {figures}')
    if min(error, errors[best]) > MAX_ERROR:
        print(f'{figures}: none denoises, so the settings were not checked')
    elif errors[best] * MIN_RATIO < error:
        raise ValueError(f'expected {best}, got {figures}')
    else:
        print(figures)


def find_alternatives(config: dict, args: argparse.Namespace) -> dict:
    """Return settings that may be right if the given ones are wrong."""
    order = 'legacy' if args.attention_order == 'new' else 'new'
    found: dict = {f'--attention-order {order}': dict(attention_order=order)}
    if args.preset:
        return found
    schedule = 'cosine' if args.schedule == 'linear' else 'linear'
    found[f'--schedule {schedule}'] = dict(schedule=schedule)
    for steps in COMMON_STEPS:
        if steps != args.diffusion_steps:
            found[f'--diffusion-steps {steps}'] = dict(
                diffusion_steps=steps, rescale_timesteps='no'
            )
    if args.diffusion_steps in COMMON_STEPS[1:]:
        other = 'no' if args.rescale_timesteps == 'yes' else 'yes'
        found[f'--rescale-timesteps {other}'] = dict(rescale_timesteps=other)
    widths = config['block_out_channels']
    heads, size = COMMON_HEADS, config['attention_head_dim']
    for other in COMMON_SIZES:
        if other != size and not any(width % other for width in widths):
            found[f'--head-channels {other}'] = dict(head_channels=other)
    if size is not None:
        found['--num-heads 1'] = dict(head_channels=None)
    differs = size is not None and {w // size for w in widths} != {heads}
    if differs and not any(width % heads for width in widths):
        found[f'--num-heads {heads}'] = dict(num_heads=heads)
    return found


@torch.no_grad()
def denoising_error(denoiser, alphas_cumprod: torch.Tensor) -> float:
    """Return the mean squared error of the predicted noise, of variance 1.

    The noise levels are the same for every schedule. Class-conditional
    denoisers run without a class.
    """
    from sklearn.datasets import load_sample_images

    photographs = np.stack(load_sample_images().images)[:, :, :427]
    images = F.interpolate(
        torch.from_numpy(photographs).movedim(3, 1) / 127.5 - 1,
        size=(denoiser.config.sample_size,) * 2,
        mode='bilinear',
        antialias=True,
    )
    noise = torch.randn(images.shape, generator=torch.manual_seed(0))
    embedding, denoiser.class_embedding = denoiser.class_embedding, None
    errors = []
    for level in NOISE_LEVELS:
        sample = level**0.5 * images + (1 - level) ** 0.5 * noise
        t = int((alphas_cumprod - level).abs().argmin())
        timesteps = torch.full((len(images),), t)
        predicted = denoiser(sample, timesteps).sample[:, :3]
        errors.append((predicted - noise).pow(2).mean().item())
    denoiser.class_embedding = embedding
    return sum(errors) / len(errors)


def build_scheduler(schedule: str, steps: int, rescaled: Optional[str]):
    """Build the noise schedule of the training.

    guided-diffusion scales linear betas with the number of steps. With
    rescaled timesteps, the denoiser is given 1000 t / T, so that the schedule
    has 1,000 timesteps, which are every (T / 1000)-th one of the training.
    """
    from diffusers import DDPMScheduler  # slow to import

    scale = 1000 / steps
    arguments: dict = dict(
        beta_schedule='linear', beta_start=0.0001 * scale,
        beta_end=0.02 * scale,
    )  # fmt: skip
    if schedule == 'cosine':
        arguments = dict(beta_schedule='squaredcos_cap_v2')
    scheduler = DDPMScheduler(num_train_timesteps=steps, **arguments)
    alphas = read_alphas_cumprod(scheduler)
    if rescaled != 'yes' or steps == 1000:
        return scheduler
    if steps % 1000:
        raise ValueError(
            'expected --diffusion-steps to be a multiple of 1000 with '
            f'--rescale-timesteps yes, got {steps}; other denoisers are given '
            'timesteps that are not integers, which UNet2DModel is not'
        )
    kept = alphas[:: steps // 1000].double()
    betas = 1 - kept / torch.cat([kept.new_ones(1), kept[:-1]])
    return DDPMScheduler(
        num_train_timesteps=1000, trained_betas=betas.tolist()
    )


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
    scheduler = build_scheduler(
        args.schedule, args.diffusion_steps, args.rescale_timesteps
    )
    config = read_architecture(
        weights, args.image_size, args.head_channels, args.num_heads
    )
    known = TEACHER_PRESETS.get(f'data/teachers/{args.preset}', {})
    wrong = {k: v for k, v in config.items() if known.get(k, v) != v}
    if wrong:
        raise ValueError(
            f'expected { ({k: known[k] for k in wrong}) } with --preset '
            f'{args.preset}, got {wrong}'
        )
    denoiser = build_denoiser(weights, config, args.attention_order)
    check_settings(denoiser, weights, config, args)
    unfinished = out.with_name(out.name + '.tmp')
    shutil.rmtree(unfinished, ignore_errors=True)
    denoiser.save_pretrained(unfinished)
    scheduler.save_pretrained(unfinished)
    os.replace(unfinished, out)
    millions = sum(p.numel() for p in denoiser.parameters()) / 1e6
    print(
        f'wrote {out}: {millions:.0f} M parameters, '
        f'{len(config["block_out_channels"])} levels of '
        f'{config["layers_per_block"]} blocks, '
        f'{config["num_class_embeds"] or "no"} classes, attention order '
        f'{args.attention_order}, '
        f'{scheduler.config.num_train_timesteps} timesteps'
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
        '--head-channels',
        type=positive,
        help='channels of an attention head (num_head_channels)',
    )
    parser.add_argument(
        '--num-heads',
        type=positive,
        help='number of attention heads, if num_head_channels was -1',
    )
    parser.add_argument(
        '--diffusion-steps',
        type=positive,
        default=1000,
        help='timesteps of the training (default: 1000)',
    )
    parser.add_argument(
        '--rescale-timesteps',
        choices=['yes', 'no'],
        help='rescale_timesteps of the training; no effect with 1000 steps',
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
