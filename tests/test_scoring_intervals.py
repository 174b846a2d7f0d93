"""Laws of intervals: they hold the truth as often as they say, and know what images of one place are worth."""

from dataclasses import dataclass

import numpy as np
import pytest

from satmask.errors import SettingError
from satmask.legend import Legend
from satmask.scoring.intervals import interval, interval_of_sums
from satmask.scoring.pixels import Confusion, confusion

HOUSE = Legend.of(["house"])


@dataclass(frozen=True)
class Sums:
    """Something found among something there."""

    name: str
    found: np.ndarray


def share(sums):
    return sums.found[0] / sums.found[1]


def shares(random, images, spread):
    """Images of which each finds a share of its own of what is there; on average 0.7."""
    there = random.integers(50, 150, images)
    found = random.binomial(there, np.clip(0.7 + spread, 0, 1))
    return [Sums("image", np.array(pair)) for pair in zip(found, there, strict=True)]


def test_intervals_hold_the_truth_as_often_as_they_say():
    random, held = np.random.default_rng(0), 0
    for seed in range(150):
        found = interval_of_sums(shares(random, 40, random.normal(0, 0.1, 40)), share, rounds=300, level=0.9, seed=seed)
        assert found.low < found.value < found.high
        held += found.low <= 0.7 <= found.high
    assert 0.82 < held / 150 < 0.97  # 0.9, give or take three standard deviations


def test_images_of_one_place_are_worth_less_than_as_many_places():
    random, held = np.random.default_rng(1), {"images": 0, "places": 0}
    places = np.repeat(np.arange(20), 8)
    for seed in range(100):
        parts = shares(random, 160, random.normal(0, 0.1, 20)[places])
        for kind, groups in (("images", None), ("places", places.tolist())):
            found = interval_of_sums(parts, share, groups=groups, rounds=200, level=0.9, seed=seed)
            held[kind] += bool(found.low <= 0.7 <= found.high)
            assert found.drawn == (160 if kind == "images" else 20)
    assert held["images"] < 65
    assert 78 <= held["places"] <= 98


def test_images_that_are_all_alike_leave_no_doubt():
    truth, said = np.array([[1, 1, 0, 0]]), np.array([[1, 0, 1, 0]])
    parts = [confusion(truth, said, HOUSE)] * 7
    found = interval_of_sums(parts, lambda score: [score.iou[0], score.mean("f1")])
    assert found.value.tolist() == found.low.tolist() == found.high.tolist() == [1 / 3, 1 / 2]


def test_two_images_give_what_can_be_counted_out():
    """Of four equally likely draws one is the first image twice, one the second twice, and two are both."""
    parts = [Sums("a", np.array([1, 10])), Sums("b", np.array([9, 10]))]
    found = interval_of_sums(parts, share, rounds=4000, level=0.4)
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)
    found = interval_of_sums(parts, share, rounds=4000, level=0.6)
    assert (found.low, found.high) == (0.1, 0.9)


def test_draws_weigh_images_as_repeating_them_would():
    random = np.random.default_rng(2)
    parts = [confusion(*random.integers(0, 2, (2, 5, 5)), HOUSE) for _ in range(4)]
    seen = []

    def measure(score):
        seen.append(score.matrix.copy())
        return score.iou[0]

    interval_of_sums(parts, measure, rounds=20)
    weights = []
    interval(lambda drawn: weights.append(drawn.copy()) or 0.0, 4, rounds=20)
    for drawn, matrix in zip(weights, seen, strict=True):
        repeated = sum(
            (part for part, times in zip(parts, drawn, strict=True) for _ in range(times)), Confusion.empty(HOUSE)
        )
        assert repeated.matrix.tolist() == matrix.tolist()
        assert drawn.sum() == 4


def test_the_seed_decides():
    parts = shares(np.random.default_rng(3), 9, 0)
    one, same, other = (interval_of_sums(parts, share, seed=seed) for seed in (1, 1, 2))
    assert (one.low, one.high) == (same.low, same.high) != (other.low, other.high)


def test_one_image_or_one_place_says_nothing_about_others():
    parts = shares(np.random.default_rng(4), 5, 0)
    for found in (interval_of_sums(parts[:1], share), interval_of_sums(parts, share, groups=["here"] * 5)):
        assert np.isnan([found.low, found.high]).all()
        assert found.value > 0
        assert found.drawn == 1


def test_draws_without_a_score_are_left_out():
    empty, full = (
        confusion(np.zeros((2, 2), int), np.zeros((2, 2), int), HOUSE),
        confusion(*np.ones((2, 2, 2), int), HOUSE),
    )
    found = interval_of_sums([empty, full], lambda score: score.iou[0])
    assert (found.low, found.high) == (1, 1)
    assert np.isnan(interval_of_sums([empty, empty], lambda score: score.iou[0]).low)


def test_settings_that_cannot_be_are_named():
    parts = shares(np.random.default_rng(5), 3, 0)
    for settings in ({"rounds": 0}, {"level": 1}, {"level": 0}):
        with pytest.raises(SettingError, match="at least one round and a level above 0 and below 1, got 3"):
            interval_of_sums(parts, share, **settings)
    with pytest.raises(SettingError, match="one group each, got 2 groups of 3 images"):
        interval_of_sums(parts, share, groups=["a", "b"])
    with pytest.raises(SettingError, match="at least one image, got none"):
        interval_of_sums([], share)
