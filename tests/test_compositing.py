"""Composites: pixels bring their labels and weights along, objects stay whole, edges weigh what the formula says."""

import cv2
import numpy as np
import pytest

from satmask.compositing import RING, add_pond, cut_mix, paste_objects, weigh_edges


def window(value, boxes, size=40):
    """A flat window with objects of value + 100."""
    image = np.full((size, size, 2), value, np.float32)
    truth = np.zeros((size, size, 1), np.uint8)
    for top, left, bottom, right in boxes:
        image[top:bottom, left:right] += 100
        truth[top:bottom, left:right] = 1
    return image, truth, np.ones((size, size), np.float32)


def test_a_rectangle_brings_labels_and_weights_along():
    first, other = window(1, [(4, 4, 20, 20)]), window(2, [(10, 10, 30, 30)])
    other[2][:, 25:] = 0
    before, shares = [part.copy() for part in first], []
    for seed in range(60):
        image, truth, weight = cut_mix(first, other, np.random.default_rng(seed))
        taken = np.isin(image[..., 0], (2, 102))
        np.testing.assert_array_equal(truth[..., 0], np.where(taken, other[1][..., 0], first[1][..., 0]))
        np.testing.assert_array_equal(weight, np.where(taken, other[2], first[2]))
        rows, columns = taken.any(axis=1).sum(), taken.any(axis=0).sum()
        assert taken.sum() == rows * columns
        shares.append(taken.mean())
    assert all(map(np.array_equal, before, first))
    assert min(shares) < 0.05
    assert max(shares) > 0.6


def test_objects_are_pasted_whole_or_not_at_all():
    boxes = [(5, 5, 11, 12), (25, 6, 33, 14), (22, 24, 30, 34)]
    first, other = window(10, []), window(20, [*boxes, (0, 20, 8, 30)])
    seen = set()
    for seed in range(40):
        image, truth, weight = paste_objects(first, other, np.random.default_rng(seed))
        pasted = tuple(bool(truth[top, left, 0]) for top, left, _, _ in boxes)
        expected = sum(
            (bottom - top) * (right - left)
            for (top, left, bottom, right), is_there in zip(boxes, pasted, strict=True)
            if is_there
        )
        assert truth.sum() == expected  # the one that touches the frame never comes along
        assert (image[truth[..., 0] > 0] == 120).all()
        assert (weight == 1).all()
        seen.add(pasted)
    assert len(seen) == 8


def test_nothing_is_pasted_on_what_is_there_or_unknown():
    other = window(20, [(10, 10, 18, 18)])
    beside = window(10, [(10, 18 + RING - 1, 18, 30)])
    unknown = window(10, [])
    unknown[2][12, 12] = 0
    for first in (beside, unknown):
        for seed in range(10):
            assert paste_objects(first, other, np.random.default_rng(seed)) is first
    apart = window(10, [(10, 18 + RING, 18, 30)])
    assert any(paste_objects(apart, other, np.random.default_rng(seed)) is not apart for seed in range(10))


def test_the_ring_fades():
    image, truth, _ = next(
        out
        for seed in range(20)
        if (out := paste_objects(window(0, []), window(100, [(15, 15, 25, 25)]), np.random.default_rng(seed)))[1].any()
    )
    line = image[20, 8:16, 0]
    assert (np.diff(line) >= 0).all()
    assert 0 < line[-2] < 200
    np.testing.assert_array_equal(image[20, :13, 0], 0)
    assert truth.sum() == 100


@pytest.mark.parametrize("bands", [1, 3, 8])
@pytest.mark.parametrize("ends", [(0, 255), (-300, 2000)])
def test_a_pond_is_dark_smooth_round_and_covers_nothing_that_has_a_label(bands, ends):
    low, high = (np.full(bands, end, np.float32) for end in ends)
    ground = np.random.default_rng(0).uniform(*ends, (96, 128, bands)).astype(np.float32)
    free = np.ones((96, 128), bool)
    free[30:60, 40:80] = False
    sizes, unevenness = [], []
    for seed in range(40):
        laid = add_pond(ground, free, value_range=(low, high), random=np.random.default_rng(seed))
        np.testing.assert_array_equal(laid[~free], ground[~free])
        touched = (laid != ground).any(axis=-1)
        sizes.append(touched.sum())
        # Away from its shore nothing of the ground comes through.
        deep = cv2.erode(touched.astype(np.uint8), np.ones((15, 15), np.uint8), borderValue=0) > 0
        shares = ((laid - low) / (high - low))[deep]
        if len(shares) > 50:
            assert shares.max() < 0.9
            unevenness.append(shares.std(axis=0).max())
    assert len(unevenness) > 10
    assert max(unevenness) < 0.15 < ((ground - low) / (high - low)).std()
    assert min(sizes) < 1000
    assert max(sizes) > 4000
    again = add_pond(ground, free, value_range=(low, high), random=np.random.default_rng(39))
    assert again.tobytes() == laid.tobytes()


def test_no_pond_where_all_ground_has_a_label():
    ground = np.ones((32, 32, 3), np.float32)
    laid = add_pond(
        ground, np.zeros((32, 32), bool), value_range=(0 * ground[0, 0], ground[0, 0]), random=np.random.default_rng(1)
    )
    np.testing.assert_array_equal(laid, ground)


def test_edges_weigh_what_the_formula_says():
    scipy = pytest.importorskip("scipy.ndimage")
    random = np.random.default_rng(0)
    truth = np.zeros((50, 60, 2), np.uint8)
    truth[10:30, 12:40, 0], truth[20:45, 30:55, 1] = 1, 1
    weight = random.random((50, 60)).astype(np.float32)
    edge = np.zeros((50, 60), bool)
    for axis in (0, 1):
        changed = np.diff(truth, axis=axis).any(axis=-1)
        edge |= np.pad(changed, [(0, 1) if axis == place else (0, 0) for place in (0, 1)])
        edge |= np.pad(changed, [(1, 0) if axis == place else (0, 0) for place in (0, 1)])
    distance = scipy.distance_transform_edt(~edge)
    expected = weight * (1 + 10 * np.exp(-(distance**2) / 50))
    np.testing.assert_allclose(weigh_edges(truth, weight, most=10, width_px=5), expected, rtol=1e-4)
    assert weigh_edges(truth * 0, weight, most=10, width_px=5) is weight
