"""Laws of the charts of probabilities: what is drawn is what was counted."""

import numpy as np
import pytest
from sklearn import metrics

from satmask.legend import Legend
from satmask.scoring.thresholds import ThresholdCounts, count_thresholds
from satmask.threshold_charts import precision_recall, reliability_curve

LEGEND = Legend.of(["road", "tree", "car"])


@pytest.fixture(scope="module")
def drawn():
    """Probabilities, truth, and their counts; there is no car."""
    random = np.random.default_rng(2)
    truth = random.random((4000, 3)) < (0.3, 0.1, 0)
    probabilities = 1 / (1 + np.exp(-random.normal(0, 1, truth.shape) - np.where(truth, 1.2, -0.6)))
    return probabilities, truth, count_thresholds(probabilities, truth, LEGEND)


def panel(figure, name):
    return next(axis for axis in figure.axes if axis.get_title(loc="left") == name)


def test_the_curve_is_that_of_the_counts_and_its_heading_that_of_scikit_learn(drawn):
    probabilities, truth, counts = drawn
    axis = panel(precision_recall(counts), "tree")
    curve = counts.curve(1)
    assert any(
        np.array_equal(line.get_xydata(), np.stack([curve.recall, curve.precision], axis=1), equal_nan=True)
        for line in axis.lines
    )
    exact = metrics.average_precision_score(truth[:, 1], probabilities[:, 1])
    headings = [text.get_text() for text in axis.texts if text.get_text().startswith("average precision")]
    assert float(headings[0].split()[-1]) == pytest.approx(exact, abs=2e-3)


def test_the_best_f1_is_marked_where_it_is(drawn):
    probabilities, truth, counts = drawn
    axis = panel(precision_recall(counts), "road")
    (text,) = [text.get_text() for text in axis.texts if text.get_text().startswith("F1")]
    best, threshold = (float(word) for word in text.split()[1::2])
    assert metrics.f1_score(truth[:, 0], probabilities[:, 0] >= threshold) == pytest.approx(best, abs=6e-4)
    every = [metrics.f1_score(truth[:, 0], probabilities[:, 0] >= step) for step in np.linspace(0.05, 0.95, 19)]
    assert best >= max(every) - 1e-3


def test_reliability_points_and_bars_are_those_of_the_counts(drawn):
    counts = drawn[2]
    figure = reliability_curve(counts)
    found = counts.reliability(0)
    upper = panel(figure, "road")
    assert any(
        np.allclose(line.get_xydata()[:, 1], found.frequency) for line in upper.lines if len(line.get_xdata()) > 2
    )
    bars = [patch.get_height() for axis in figure.axes for patch in axis.patches]
    assert bars[:10] == found.weight.tolist()
    (heading,) = [text.get_text() for text in upper.texts]
    assert heading == f"calibration error {found.calibration_error:.3f}"


def test_a_class_without_truth_is_said_to_have_none(drawn):
    axis = panel(precision_recall(drawn[2]), "car")
    assert [text.get_text() for text in axis.texts] == ["average precision –", "no pixels in truth"]


def test_counts_of_nothing_are_drawn():
    counts = ThresholdCounts.empty(Legend.of(["a"]))
    assert "no pixels" in [text.get_text() for text in reliability_curve(counts).axes[0].texts]
    assert "no pixels in truth" in [text.get_text() for text in precision_recall(counts).axes[0].texts]


@pytest.mark.parametrize("count", [1, 9])
def test_the_best_f1_is_written_wherever_the_curve_goes(count):
    random = np.random.default_rng(count)
    legend = Legend.of([f"class {at}" for at in range(count)])
    truth = random.random((3000, count)) < np.linspace(0.9, 0.02, count)
    scores = random.normal(0, 1, truth.shape) + np.where(truth, 1, -1) * np.linspace(-1, 2.5, count)
    figure = precision_recall(count_thresholds(1 / (1 + np.exp(-scores)), truth, legend))
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [sum(text.get_text().startswith("F1") for text in axis.texts) for axis in panels] == [1] * count
