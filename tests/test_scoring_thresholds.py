"""Laws of counts at every threshold: equal to scikit-learn's curves, and they add."""

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from satmask.errors import DataError, SettingError
from satmask.legend import Legend
from satmask.scoring.thresholds import BINS, EDGES, ThresholdCounts, count_thresholds

LEGEND = Legend.of({1: "road", 2: "tree"})


@pytest.fixture
def random():
    return np.random.default_rng(11)


def draw(random, shape=(60, 70), classes=2):
    truth = random.random((*shape, classes)) < 0.3
    scores = random.normal(0, 1.3, truth.shape) + np.where(truth, 1.0, -1.0)
    return (1 / (1 + np.exp(-scores))).astype(np.float32), truth


def test_curve_is_that_of_scikit_learn_at_every_thousandth(random):
    probabilities, truth = draw(random)
    curve = count_thresholds(probabilities, truth, LEGEND).curve(1)
    for at in (0, 1, 100, 333, 500, 700, 999):
        said = probabilities[..., 1] >= EDGES[at]
        expected = metrics.precision_recall_fscore_support(
            truth[..., 1].ravel(), said.ravel(), average="binary", zero_division=np.nan
        )
        found = (curve.precision[at], curve.recall[at], curve.f1[at])
        assert np.allclose(found, expected[:3], equal_nan=True, rtol=1e-12)


def test_average_precision_is_that_of_scikit_learn(random):
    probabilities, truth = draw(random)
    curve = count_thresholds(probabilities, truth, LEGEND).curve(0)
    coarse = np.searchsorted(EDGES, probabilities[..., 0].ravel(), side="right")
    exact = metrics.average_precision_score(truth[..., 0].ravel(), coarse)
    assert curve.average_precision == pytest.approx(exact, abs=1e-12)
    # A thousand bins lose next to nothing against as many thresholds as there are pixels.
    assert curve.average_precision == pytest.approx(
        metrics.average_precision_score(truth[..., 0].ravel(), probabilities[..., 0].ravel()), abs=2e-3
    )


def test_reliability_is_that_of_scikit_learn(random):
    probabilities, truth = draw(random)
    found = count_thresholds(probabilities, truth, LEGEND).reliability(0)
    frequency, confidence = calibration_curve(truth[..., 0].ravel(), probabilities[..., 0].ravel(), n_bins=10)
    assert np.allclose(found.frequency, frequency, rtol=1e-12)
    assert np.allclose(found.confidence, confidence, rtol=1e-6)
    assert found.weight.sum() == truth[..., 0].size


def test_calibration_error_is_its_formula(random):
    probabilities, truth = draw(random)
    values, there = probabilities[..., 0].ravel().astype(float), truth[..., 0].ravel()
    expected = 0.0
    for low in np.arange(10) / 10:
        inside = (values >= low) & (values < low + 0.1)
        expected += inside.mean() * abs(there[inside].mean() - values[inside].mean())
    found = count_thresholds(probabilities, truth, LEGEND).reliability(0).calibration_error
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_calibrated_network_has_no_calibration_error(random):
    probabilities = random.random((400, 500, 1), dtype=np.float32)
    truth = random.random(probabilities.shape) < probabilities
    found = count_thresholds(probabilities, truth, Legend.of(["a"])).reliability(0)
    assert found.calibration_error < 0.005
    wrong = count_thresholds(probabilities, ~truth, Legend.of(["a"])).reliability(0)
    assert wrong.calibration_error == pytest.approx(0.5, abs=0.01)  # the mean of |1 − 2p|


def test_thresholds_compare_as_float32_does():
    values = np.concatenate([EDGES[:-1], np.nextafter(EDGES[1:], np.float32(0)), [np.float32(1)]])[:, None]
    pixels = count_thresholds(values, np.ones_like(values, bool), Legend.of(["a"])).pixels[0, 1]
    assert np.cumsum(pixels[::-1])[::-1].tolist() == [int((values >= edge).sum()) for edge in EDGES[:-1]]


def test_windows_scored_apart_add_up(random):
    probabilities, truth = draw(random)
    weights, valid = random.random(truth.shape[:2]), random.random(truth.shape[:2]) < 0.8
    whole = count_thresholds(probabilities, truth, LEGEND, weights=weights, valid=valid)
    total = ThresholdCounts.empty(LEGEND)
    for rows in (np.s_[:25], np.s_[25:26], np.s_[26:]):
        total += count_thresholds(
            probabilities[rows], truth[rows], LEGEND, weights=weights[rows], valid=valid[rows]
        )  # fmt: skip
    assert np.allclose(total.pixels, whole.pixels, rtol=1e-12)
    assert np.allclose(total.mass, whole.mass, rtol=1e-12)
    with pytest.raises(SettingError, match="share a legend"):
        total + ThresholdCounts.empty(Legend.of(["a"]))


def test_a_weight_of_two_is_the_pixel_twice(random):
    probabilities, truth = draw(random)
    twice = count_thresholds(np.repeat(probabilities, 2, axis=0), np.repeat(truth, 2, axis=0), LEGEND)
    weighted = count_thresholds(probabilities, truth, LEGEND, weights=np.full(truth.shape[:2], 2))
    assert np.array_equal(twice.pixels, weighted.pixels)
    assert np.allclose(twice.mass, weighted.mass)


def test_what_is_not_valid_or_nan_counts_nothing(random):
    probabilities, truth = draw(random)
    valid = random.random(truth.shape[:2]) < 0.5
    expected = count_thresholds(probabilities[valid], truth[valid], LEGEND)
    assert np.array_equal(count_thresholds(probabilities, truth, LEGEND, valid=valid).pixels, expected.pixels)
    probabilities[~valid] = np.nan
    assert np.array_equal(count_thresholds(probabilities, truth, LEGEND).pixels, expected.pixels)


def test_a_class_without_truth_or_pixels_has_no_score():
    counts = count_thresholds(np.full((4, 4, 2), 0.2), np.zeros((4, 4, 2), bool), LEGEND)
    told = counts.to_dict()["classes"][0]
    assert (told["average_precision"], told["best"]["f1"]) == (None, None)
    assert told["calibration_error"] == pytest.approx(0.2)
    assert ThresholdCounts.empty(LEGEND).to_dict()["mean"] == {"average_precision": None, "calibration_error": None}


def test_to_dict_tells_what_the_curves_say(random):
    counts = count_thresholds(*draw(random), LEGEND)
    told = counts.to_dict()["classes"][1]
    curve = counts.curve(1)
    assert [row["threshold"] for row in told["thresholds"]] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert told["thresholds"][2]["recall"] == curve.recall[300]
    assert told["best"]["f1"] == np.nanmax(curve.f1)
    assert sum(row["pixels"] for row in told["reliability"]) == 60 * 70


@pytest.mark.parametrize(
    ("probabilities", "truth"),
    [
        (np.zeros((2, 2, 3)), np.zeros((2, 2, 3))),
        (np.zeros((2, 2, 2)), np.zeros((2, 3, 2))),
        (np.full((1, 2), 1.5),) * 2,
    ],
)
def test_what_does_not_fit_is_refused(probabilities, truth):
    with pytest.raises(DataError, match=r"must .*got"):
        count_thresholds(probabilities, truth, LEGEND)


def test_bins_that_do_not_divide_are_refused():
    with pytest.raises(SettingError, match="must divide 1000, got 7"):
        ThresholdCounts.empty(LEGEND).reliability(0, bins=7)
    assert BINS % 10 == 0
