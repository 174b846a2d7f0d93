"""Laws of matching: overlaps are those of label rasters, pairs are one to one, and no matching is larger than optimal."""

import numpy as np
import pytest
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from satmask.errors import SettingError
from satmask.masks import outlines
from satmask.scoring.matching import Overlaps, find_overlaps, match


def overlaps_of(rows, columns, iou):
    """Overlaps of objects of area 1 with given IoUs."""
    pairs = np.argwhere(iou > 0)
    shared = 2 * iou[iou > 0] / (1 + iou[iou > 0])
    return Overlaps(np.ones(rows), np.ones(columns), pairs, shared)


def test_overlaps_are_those_of_label_rasters():
    random = np.random.default_rng(0)
    masks = [np.kron(random.random((12, 14)) < 0.5, np.ones((3, 2), int)).astype(np.int32) for _ in range(2)]
    polygons, labels = [], []
    for mask in masks:
        found, _ = outlines(mask)
        polygons.append(found)
        labels.append(
            sum(
                shapely.contains_xy(shape, *np.meshgrid(np.arange(28) + 0.5, np.arange(36) + 0.5)) * place
                for place, shape in enumerate(found, start=1)
            )
        )
    found = find_overlaps(*polygons)
    both = labels[0] * labels[1] > 0
    pairs, shared = np.unique(np.stack([side[both] - 1 for side in labels], axis=1), axis=0, return_counts=True)
    assert found.pairs.tolist() == pairs.tolist()
    assert found.shared.tolist() == shared.tolist()
    assert found.truth_areas.tolist() == np.bincount(labels[0].ravel())[1:].tolist()
    assert len(pairs) > 9


def test_overlaps_of_nothing_are_none():
    box = shapely.box(0, 0, 1, 1)
    for truth, predicted in (([], []), ([box], []), ([], [box]), ([box], [shapely.box(1, 0, 2, 1)])):
        found = find_overlaps(truth, predicted)
        assert (found.pairs.shape, found.shared.shape) == ((0, 2), (0,))
        assert (len(found.truth_areas), len(found.predicted_areas)) == (len(truth), len(predicted))
        assert len(match(found)) == len(match(found, matching="optimal")) == 0


@pytest.mark.parametrize("seed", range(20))
def test_optimal_is_as_large_as_scipys_and_greedy_is_no_larger(seed):
    random = np.random.default_rng(seed)
    iou = random.random((15, 13)).round(2) * (random.random((15, 13)) < 0.35)
    overlaps = overlaps_of(15, 13, iou)
    for threshold in (0.1, 0.5, 0.7):
        largest = maximum_bipartite_matching(csr_array(iou + 1e-9 >= threshold))
        sizes = {}
        for way in ("greedy", "optimal"):
            pairs = overlaps.pairs[match(overlaps, threshold, matching=way)]
            assert all(len(set(side)) == len(side) for side in pairs.T.tolist())
            assert (iou[pairs[:, 0], pairs[:, 1]] + 1e-9 >= threshold).all()
            sizes[way] = len(pairs)
        assert sizes["optimal"] == (largest >= 0).sum() >= sizes["greedy"] > 0


def test_greedy_takes_the_best_pair_and_optimal_the_most_pairs():
    overlaps = overlaps_of(2, 2, np.array([[0.9, 0.6], [0.7, 0.0]]))
    assert overlaps.pairs[match(overlaps)].tolist() == [[0, 0]]
    assert overlaps.pairs[match(overlaps, matching="optimal")].tolist() == [[0, 1], [1, 0]]


def test_greedy_matches_of_a_higher_threshold_are_those_of_a_lower_one_that_reach_it():
    random = np.random.default_rng(3)
    iou = random.random((9, 9)) * (random.random((9, 9)) < 0.3)
    overlaps = overlaps_of(9, 9, iou)
    low, high = match(overlaps, 0.3), match(overlaps, 0.6)
    assert high.tolist() == [place for place in low if overlaps.iou[place] >= 0.6]
    assert 0 < len(high) < len(low)


def test_an_iou_of_exactly_the_threshold_reaches_it():
    third = [shapely.box(0, 0, 0.1, 0.3)], [shapely.box(0, 0, 0.1, 0.1)]
    overlaps = find_overlaps(*third)
    assert len(match(overlaps, 1 / 3)) == 1
    assert len(match(overlaps, 1 / 3 + 1e-6)) == 0


@pytest.mark.parametrize("threshold", [0, -1, 1.1, float("nan")])
def test_settings_that_cannot_be_are_named(threshold):
    overlaps = find_overlaps([], [])
    with pytest.raises(SettingError, match="IoU threshold must be above 0 and at most 1, got"):
        match(overlaps, threshold)
    with pytest.raises(SettingError, match="Matching must be greedy or optimal, got 'best'"):
        match(overlaps, matching="best")
