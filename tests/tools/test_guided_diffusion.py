"""From a guided-diffusion checkpoint to a teacher."""

import re
import sys

import diffusers
import pytest
import torch
import torch.nn.functional as F
from adm_weights import read_architecture
from guided_diffusion_to_diffusers import PRESETS, main
from sklearn.datasets import load_sample_image

from repfusion_mm.models import DiffusersTeacher
from tests.reference_adm import ReferenceADM
from tests.tools.launcher import launch

TOOL = 'tools/model_converters/guided_diffusion_to_diffusers.py'
FLAGS = dict(
    image_size=16, head_channels=16, schedule='cosine', attention_order='new'
)
IMAGES = torch.linspace(0, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
TIMESTEPS = torch.tensor([3, 777])
LABELS = torch.tensor([1, 5])


def convert(folder, weights, **flags):
    """Call the tool without a process of its own."""
    torch.save(weights, folder / 'adm.pt')
    options = []
    for name, value in {**FLAGS, **flags}.items():
        if value is not None:
            options += ['--' + name.replace('_', '-'), str(value)]
    main([str(folder / 'adm.pt'), str(folder / 'out'), *options])


def recorded(model, name, *inputs):
    seen = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda _module, _inputs, output: seen.append(output)
    )
    with torch.no_grad():
        model(*inputs)
    handle.remove()
    return seen[0]


def relative(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize('order', ['new', 'legacy'])
def test_converted_teacher_agrees_with_the_reference(order, tmp_path, capsys):
    adm = ReferenceADM(order, num_classes=7).eval()
    convert(tmp_path, adm.state_dict(), attention_order=order)
    output = capsys.readouterr().out
    assert '7 classes' in output
    assert f'attention order {order}' in output
    denoiser = diffusers.UNet2DModel.from_pretrained(tmp_path / 'out').eval()
    sample = IMAGES * 2 - 1
    with torch.no_grad():
        ours = denoiser(sample, TIMESTEPS, LABELS).sample
        theirs = adm(sample, TIMESTEPS, LABELS)
    assert relative(ours, theirs) < 1e-5

    published = [
        'input_blocks.2',
        'input_blocks.4.1',
        'middle_block.2.out_layers.3',
        'output_blocks.1.0',
        'output_blocks.5.2',
    ]
    for signal in ('none', 'label'):
        teacher = DiffusersTeacher(
            published,
            str(tmp_path / 'out'),
            class_signal=signal,
            dtype='float32',
        )
        labels = LABELS if signal == 'label' else None
        feats = teacher(IMAGES, TIMESTEPS, labels)
        for name, ours in zip(published, feats.values()):
            theirs = recorded(adm, name, sample, TIMESTEPS, labels)
            assert relative(ours, theirs) < 1e-5, (signal, name)


def test_published_and_diffusers_names_are_the_same_layer(tmp_path):
    convert(tmp_path, ReferenceADM('new').state_dict())
    published, ours = (
        DiffusersTeacher([name], str(tmp_path / 'out'))
        for name in (
            'middle_block.2.out_layers.3',
            'mid_block.resnets.1.conv2',
        )
    )
    assert published.layers == ours.layers
    assert DiffusersTeacher(['input_blocks.0'], str(tmp_path / 'out')).layers
    with pytest.raises(ValueError, match=r"mean 'middle_block\.2\.out_l"):
        DiffusersTeacher(['middle_block.2.out_layer.3'], str(tmp_path / 'out'))
    with pytest.raises(ValueError, match='each once'):
        DiffusersTeacher(
            ['middle_block.2', 'mid_block.resnets.1'], str(tmp_path / 'out')
        )


@pytest.mark.parametrize(
    ('schedule', 'beta'), [('linear', 0.02), ('cosine', 0.999)]
)
def test_the_schedule_lies_with_the_denoiser(schedule, beta, tmp_path):
    convert(tmp_path, ReferenceADM('new').state_dict(), schedule=schedule)
    scheduler = diffusers.DDPMScheduler.from_pretrained(tmp_path / 'out')
    assert scheduler.betas[-1].item() == pytest.approx(beta)
    assert len(scheduler.betas) == 1000


def test_wrong_attention_order_is_told_from_a_trained_denoiser(
    tmp_path, capsys
):
    """Fault 3 of the public code: loads without a word, computes another."""
    weights = trained_denoiser('legacy').state_dict()
    flags = dict(schedule='linear')
    with pytest.raises(ValueError, match='order legacy, got new: share of'):
        convert(tmp_path, weights, **flags)
    assert not (tmp_path / 'out').exists()
    convert(tmp_path, weights, **flags, attention_order='legacy')
    assert 'share of the noise that is left' in capsys.readouterr().out


def trained_denoiser(order, steps=250):
    """Fit a small denoiser to patches of a photograph."""
    adm = ReferenceADM(order, multiples=(1, 2), attends=(False, True), depth=1)
    photograph = torch.from_numpy(load_sample_image('china.jpg').copy())
    photograph = photograph.movedim(2, 0)[None] / 127.5 - 1
    patches = torch.cat(
        [
            F.interpolate(
                photograph[..., y : y + side, x : x + side],
                size=(16, 16),
                mode='bilinear',
                antialias=True,
            )
            for side in (64, 160, 320)
            for y in range(0, 427 - side, 20)
            for x in range(0, 640 - side, 20)
        ]
    )
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(adm.parameters(), lr=1e-3)
    for _ in range(steps):
        images = patches[torch.randint(len(patches), (32,))]
        t, noise = torch.randint(1000, (32,)), torch.randn_like(images)
        predicted = adm(scheduler.add_noise(images, noise, t), t)[:, :3]
        optimizer.zero_grad()
        F.mse_loss(predicted, noise).backward()
        optimizer.step()
    return adm.eval()


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


@pytest.mark.parametrize(
    ('preset', 'parameters', 'arguments'),
    [
        (
            'imagenet64',
            295_904_454,
            dict(base=192, multiples=(1, 2, 3, 4), depth=3, num_classes=1000,
                 attends=(False, True, True, True), head_channels=64),
        ),
        (
            'imagenet256-uncond',
            552_814_086,
            dict(base=256, multiples=(1, 1, 2, 2, 4, 4), depth=2,
                 attends=(False,) * 3 + (True,) * 3, head_channels=64),
        ),
    ],
)  # fmt: skip
def test_presets_are_of_the_published_sizes(preset, parameters, arguments):
    """Only shapes: on the meta device, a model takes no memory."""
    known = PRESETS[preset]
    with torch.device('meta'):
        adm = ReferenceADM(known['attention_order'], **arguments)
        config = read_architecture(
            adm.state_dict(), known['image_size'], known['head_channels']
        )
        denoiser = diffusers.UNet2DModel(**config)
    assert known['shows'].items() <= config.items()
    assert sum(p.numel() for p in denoiser.parameters()) == parameters
    assert sum(p.numel() for p in adm.parameters()) == parameters
