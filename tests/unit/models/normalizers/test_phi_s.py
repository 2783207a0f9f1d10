import hashlib

import numpy as np
import pytest
import torch

from repfusion_mm.models.normalizers import PHISNormalizer
from tests.helpers.normalizer_maps import batches, positions

BATCHES = batches()


@pytest.fixture(scope='module')
def normalizer():
    normalizer = PHISNormalizer(12, num_images=24)
    for feat in BATCHES:
        normalizer(feat)
    return normalizer


def test_all_channels_have_variance_one(normalizer):
    flat = positions(normalizer(feat) for feat in BATCHES)
    np.testing.assert_allclose(flat.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(flat.var(0), 1, rtol=1e-4)


def test_averaged_maps_have_variance_one_if_the_loss_compares_them():
    normalizer = PHISNormalizer(12, num_images=24)
    normalizer.pooled = True
    for feat in BATCHES:
        normalizer(feat)
    pooled = torch.cat([normalizer(feat).mean((2, 3)) for feat in BATCHES])
    np.testing.assert_allclose(pooled.var(0, correction=0), 1, rtol=1e-3)


def test_it_is_the_rotation_of_the_paper(normalizer):
    """PHI-S = H U^T (x - mean) / sqrt(mean eigenvalue); arXiv 2410.01680."""
    flat = positions(BATCHES)
    covariance = np.cov(flat.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    # Onto the eigenvectors: the signs of the rows of H, up to those of
    # eigenvectors.
    weights = normalizer.matrix.double().numpy() @ vectors * 12**0.5
    np.testing.assert_allclose(np.abs(weights), 1, rtol=1e-3)
    np.testing.assert_allclose(normalizer.scale**2, values.mean(), rtol=1e-5)
    np.testing.assert_allclose(normalizer.mean, flat.mean(0), rtol=1e-5)


def test_it_keeps_ratios_of_distances(normalizer):
    flat = positions(BATCHES)
    ours = positions(normalizer(feat) for feat in BATCHES)
    ratio = np.linalg.norm(ours[1:] - ours[0], axis=1) / np.linalg.norm(
        flat[1:] - flat[0], axis=1
    )
    np.testing.assert_allclose(ratio, 1 / float(normalizer.scale), rtol=1e-4)


def test_the_collection_removes_mean_and_scale_without_rotation():
    normalizer = PHISNormalizer(12, num_images=100)
    outputs = [normalizer(feat) for feat in BATCHES]
    flat = positions(BATCHES)
    scale = flat.var(0).mean() ** 0.5
    expected = (positions(BATCHES[-1:]) - flat.mean(0)) / scale
    np.testing.assert_allclose(
        positions(outputs[-1:]), expected, rtol=1e-4, atol=1e-4
    )


def test_constant_maps_become_zero():
    normalizer = PHISNormalizer(12, num_images=6)
    feat = torch.full((6, 12, 4, 4), 0.3)
    assert normalizer(feat).abs().max() == 0


def test_the_description_is_compact(normalizer):
    description = normalizer.describe()
    rotation = normalizer.matrix.numpy().tobytes()
    assert (
        description['rotation_sha256'] == hashlib.sha256(rotation).hexdigest()
    )
    assert len(description['mean']) == 12
    assert description['scale'] == pytest.approx(float(normalizer.scale))


def test_channels_without_a_hadamard_matrix_are_refused():
    with pytest.raises(ValueError, match=r"got 6; set model\.normalizer='sta"):
        PHISNormalizer(6)
