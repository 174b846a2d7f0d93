"""Laws of boundary IoU: the paper's definition by brute force says the same, and counts add."""

import json

import cv2
import numpy as np
import pytest

from satmask.errors import DataError, SettingError
from satmask.legend import Legend
from satmask.scoring.boundaries import BoundaryScore, boundary_distance, near_contour, score_boundaries
from satmask.scoring.pixels import confusion

HOUSE = Legend.of(["house"])


def blobs(seed, shape=(23, 31)):
    noise = np.random.default_rng(seed).random(shape).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2.5) > 0.5


def near_by_brute_force(mask, distance):
    """Every pixel of the mask that has one outside, or the image's edge, within a distance."""
    height, width = mask.shape
    band = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        for y in range(row - distance, row + distance + 1):
            for x in range(column - distance, column + distance + 1):
                if not (0 <= y < height and 0 <= x < width) or not mask[y, x]:
                    band[row, column] = True
    return band


@pytest.mark.parametrize("distance", [1, 2, 5, 40])
@pytest.mark.parametrize("seed", range(3))
def test_boundary_iou_is_that_of_brute_force(seed, distance):
    truth, predicted = blobs(seed), np.roll(blobs(seed), 2, axis=0)
    bands = [near_by_brute_force(mask, distance) for mask in (truth, predicted)]
    score = score_boundaries(truth[..., None], predicted[..., None], HOUSE, distance_px=distance)
    assert score.iou[0] == (bands[0] & bands[1]).sum() / (bands[0] | bands[1]).sum()
    assert 0 < score.iou[0] < 1
    assert (near_contour(truth, distance) == bands[0]).all()


def test_a_distance_beyond_the_image_gives_iou():
    truth, predicted = blobs(4), blobs(5)
    score = score_boundaries(truth[..., None], predicted[..., None], HOUSE, distance_px=1000)
    assert score.iou == confusion(truth.astype(int), predicted.astype(int), HOUSE).iou


def test_large_objects_cannot_hide_their_edges():
    truth = np.zeros((200, 200, 1), bool)
    truth[20:180, 20:180] = True
    predicted = np.roll(truth, 4, axis=1)
    pixels = confusion(truth[..., 0].astype(int), predicted[..., 0].astype(int), HOUSE).iou[0]
    assert pixels > 0.95
    assert score_boundaries(truth, predicted, HOUSE, distance_px=5).iou[0] < 0.75


def test_counts_add():
    parts = [score_boundaries(blobs(s)[..., None], blobs(s + 1)[..., None], HOUSE, distance_px=2) for s in (1, 5)]
    total = BoundaryScore.empty(HOUSE) + parts[0] + parts[1]
    assert total.counts.tolist() == (parts[0].counts + parts[1].counts).tolist()
    assert total.iou[0] == total.counts[0, 0] / total.counts[0].sum()
    assert BoundaryScore.from_dict(json.loads(json.dumps(total.to_dict()))).counts.tolist() == total.counts.tolist()


def test_classes_count_apart_and_empty_ones_follow_the_rule():
    legend = Legend.of(["house", "road", "lake"])
    truth, predicted = (np.zeros((20, 20, 3), bool) for _ in range(2))
    truth[5:9, 5:9, 0] = predicted[5:9, 5:9, 0] = True
    truth[2:4, 2:4, 1] = True
    score = score_boundaries(truth, predicted, legend, distance_px=1)
    assert score.iou[:2].tolist() == [1, 0]
    assert np.isnan(score.iou[2])
    assert score.mean == 0.5
    assert score.to_dict()["iou"] == [1, 0, None]
    assert np.isnan(BoundaryScore.empty(legend).mean)


def test_what_is_unlabelled_counts_as_outside():
    truth, valid = np.ones((20, 20, 1), bool), np.ones((20, 20), bool)
    valid[:, 12:] = False
    score = score_boundaries(truth, truth, HOUSE, distance_px=2, valid=valid)
    assert score.counts[0].tolist() == [20 * 12 - 16 * 8, 0, 0]


def test_distances_are_shares_of_the_diagonal_or_metres():
    assert boundary_distance((300, 400)) == 10
    assert boundary_distance((300, 400), ratio=0.005) == 2
    assert boundary_distance((3, 4)) == 1
    assert boundary_distance((300, 400), distance_m=2, gsd_m=0.25) == 8
    with pytest.raises(SettingError, match="in metres must have an image with a CRS, got 2 m"):
        boundary_distance((300, 400), distance_m=2)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(SettingError, match="Boundary distance must be above 0, got"):
            boundary_distance((300, 400), ratio=wrong)


def test_arrays_that_do_not_fit_are_named():
    mask = np.zeros((4, 4, 1), bool)
    with pytest.raises(DataError, match="must share a shape with 1 classes"):
        score_boundaries(mask, mask[:3], HOUSE, distance_px=1)
    for wrong in (0, 1.5):
        with pytest.raises(SettingError, match="whole number of pixels, at least 1, got"):
            score_boundaries(mask, mask, HOUSE, distance_px=wrong)
    with pytest.raises(SettingError, match="must share a legend"):
        BoundaryScore.empty(HOUSE) + BoundaryScore.empty(Legend.of(["road"]))
    with pytest.raises(SettingError, match=r"must be \(1, 3\), got \(2, 3\)"):
        BoundaryScore(HOUSE, np.zeros((2, 3)))
