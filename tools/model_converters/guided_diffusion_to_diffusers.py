"""Convert a guided-diffusion checkpoint into a diffusers folder.

    guided_diffusion_to_diffusers.py 64x64_diffusion.pt OUT --preset imagenet64
    guided_diffusion_to_diffusers.py 256x256_diffusion_uncond.pt OUT \\
        --preset imagenet256-uncond

Use the folder as a teacher with model.teacher.pretrained=OUT. For checkpoints
without a preset, give --image-size, --attention-order, --schedule, and
--head-channels or --num-heads of their training, and, unless it had 1000
steps, --diffusion-steps and --rescale-timesteps: the weights do not contain
them. The settings are compared with
others on photographs. If these do not confirm them, --accept-settings is
required. The folder's README.md names settings and comparison.

UNet2DModel cannot represent two kinds of U-Nets, which are refused: those
with a fixed number of heads over several widths (--num-heads 4 with
num_head_channels -1, as in the published 128 x 128 model), and those whose
channel_mult does not start with 1 (as in the published 512 x 512 model).
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import List, Optional, Tuple

from repfusion_mm.analysis.guided_diffusion_settings import (
    ATTENTION_ORDERS,
    SCHEDULES,
    Comparison,
    Settings,
    build_scheduler,
    compare_settings,
)
from repfusion_mm.analysis.teacher_presets import TEACHER_PRESETS
from repfusion_mm.cli import report_errors, script_parser
from repfusion_mm.cli.argument_types import positive_int
from repfusion_mm.engine.checkpoint.io import read_checkpoint
from repfusion_mm.models.teachers.guided_diffusion.weights import (
    build_denoiser,
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
#: Options that are settings, and values of the training that need no option.
OPTIONS = dict(
    image_size=None, attention_order=None, schedule=None, head_channels=None,
    num_heads=None, diffusion_steps=1000, rescale_timesteps='no',
)  # fmt: skip


def read_settings(args: argparse.Namespace) -> Tuple[int, Settings]:
    """Return the image size and the settings of the options or the preset."""
    given = {k: getattr(args, k) for k in OPTIONS if getattr(args, k)}
    if args.preset:
        values = {**OPTIONS, **PRESETS[args.preset]}
        wrong = [name for name in given if given[name] != values[name]]
        if wrong:
            option = name_option(wrong[0])
            raise ValueError(
                f'expected {option} {values[wrong[0]]} with --preset '
                f'{args.preset}, got {given[wrong[0]]}; remove one of the two '
                'options'
            )
    else:
        check_options(given)
        values = {**OPTIONS, **given}
    return values.pop('image_size'), Settings(**values)


def check_options(given: dict) -> None:
    """Refuse options that leave out a setting of the training."""
    for name in ('image_size', 'attention_order', 'schedule'):
        if name not in given:
            raise ValueError(
                f'expected {name_option(name)}, which the weights do not '
                f'contain, or --preset {"|".join(PRESETS)}, got neither'
            )
    if ('head_channels' in given) == ('num_heads' in given):
        raise ValueError(
            'expected exactly one of --head-channels (num_head_channels of '
            'the training) and --num-heads (if that was -1), which the '
            f'weights do not contain, got {given.get("head_channels")} and '
            f'{given.get("num_heads")}'
        )
    steps = given.get('diffusion_steps', 1000)
    if steps != 1000 and 'rescale_timesteps' not in given:
        raise ValueError(
            'expected --rescale-timesteps yes or no, as in the training, '
            f'with --diffusion-steps {steps}, got neither: the weights do '
            'not contain it'
        )


def name_option(name: str) -> str:
    return '--' + name.replace('_', '-')


def check_architecture(config: dict, preset: Optional[str]) -> None:
    """Refuse weights of another architecture than the preset's."""
    teacher = TEACHER_PRESETS.get(f'data/teachers/{preset}', {})
    known = teacher.get('config', {})
    wrong = {k: v for k, v in config.items() if known.get(k, v) != v}
    if wrong:
        raise ValueError(
            f'expected { ({k: known[k] for k in wrong}) } with --preset '
            f'{preset}, got {wrong}'
        )


def check_comparison(comparison: Comparison, published: bool) -> None:
    """Refuse settings that photographs do not confirm.

    Published settings are refused only if others are better.
    """
    if comparison.confirmed or (published and not comparison.refuted):
        return
    expected = 'settings that denoise clearly better than all others'
    if comparison.refuted:
        expected = comparison.best
    raise ValueError(
        f'expected {expected}, got {comparison}; compare the options with '
        'those of the training, and add --accept-settings if they are the same'
    )


def write_folder(
    out: Path, denoiser, scheduler, settings: Settings, notes: List[str]
) -> None:
    """Write the denoiser and its schedule into a folder, atomically."""
    unfinished = out.with_name(out.name + '.tmp')
    shutil.rmtree(unfinished, ignore_errors=True)
    denoiser.save_pretrained(unfinished)
    scheduler.save_pretrained(unfinished)
    text = '\n\n'.join(
        [
            '# Converted guided-diffusion checkpoint',
            f'Settings of the training, as given: `{settings.options()}`',
            *notes,
        ]
    )
    (unfinished / 'README.md').write_text(text + '\n', encoding='utf-8')
    os.replace(unfinished, out)


def convert(args: argparse.Namespace) -> None:
    """Convert the checkpoint, unless its settings are wrong."""
    out = Path(args.out)
    if os.path.lexists(out):
        raise ValueError(
            f'expected {out} not to exist, got a file or folder; choose '
            'another name'
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    image_size, settings = read_settings(args)
    weights, _ = read_checkpoint(args.src, 'give the path of the .pt file')
    scheduler = build_scheduler(settings)
    config = read_architecture(
        weights, image_size, settings.head_channels, settings.num_heads
    )
    check_architecture(config, args.preset)
    denoiser = build_denoiser(weights, config, settings.attention_order)
    comparison = compare_settings(
        denoiser, weights, config, settings, published=bool(args.preset)
    )
    if not args.accept_settings:
        check_comparison(comparison, bool(args.preset))
    verdict = 'confirmed' if comparison.confirmed else 'NOT confirmed'
    notes = [f'{comparison}: {verdict}']
    write_folder(out, denoiser, scheduler, settings, notes)
    millions = sum(p.numel() for p in denoiser.parameters()) / 1e6
    print(*notes)
    print(
        f'wrote {out}: {millions:.0f} M parameters, '
        f'{len(config["block_out_channels"])} levels of '
        f'{config["layers_per_block"]} blocks, '
        f'{config["num_class_embeds"] or "no"} classes, attention order '
        f'{settings.attention_order}, '
        f'{scheduler.config.num_train_timesteps} timesteps'
    )


def main(argv: Optional[List[str]] = None) -> int:
    parser = script_parser(__doc__)
    add = parser.add_argument
    # fmt: off
    add('src', help='the .pt file')
    add('out', help='the folder to write; must not exist')
    add('--preset', choices=PRESETS)
    add('--image-size', type=positive_int, help='height and width in pixels')
    add(
        '--head-channels',
        type=positive_int,
        help='channels of an attention head (num_head_channels)',
    )
    add(
        '--num-heads',
        type=positive_int,
        help='number of attention heads, if num_head_channels was -1',
    )
    add(
        '--diffusion-steps',
        type=positive_int,
        help='timesteps of the training (default: 1000)',
    )
    add(
        '--rescale-timesteps',
        choices=['yes', 'no'],
        help='rescale_timesteps of the training; no effect with 1000 steps',
    )
    add(
        '--attention-order',
        choices=ATTENTION_ORDERS,
        help='new if use_new_attention_order was True in the training',
    )
    add('--schedule', choices=SCHEDULES, help='noise schedule of the training')
    add('--accept-settings', action='store_true',
        help='convert with settings that photographs do not confirm')
    # fmt: on
    args = parser.parse_args(argv)
    with report_errors():
        convert(args)
    return 0


if __name__ == '__main__':
    sys.exit(main())
