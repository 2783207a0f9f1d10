"""From a guided-diffusion checkpoint to a teacher."""

from itertools import chain, repeat

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image

from repfusion_mm.analysis.teacher_presets import TEACHER_PRESETS
from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.guided_diffusion_weights import (
    read_architecture,
)
from tests.helpers.adm_files import TOOL, convert
from tests.helpers.launcher import load_script
from tests.helpers.reference_adm import ReferenceADM
from tests.helpers.toy import labeled_samples

IMAGES = torch.linspace(0, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)
TIMESTEPS = torch.tensor([3, 777])
LABELS = torch.tensor([1, 5])


def record_output(model, name, *inputs):
    seen = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda _module, _inputs, output: seen.append(output)
    )
    with torch.no_grad():
        model(*inputs)
    handle.remove()
    return seen[0]


def relative_error(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize('order', ['new', 'legacy'])
def test_converted_teacher_matches_the_reference(order, tmp_path):
    adm = ReferenceADM(order, num_classes=7).eval()
    weights = adm.state_dict()
    output = convert(tmp_path, weights, attention_order=order).output
    assert '7 classes' in output
    assert f'attention order {order}' in output
    denoiser = diffusers.UNet2DModel.from_pretrained(tmp_path / 'out').eval()
    sample = IMAGES * 2 - 1
    with torch.no_grad():
        ours = denoiser(sample, TIMESTEPS, LABELS).sample
        theirs = adm(sample, TIMESTEPS, LABELS)
    assert relative_error(ours, theirs) < 1e-5

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
        feats = teacher(IMAGES, TIMESTEPS, labeled_samples(LABELS.tolist()))
        for name, ours in zip(published, feats.values()):
            theirs = record_output(adm, name, sample, TIMESTEPS, labels)
            assert relative_error(ours, theirs) < 1e-5, (signal, name)


def test_published_and_diffusers_names_select_the_same_layer(tmp_path):
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
    with pytest.raises(ValueError, match='distinct paths'):
        DiffusersTeacher(
            ['middle_block.2', 'mid_block.resnets.1'], str(tmp_path / 'out')
        )


@pytest.mark.parametrize(
    ('schedule', 'beta'), [('linear', 0.02), ('cosine', 0.999)]
)
def test_the_folder_holds_the_noise_schedule(schedule, beta, tmp_path):
    convert(tmp_path, ReferenceADM('new').state_dict(), schedule=schedule)
    scheduler = diffusers.DDPMScheduler.from_pretrained(tmp_path / 'out')
    assert scheduler.betas[-1].item() == pytest.approx(beta)
    assert len(scheduler.betas) == 1000


def guided_alphas(schedule, steps):
    """guided-diffusion's get_named_beta_schedule, in float64."""
    if schedule == 'linear':
        scale = 1000 / steps
        betas = np.linspace(scale * 0.0001, scale * 0.02, steps)
    else:
        t = np.arange(steps + 1) / steps
        bars = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - bars[1:] / bars[:-1], 0.999)
    return np.cumprod(1 - betas)


@pytest.mark.parametrize('schedule', ['linear', 'cosine'])
@pytest.mark.parametrize(
    ('steps', 'rescale'), [(250, 'no'), (4000, 'no'), (4000, 'yes')]
)
def test_other_numbers_of_steps_are_written(
    schedule, steps, rescale, tmp_path
):
    convert(
        tmp_path, ReferenceADM('new').state_dict(), schedule=schedule,
        diffusion_steps=steps, rescale_timesteps=rescale,
    )  # fmt: skip
    teacher = DiffusersTeacher(['mid_block'], str(tmp_path / 'out'))
    expected = guided_alphas(schedule, steps)
    if rescale == 'yes':  # the denoiser is given t / 4
        expected = expected[::4]
    assert teacher.num_timesteps == len(expected)
    alphas = teacher.scheduler.alphas_cumprod.double().numpy()
    np.testing.assert_allclose(alphas, expected, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize('order', ['new', 'legacy'])
@pytest.mark.parametrize('heads', [dict(num_heads=4), dict(num_heads=1)])
def test_a_number_of_heads_is_converted_where_it_can_be(
    order, heads, tmp_path
):
    widths = (1, 2, 2) if heads['num_heads'] > 1 else (1, 2, 3)
    adm = ReferenceADM(order, multiples=widths, **heads).eval()
    convert(
        tmp_path, adm.state_dict(), attention_order=order,
        head_channels=None, **heads,
    )  # fmt: skip
    denoiser = diffusers.UNet2DModel.from_pretrained(tmp_path / 'out').eval()
    sample = IMAGES * 2 - 1
    with torch.no_grad():
        ours = denoiser(sample, TIMESTEPS).sample
        theirs = adm(sample, TIMESTEPS)
    assert relative_error(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    ('errors', 'status', 'message'),
    [
        ((0.1, 0.2, 0.2), 1, '--attention-order legacy, got mean squared'),
        ((0.2, 0.1, 0.2), 1, '--schedule linear, got mean squared'),
        ((0.2, 0.2, 0.1, 0.2), 1, '--diffusion-steps 4000, got mean'),
        ((0.2, 0.2, 0.2, 0.1), 0, '0.1000 with the given settings'),
        ((0.9, 1.0, 1.0, 1.0), 0, 'the settings were not checked'),
        ((0.1, 0.1, float('nan')), 1, 'expected finite errors'),
    ],
)
def test_other_settings_are_compared(
    errors, status, message, tmp_path, monkeypatch
):
    tool = load_script(TOOL)
    values = chain(errors, repeat(errors[-1]))
    monkeypatch.setattr(tool, 'denoising_error', lambda *args: next(values))
    weights = ReferenceADM('new').state_dict()
    assert message in convert(tmp_path, weights, expect=status).output


@pytest.mark.slow
def test_wrong_attention_order_is_refused(tmp_path):
    """The reference implementation loads it and computes other features."""
    weights = trained_denoiser('legacy').state_dict()
    result = convert(tmp_path, weights, expect=1, schedule='linear')
    assert '--attention-order legacy, got mean squared' in result.last_line
    assert not (tmp_path / 'out').exists()
    options = dict(schedule='linear', attention_order='legacy')
    assert 'mean squared error' in convert(tmp_path, weights, **options).output


def trained_denoiser(order, steps=120):
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
    optimizer = torch.optim.AdamW(adm.parameters(), lr=2e-3)
    for _ in range(steps):
        images = patches[torch.randint(len(patches), (16,))]
        t, noise = torch.randint(1000, (16,)), torch.randn_like(images)
        predicted = adm(scheduler.add_noise(images, noise, t), t)[:, :3]
        optimizer.zero_grad()
        F.mse_loss(predicted, noise).backward()
        optimizer.step()
    return adm.eval()


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
def test_presets_have_the_published_sizes(preset, parameters, arguments):
    """On the meta device a model has shapes, but takes no memory."""
    known = load_script(TOOL).PRESETS[preset]
    with torch.device('meta'):
        adm = ReferenceADM(known['attention_order'], **arguments)
        config = read_architecture(
            adm.state_dict(), known['image_size'], known['head_channels']
        )
        denoiser = diffusers.UNet2DModel(**config)
    architecture = dict(TEACHER_PRESETS[f'data/teachers/{preset}'])
    assert architecture.pop('type') == 'UNet2DModel'
    assert architecture.items() <= config.items()
    assert sum(p.numel() for p in denoiser.parameters()) == parameters
    assert sum(p.numel() for p in adm.parameters()) == parameters


def test_usual_sizes_of_heads_are_compared(tmp_path):
    figures = convert(tmp_path, ReferenceADM('new').state_dict()).output
    for option in ('--head-channels 32', '--num-heads 1'):
        assert f'with {option}' in figures
    assert '--head-channels 16' not in figures  # given
