"""What the converter of guided-diffusion checkpoints refuses."""

import re
import sys

import pytest
import torch
from guided_diffusion_to_diffusers import main

from tests.helpers.adm_files import convert
from tests.helpers.launcher import launch
from tests.helpers.reference_adm import ReferenceADM

TOOL = 'tools/model_converters/guided_diffusion_to_diffusers.py'


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


def wrap(weights):
    for key in list(weights):
        weights[f'module.{key}'] = weights.pop(key)


BAD = {
    'not a number': (tampered(poison), {}, "got others in ['out.2.bias']"),
    'no embedding': (
        tampered(pop_all('input_blocks.1.0.emb_layers')), {},
        'none called input_blocks.1.0.emb_layers.1.weight',
    ),
    'a block short': (
        tampered(pop_all('input_blocks.8')), {}, 'expected',
    ),
    'an upsampler short': (
        tampered(pop_all('output_blocks.2.2')), {}, 'expected',
    ),
    'an attention short': (
        tampered(pop_all('input_blocks.5.1')), {},
        'down_blocks.1.attentions.1.group_norm.weight: missing',
    ),
    'of other dimensions': (
        tampered(flatten), {}, 'time_embed.0.weight, of 2 dimensions',
    ),
    'with a prefix': (tampered(wrap), {}, 'a prefix must be taken off'),
    'of a whole training': (
        lambda: dict(model=ReferenceADM('new').state_dict(), step=3), {},
        "got a dict with ['model', 'step'], which are no tensors",
    ),
    'an odd side': (
        tampered(dict), dict(image_size=18),
        'expected --image-size to be a multiple of 4, for 3 levels, got 18',
    ),
    'another code base': (
        lambda: {'conv1.weight': torch.zeros(2)}, {},
        'expected the weights of a guided-diffusion U-Net',
    ),
    'not weights': (lambda: [1, 2], {}, 'expected a state dict'),
    'incomplete': (
        tampered(lambda w: w.pop('input_blocks.4.0.out_layers.3.weight')),
        {}, 'the file is incomplete',
    ),
    'one tensor short': (
        tampered(lambda w: w.pop('output_blocks.4.0.in_layers.2.bias')),
        {}, 'up_blocks.1.resnets.1.conv1.bias: missing',
    ),
    'resized by convolutions': (
        tampered(add_convolution), {}, 'resblock_updown=True',
    ),
    'an upsampler': (tampered(make_upsampler), {}, 'got 6 channels'),
    'no scale and shift': (
        tampered(drop_shift), {}, 'use_scale_shift_norm=True',
    ),
    'heads that do not fit': (
        tampered(dict), dict(head_channels=48), 'to divide [64], got 48',
    ),
    'an order that is not told': (
        tampered(dict), dict(attention_order=None),
        'expected --attention-order, which the weights do not tell',
    ),
    'a size that is not told': (
        tampered(dict), dict(image_size=None), 'expected --image-size',
    ),
    'flags against the preset': (
        tampered(dict), dict(preset='imagenet64'),
        'expected --image-size 64 with --preset imagenet64, got 16',
    ),
    'weights against the preset': (
        lambda: ReferenceADM('new', base=64).state_dict(),
        dict(preset='imagenet256-uncond', image_size=None, schedule=None,
             head_channels=None, attention_order=None),
        "of --preset imagenet256-uncond, got {'block_out_channels'",
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', BAD)
def test_bad_checkpoints_leave_an_error_and_nothing_else(case, tmp_path):
    weights, flags, message = BAD[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        convert(tmp_path, weights(), **flags)
    assert [path.name for path in tmp_path.iterdir()] == ['adm.pt']


def test_truncated_file_is_one_line_on_the_command_line(tmp_path):
    convert(tmp_path, ReferenceADM('new').state_dict())
    whole = (tmp_path / 'adm.pt').read_bytes()
    (tmp_path / 'torn.pt').write_bytes(whole[: len(whole) // 2])
    output = launch(
        sys.executable, TOOL, tmp_path / 'torn.pt', tmp_path / 'torn',
        '--preset', 'imagenet64', expect=1,
    )  # fmt: skip
    assert 'error: expected a checkpoint of weights' in output
    assert 'Traceback' not in output
    assert not (tmp_path / 'torn').exists()


@pytest.mark.parametrize('flag', ['--image-size', '--head-channels'])
def test_sizes_are_positive(flag, capsys):
    with pytest.raises(SystemExit):
        main(['adm.pt', 'out', flag, '0'])
    assert (
        f'argument {flag}: invalid positive value' in capsys.readouterr().err
    )


def test_output_is_checked_before_anything_is_read(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='file'):
        main(['nowhere.pt', str(tmp_path / 'file' / 'out')])
    (tmp_path / 'out').symlink_to(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match='it is there'):
        convert(tmp_path, ReferenceADM('new').state_dict())


def test_a_folder_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / 'out').mkdir()
    with pytest.raises(ValueError, match='it is there'):
        convert(tmp_path, ReferenceADM('new').state_dict())
