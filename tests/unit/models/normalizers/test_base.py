import copy

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import ExponentialMovingAverage

from repfusion_mm.models.normalizers import (
    LayerNormNormalizer,
    PHISNormalizer,
    StandardizeNormalizer,
)
from tests.helpers.equal import assert_equal
from tests.helpers.normalizer_maps import batches, positions
from tests.helpers.ranks import run_on_ranks

BATCHES = batches()
#: 24 images in batches of 6.
KINDS = {
    'layer_norm': lambda: LayerNormNormalizer(12, 20, discard_massive=20),
    'standardize': lambda: StandardizeNormalizer(12, num_images=20),
    'phi_s': lambda: PHISNormalizer(12, num_images=20, discard_massive=20),
}


def collect(normalizer, maps=BATCHES):
    return [normalizer(feat) for feat in maps]


@pytest.mark.parametrize('kind', KINDS)
def test_statistics_are_fixed_after_their_images(kind):
    normalizer = KINDS[kind]()
    collect(normalizer)
    state = copy.deepcopy(normalizer.state_dict())
    expected = normalizer(BATCHES[0])
    normalizer(100 * BATCHES[1])
    assert_equal(normalizer.state_dict(), state)
    assert torch.equal(normalizer(BATCHES[0]), expected)
    description = normalizer.describe()
    # 20 images, in complete batches.
    assert (description['num_images'], description['complete']) == (24, True)


@pytest.mark.parametrize('steps', [0, 2, 4])
@pytest.mark.parametrize('kind', KINDS)
def test_a_loaded_normalizer_continues_bit_for_bit(kind, steps):
    uninterrupted, loaded = KINDS[kind](), KINDS[kind]()
    collect(uninterrupted, BATCHES[:steps])
    loaded.load_state_dict(copy.deepcopy(uninterrupted.state_dict()))
    for feat in BATCHES[steps:] + BATCHES[:1]:
        assert torch.equal(loaded(feat), uninterrupted(feat))
    assert_equal(loaded.state_dict(), uninterrupted.state_dict())


def test_statistics_are_not_collected_in_eval_mode():
    normalizer = KINDS['standardize']().eval()
    collect(normalizer)
    assert normalizer.describe()['num_images'] == 0


@pytest.mark.parametrize('update_buffers', [False, True])
def test_an_average_of_the_model_does_not_average_statistics(update_buffers):
    model = torch.nn.Sequential(KINDS['phi_s']())
    average = ExponentialMovingAverage(
        model, momentum=0.5, update_buffers=update_buffers
    )
    for feat in BATCHES:
        model(feat)
        average.update_parameters(model)
    assert_equal(average.module.state_dict(), model.state_dict())


@pytest.mark.parametrize('kind', KINDS)
def test_massive_channels_are_zeroed_and_logged(kind, caplog):
    logger = MMLogger.get_instance('normalizer')  # becomes the current one
    logger.addHandler(caplog.handler)
    maps = [feat.clone() for feat in BATCHES]
    for feat in maps:
        feat[:, 5] += 1000
    normalizer = type(KINDS[kind]())(12, 24, discard_massive=20)
    first, *_, last = collect(normalizer, maps)
    logger.removeHandler(caplog.handler)
    assert caplog.text.count('channels [5] of 12 are massive') == 1
    assert normalizer.describe()['massive_channels'] == [5]
    assert first[:, 5].abs().max() == 0
    assert first[:, :5].std((0, 2, 3)).min() > 0
    maps[-1][:, 5] *= 2
    assert torch.equal(normalizer(maps[-1]), last)


def test_magnitudes_are_those_of_the_images():
    maps = batches(seed=1)
    normalizer = KINDS['layer_norm']()
    collect(normalizer, maps)
    expected = np.abs(positions(maps)).mean(0)
    np.testing.assert_allclose(normalizer.magnitude, expected, rtol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_autocast_changes_nothing(kind):
    expected = collect(KINDS[kind]())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        actual = collect(KINDS[kind]())
    assert_equal(actual, expected)


def collect_half(rank):
    """Collect the half of the images of a rank."""
    results = {}
    for kind, build in KINDS.items():
        normalizer = build()
        outputs = [normalizer(feat[rank::2]) for feat in BATCHES]
        results[kind] = (
            {k: v.numpy() for k, v in normalizer.state_dict().items()},
            [output.numpy() for output in outputs],
        )
    return results


@pytest.mark.slow
def test_two_ranks_equal_one_process():
    ranks = run_on_ranks(collect_half)
    for kind, build in KINDS.items():
        single = build()
        expected = collect(single)
        for rank, results in enumerate(ranks):
            state, outputs = results[kind]
            for key, value in single.state_dict().items():
                if kind == 'phi_s' and key == 'matrix':
                    continue  # signs of eigenvectors depend on rounding
                np.testing.assert_allclose(state[key], value, rtol=1e-4)
            for ours, output in zip(outputs, expected):
                if kind == 'phi_s':
                    ours, output = np.abs(ours), output.abs()
                np.testing.assert_allclose(
                    ours, output[rank::2], rtol=1e-3, atol=1e-3
                )
        for key in ranks[0][kind][0]:
            np.testing.assert_array_equal(
                ranks[0][kind][0][key], ranks[1][kind][0][key]
            )
