"""From a guided-diffusion checkpoint to a teacher."""

import diffusers
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image

from repfusion_mm.analysis.guided_diffusion_settings import Comparison
from repfusion_mm.analysis.teacher_presets import TEACHER_PRESETS
from repfusion_mm.models import DiffusersTeacher
from repfusion_mm.models.teachers.guided_diffusion.weights import (
    read_architecture,
)
from repfusion_mm.models.teachers.inputs.noise_schedule import (
    add_noise,
    read_noise_levels,
)
from tests.helpers.adm_files import TOOL, convert
from tests.helpers.launcher import load_script
from tests.helpers.reference_adm import ReferenceADM, guided_alphas_cumprod
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
    with pytest.raises(ValueError, match='distinct module paths'):
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


@pytest.mark.parametrize('order', ['new', 'legacy'])
@pytest.mark.parametrize('heads', [dict(num_heads=4), dict(num_heads=1)])
def test_a_number_of_heads_is_converted_where_it_can_be(
    order, heads, tmp_path
):
    widths = (1, 2, 2) if heads['num_heads'] > 1 else (1, 2, 3)
    adm = ReferenceADM(order, channel_mult=widths, **heads).eval()
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
    ('schedule', 'steps'), [('linear', 2000), ('cosine', 4000)]
)
def test_rescaled_timesteps_match_the_reference(schedule, steps, tmp_path):
    """guided-diffusion gives 1000 t / T to the denoiser."""
    adm = ReferenceADM('new').eval()
    convert(
        tmp_path, adm.state_dict(), schedule=schedule, diffusion_steps=steps,
        rescale_timesteps='yes',
    )  # fmt: skip
    denoiser = diffusers.UNet2DModel.from_pretrained(tmp_path / 'out').eval()
    scheduler = diffusers.DDPMScheduler.from_pretrained(tmp_path / 'out')
    assert scheduler.config.num_train_timesteps == 1000
    ours = torch.tensor([0, 1, 500, 999])
    theirs = ours * (steps // 1000)
    sample = IMAGES[:1].repeat(4, 1, 1, 1) * 2 - 1
    noise = torch.randn_like(sample)
    alphas = torch.from_numpy(guided_alphas_cumprod(schedule, steps))[theirs]
    alphas = alphas.view(4, 1, 1, 1)
    noised = alphas.sqrt() * sample + (1 - alphas).sqrt() * noise
    with torch.no_grad():
        got = denoiser(
            add_noise(sample, noise, ours, read_noise_levels(scheduler)),
            ours,
        ).sample
        expected = adm(noised.float(), theirs * (1000 / steps))
    assert relative_error(got, expected) < 1e-4


@pytest.mark.parametrize(
    ('errors', 'options', 'status', 'message'),
    [
        ((0.2, 0.1), {}, 1, 'expected --schedule linear, got mean squared'),
        ((0.102, 0.1), {}, 1, 'add --accept-settings'),
        ((0.1, 0.104), {}, 1, 'add --accept-settings'),
        ((0.9, 1.0), {}, 1, 'add --accept-settings'),
        ((0.1, 0.106), {}, 0, ': confirmed'),
        ((0.2, 0.1), dict(accept_settings=True), 0, ': NOT confirmed'),
    ],
)
def test_settings_must_be_confirmed_or_accepted(
    errors, options, status, message, tmp_path, monkeypatch
):
    tool = load_script(TOOL)
    comparison = Comparison(errors[0], {'--schedule linear': errors[1]})
    monkeypatch.setattr(tool, 'compare_settings', lambda *a, **k: comparison)
    weights = ReferenceADM('new').state_dict()
    options = {'accept_settings': None, **options}
    result = convert(tmp_path, weights, expect=status, **options)
    assert message in result.output
    if not status:
        text = (tmp_path / 'out' / 'README.md').read_text()
        assert message in text
        assert '--schedule cosine --head-channels 16' in text


@pytest.mark.slow
def test_wrong_attention_order_is_refused(tmp_path):
    """The reference implementation loads it and computes other features."""
    weights = trained_denoiser('legacy').state_dict()
    result = convert(
        tmp_path, weights, expect=1, schedule='linear', accept_settings=None
    )
    assert '--attention-order legacy, got mean squared' in result.last_line
    assert not (tmp_path / 'out').exists()


def trained_denoiser(order, steps=120):
    """Fit a small denoiser to patches of a photograph."""
    adm = ReferenceADM(
        order,
        channel_mult=(1, 2),
        attention_levels=(False, True),
        num_res_blocks=1,
    )
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
            dict(base=192, channel_mult=(1, 2, 3, 4), num_res_blocks=3,
                 num_classes=1000, head_channels=64,
                 attention_levels=(False, True, True, True)),
        ),
        (
            'imagenet256-uncond',
            552_814_086,
            dict(base=256, channel_mult=(1, 1, 2, 2, 4, 4), num_res_blocks=2,
                 attention_levels=(False,) * 3 + (True,) * 3,
                 head_channels=64),
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
    architecture = dict(TEACHER_PRESETS[f'data/teachers/{preset}']['config'])
    assert architecture.pop('type') == 'UNet2DModel'
    assert architecture.items() <= config.items()
    assert sum(p.numel() for p in denoiser.parameters()) == parameters
    assert sum(p.numel() for p in adm.parameters()) == parameters
