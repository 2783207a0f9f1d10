"""Checkpoints and options that the converter refuses."""

import pytest
import torch

from tests.helpers.adm_files import TOOL, convert
from tests.helpers.launcher import run_main
from tests.helpers.reference_adm import ReferenceADM


def tampered(change):
    def weights():
        content = ReferenceADM('new').state_dict()
        change(content)
        return content

    return weights


def add_convolution(weights):
    weights['input_blocks.3.0.op.weight'] = torch.zeros(1)


def make_upsampler(weights):
    weights['input_blocks.0.0.weight'] = torch.zeros(32, 6, 3, 3)


def drop_shift(weights):
    key = 'input_blocks.1.0.emb_layers.1.weight'
    weights[key] = weights[key][:32]


def pop_all(prefix):
    def change(weights):
        for key in [k for k in weights if k.startswith(prefix)]:
            weights.pop(key)

    return change


def poison(weights):
    weights['out.2.bias'][0] = float('nan')


def flatten(weights):
    weights['time_embed.0.weight'] = torch.zeros(3)


def widen_time(weights):
    weights['time_embed.0.weight'] = torch.zeros(128, 64)


def wrap(weights):
    for key in list(weights):
        weights[f'module.{key}'] = weights.pop(key)


BAD = {
    'NaN': (tampered(poison), {}, "got NaN or Inf in ['out.2.bias']"),
    'no embedding': (
        tampered(pop_all('input_blocks.1.0.emb_layers')), {},
        'got no input_blocks.1.0.emb_layers.1.weight',
    ),
    'a missing block': (
        tampered(pop_all('input_blocks.8')), {},
        'of 3 levels of 1 blocks, got Error(s) in loading state_dict for '
        'UNet2DModel: Missing key(s)',
    ),
    'a missing upsampler': (
        tampered(pop_all('output_blocks.2.2')), {},
        'of 2 levels of 3 blocks, got Error(s) in loading state_dict for '
        'UNet2DModel: Missing key(s)',
    ),
    'a missing attention': (
        tampered(pop_all('input_blocks.5.1')), {},
        'Missing key(s) in state_dict: "down_blocks.1.attentions.1.group_',
    ),
    'other dimensions': (
        tampered(flatten), {}, 'time_embed.0.weight with 2 dimensions',
    ),
    'a prefix': (tampered(wrap), {}, 'remove a prefix of the names'),
    'a training checkpoint': (
        lambda: dict(model=ReferenceADM('new').state_dict(), step=3), {},
        "got a dict with ['model', 'step'], which are not tensors",
    ),
    'an odd size': (
        tampered(dict), dict(image_size=18),
        'expected --image-size to be a multiple of 4 for 3 levels, got 18',
    ),
    'another architecture': (
        lambda: {'conv1.weight': torch.zeros(2)}, {},
        'expected the weights of a guided-diffusion U-Net',
    ),
    'not weights': (
        lambda: [1, 2], {}, "/adm.pt', got list; give a file that holds",
    ),
    'incomplete': (
        tampered(lambda w: w.pop('input_blocks.4.0.out_layers.3.weight')),
        {}, "got no 'input_blocks.4.0.out_layers.3.weight'; the file is "
        'incomplete',
    ),
    'a missing tensor': (
        tampered(lambda w: w.pop('output_blocks.4.0.in_layers.2.bias')),
        {}, 'Missing key(s) in state_dict: "up_blocks.1.resnets.1.conv1.bias"',
    ),
    'resized by convolutions': (
        tampered(add_convolution), {}, 'resblock_updown=True',
    ),
    'an upsampler': (tampered(make_upsampler), {}, 'got 6 input channels'),
    'no scale and shift': (
        tampered(drop_shift), {}, 'use_scale_shift_norm=True',
    ),
    'a first level of half the channels': (
        tampered(widen_time), {},
        'of the first level, as in UNet2DModel, got 64 (channel_mult starts '
        'with 0.5)',
    ),
    'heads of another size': (
        tampered(dict), dict(head_channels=48), 'to divide [64], got 48',
    ),
    'heads of several sizes': (
        lambda: ReferenceADM(
            'new', channel_mult=(1, 2, 3), num_heads=4).state_dict(),
        dict(head_channels=None, num_heads=4),
        'got 4 heads over [64, 96] channels, so heads of [16, 24] channels',
    ),
    'a number of heads that does not divide': (
        tampered(dict), dict(head_channels=None, num_heads=5),
        'expected --num-heads to divide [64], got 5',
    ),
    'no heads': (
        tampered(dict), dict(head_channels=None),
        'expected exactly one of --head-channels',
    ),
    'both kinds of heads': (
        tampered(dict), dict(num_heads=4),
        'expected exactly one of --head-channels',
    ),
    'steps without rescale_timesteps': (
        tampered(dict), dict(diffusion_steps=4000),
        'expected --rescale-timesteps yes or no',
    ),
    'rescaled steps that are not a multiple of 1000': (
        tampered(dict),
        dict(diffusion_steps=1500, rescale_timesteps='yes'),
        'yes, got 1500, with which the timesteps of the training, 1000 t / ',
    ),
    'too few steps for linear betas': (
        tampered(dict),
        dict(diffusion_steps=10, rescale_timesteps='no', schedule='linear'),
        'at least 21 with --schedule linear, got 10',
    ),
    'steps that contradict the preset': (
        tampered(dict),
        dict(preset='imagenet64', image_size=64, head_channels=64,
             diffusion_steps=4000),
        'expected --diffusion-steps 1000 with --preset imagenet64, got 4000',
    ),
    'no attention order': (
        tampered(dict), dict(attention_order=None),
        'expected --attention-order, which the weights do not contain',
    ),
    'no image size': (
        tampered(dict), dict(image_size=None),
        'expected --image-size, which the weights do not contain',
    ),
    'options that contradict the preset': (
        tampered(dict), dict(preset='imagenet64'),
        'expected --image-size 64 with --preset imagenet64, got 16',
    ),
    'weights that contradict the preset': (
        lambda: ReferenceADM('new', base=64).state_dict(),
        dict(preset='imagenet256-uncond', image_size=None, schedule=None,
             head_channels=None, attention_order=None),
        "with --preset imagenet256-uncond, got {'block_out_channels'",
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', BAD)
def test_bad_checkpoints_are_refused_and_nothing_is_written(case, tmp_path):
    weights, options, message = BAD[case]
    result = convert(tmp_path, weights(), expect=1, **options)
    assert message in result.last_line
    assert [path.name for path in tmp_path.iterdir()] == ['adm.pt']


def test_a_truncated_file_is_refused(tmp_path):
    torch.save(ReferenceADM('new').state_dict(), tmp_path / 'adm.pt')
    content = (tmp_path / 'adm.pt').read_bytes()
    (tmp_path / 'adm.pt').write_bytes(content[: len(content) // 2])
    result = run_main(
        TOOL, tmp_path / 'adm.pt', tmp_path / 'out', '--preset', 'imagenet64',
        expect=1,
    )  # fmt: skip
    assert 'expected a checkpoint of weights' in result.last_line
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('option', ['--image-size', '--head-channels'])
def test_sizes_must_be_positive(option):
    result = run_main(TOOL, 'adm.pt', 'out', option, '0', expect=2)
    assert f'argument {option}: expected' in result.last_line


def test_the_output_is_checked_before_the_checkpoint_is_read(tmp_path):
    (tmp_path / 'file').touch()
    out = tmp_path / 'file' / 'out'
    result = run_main(TOOL, tmp_path / 'nowhere.pt', out, expect=1)
    assert str(tmp_path / 'file') in result.last_line
    assert 'nowhere.pt' not in result.last_line


@pytest.mark.parametrize('kind', ['folder', 'dangling link'])
def test_an_existing_output_is_not_overwritten(kind, tmp_path):
    if kind == 'folder':
        (tmp_path / 'out').mkdir()
    else:
        (tmp_path / 'out').symlink_to(tmp_path / 'nowhere')
    weights = ReferenceADM('new').state_dict()
    assert 'not to exist' in convert(tmp_path, weights, expect=1).last_line
