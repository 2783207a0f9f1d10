import numpy as np
import pytest
from sklearn.linear_model import Ridge

from repfusion_mm.analysis.probe.tasks import ridge
from repfusion_mm.analysis.probe.tasks.ridge import (
    LeaveOneOutRidge,
    compress,
    standardize,
)
from tests.helpers.refits import refit

RNG = np.random.default_rng(0)
CLOSE = dict(rtol=0, atol=1e-6)


def draw(num_images, num_rows, width, num_targets=3):
    features = RNG.normal(size=(num_images, num_rows, width))
    targets = RNG.normal(size=(num_images, num_rows, num_targets))
    return features + 1, targets - 3


@pytest.mark.parametrize(
    ('num_images', 'num_rows', 'width'),
    [(8, 1, 3), (8, 1, 30), (7, 5, 4), (7, 5, 60), (3, 4, 2), (2, 1, 1)],
)
@pytest.mark.parametrize('penalty', [0.02, 0.5])
def test_predictions_are_those_of_refits(num_images, num_rows, width, penalty):
    features, targets = draw(num_images, num_rows, width)
    predicted = LeaveOneOutRidge(features, penalty=penalty).predict(targets)
    expected = refit(features, targets, penalty)
    np.testing.assert_allclose(predicted, expected, **CLOSE)


@pytest.mark.parametrize('width', [3, 60])
def test_rows_that_do_not_count_change_nothing(width):
    features, targets = draw(9, 5, width)
    counts = RNG.random((9, 5)) < 0.6
    counts[:, 2] = True
    ridge = LeaveOneOutRidge(features, counts, 0.1)
    predicted = ridge.predict(targets)
    expected = refit(features, targets, 0.1, counts)
    np.testing.assert_allclose(predicted, expected, **CLOSE)
    assert not predicted[~counts].any()
    features[~counts], targets[~counts] = 1e3, -1e3
    again = LeaveOneOutRidge(features, counts, 0.1).predict(targets)
    np.testing.assert_allclose(again, predicted, **CLOSE)


@pytest.mark.parametrize('width', [3, 200])
def test_without_features_the_mean_of_the_others_is_predicted(width):
    _, targets = draw(10, 1, 1)
    others = (targets.sum(0) - targets) / 9
    for features in (np.empty((10, 1, 0)), np.zeros((10, 1, width))):
        predicted = LeaveOneOutRidge(features).predict(targets)
        np.testing.assert_allclose(predicted, others, rtol=1e-3)


def test_a_weak_penalty_gives_least_squares_with_an_intercept():
    features, targets = draw(20, 1, 3)
    ridge = LeaveOneOutRidge(features, penalty=1e-9)
    model = Ridge(alpha=0).fit(features[1:, 0], targets[1:, 0])
    np.testing.assert_allclose(
        ridge.predict(targets)[0, 0], model.predict(features[:1, 0])[0],
        atol=1e-5,
    )  # fmt: skip


def test_other_images_are_predicted_by_the_fit_to_all_images():
    """The fit to all images but the last predicts the last one."""
    features, targets = draw(9, 5, 4)
    fitted = LeaveOneOutRidge(features[:-1], penalty=0.1)
    predicted = fitted.predict_others(features[-1], targets[:-1])
    expected = LeaveOneOutRidge(features, penalty=0.1).predict(targets)[-1]
    np.testing.assert_allclose(predicted, expected, **CLOSE)


def test_features_are_standardized_over_the_rows_that_count():
    features, _ = draw(9, 5, 4)
    counts = RNG.random((9, 5)) < 0.5
    scaled = standardize(features, counts)[counts]
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(0), 1)


@pytest.mark.parametrize('value', [0, 1, 12345.678, -3e-12, 1e20])
def test_constant_features_become_zero(value):
    features = np.full((50, 7, 2), value, dtype=np.float32)
    # In the other column, all but rounding errors of float32 is constant.
    features[::2, :, 1] = np.nextafter(features[0, 0, 1], np.float32(2e20))
    assert not standardize(features)[..., 0].any()
    if value:
        assert not standardize(features).any()


def test_small_features_are_not_constant():
    features = 1e-15 * RNG.normal(size=(50, 1, 1))
    assert standardize(features).std() == pytest.approx(1)


@pytest.mark.parametrize('width', [5, 12, 40])
def test_compression_changes_no_prediction(width, monkeypatch):
    monkeypatch.setattr(ridge, 'MAX_COLUMNS', 7)
    features, targets = draw(12, 1, width)
    features[..., 0] = 3  # constant
    small = compress(features[:, 0])
    assert small.shape == (12, min(width, 12))
    # Also of fits to some of the images.
    for some in (slice(None), [0, 2, 3, 7, 11]):
        expected = refit(standardize(features)[some], targets[some], 0.1)
        model = LeaveOneOutRidge(small[some, None], penalty=0.1)
        np.testing.assert_allclose(
            model.predict(targets[some]), expected, **CLOSE
        )
