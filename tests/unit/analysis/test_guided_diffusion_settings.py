"""Settings of a guided-diffusion checkpoint are compared."""

import numpy as np
import pytest
import torch

from repfusion_mm.analysis import guided_diffusion_settings
from repfusion_mm.analysis.guided_diffusion_settings import (
    Settings,
    build_scheduler,
    compare_settings,
    find_alternatives,
)
from repfusion_mm.models.teachers.guided_diffusion.weights import (
    build_denoiser,
    read_architecture,
)
from tests.helpers.reference_adm import ReferenceADM, guided_alphas_cumprod

GIVEN = Settings('new', 'cosine', head_channels=16)


def options(given, widths):
    kinds = ['DownBlock', *['AttnDownBlock'] * (len(widths) - 1)]
    config = dict(block_out_channels=widths, down_block_types=kinds)
    return {s.options(given) for s in find_alternatives(config, given)}


@pytest.mark.parametrize(
    ('given', 'widths', 'heads'),
    [
        (dict(head_channels=16), (24, 64, 64), {'channels 8', 'channels 32',
         'channels 64'}),
        (dict(head_channels=16), (24, 64, 96), {'channels 8', 'channels 32',
         'heads 1', 'heads 2', 'heads 4', 'heads 8'}),
        (dict(num_heads=4), (24, 64, 64), {'channels 8', 'channels 32',
         'channels 64'}),
        (dict(num_heads=1), (24, 64, 64), {'channels 8', 'channels 16',
         'channels 32'}),
    ],
)  # fmt: skip
def test_every_size_of_heads_is_compared(given, widths, heads):
    found = options(Settings('new', 'cosine', **given), widths)
    expected = {f'--head-{h}' if h[0] == 'c' else f'--num-{h}' for h in heads}
    assert {o for o in found if 'head' in o} == expected
    # With one head, both orders are the same function.
    is_one = given == dict(num_heads=1)
    assert ('--attention-order legacy' in found) != is_one


@pytest.mark.parametrize(
    ('steps', 'expected'),
    [
        ({}, {'--diffusion-steps 4000'}),
        (dict(diffusion_steps=4000), {'--diffusion-steps 1000',
         '--rescale-timesteps yes'}),
        (dict(diffusion_steps=4000, rescale_timesteps='yes'),
         {'--diffusion-steps 1000 --rescale-timesteps no',
          '--rescale-timesteps no'}),
        (dict(diffusion_steps=250), {'--diffusion-steps 1000',
         '--diffusion-steps 4000'}),
    ],
)  # fmt: skip
def test_other_steps_are_compared(steps, expected):
    given = Settings('new', 'linear', head_channels=8, **steps)
    found = options(given, (8, 8))
    assert {o for o in found if 'steps' in o} == expected
    assert '--schedule cosine' in found


@pytest.mark.parametrize('schedule', ['linear', 'cosine'])
@pytest.mark.parametrize(
    ('steps', 'rescale'),
    [(21, 'no'), (250, 'no'), (1000, 'yes'), (4000, 'no'), (4000, 'yes')],
)
def test_the_schedule_is_that_of_guided_diffusion(schedule, steps, rescale):
    given = Settings(
        'new', schedule, 8, diffusion_steps=steps, rescale_timesteps=rescale
    )
    expected = guided_alphas_cumprod(schedule, steps)
    if rescale == 'yes':  # the denoiser is given 1000 t / T
        expected = expected[:: steps // 1000]
    alphas = build_scheduler(given).alphas_cumprod.double().numpy()
    np.testing.assert_allclose(alphas, expected, rtol=2e-3, atol=1e-7)


def denoiser_of(head_channels):
    adm = ReferenceADM(
        'new',
        channel_mult=(1, 2),
        attention_levels=(False, True),
        num_res_blocks=1,
    )
    weights = adm.state_dict()
    config = read_architecture(weights, 16, head_channels)
    return build_denoiser(weights, config, 'new'), weights, config


def test_the_denoiser_keeps_the_given_settings():
    denoiser, weights, config = denoiser_of(16)
    expected = {k: v.clone() for k, v in denoiser.state_dict().items()}
    heads = [m.heads for m in denoiser.modules() if hasattr(m, 'heads')]
    comparison = compare_settings(denoiser, weights, config, GIVEN)
    assert len(set(comparison.others.values())) > 3
    assert not comparison.confirmed  # random weights do not denoise
    after = [m.heads for m in denoiser.modules() if hasattr(m, 'heads')]
    assert after == heads
    for name, value in denoiser.state_dict().items():
        assert torch.equal(value, expected[name])


def test_only_the_attention_order_of_published_models_is_compared():
    denoiser, weights, config = denoiser_of(16)
    comparison = compare_settings(
        denoiser, weights, config, GIVEN, published=True
    )
    assert list(comparison.others) == ['--attention-order legacy']


def test_errors_that_are_not_finite_are_refused(monkeypatch):
    monkeypatch.setattr(
        guided_diffusion_settings, 'denoising_error', lambda *_: float('nan')
    )
    with pytest.raises(ValueError, match='expected finite errors'):
        compare_settings(*denoiser_of(16), GIVEN)
