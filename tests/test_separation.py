"""Laws of separation: every pixel kept, parts connected, whole things left whole, necks cut where they are narrow."""

import heapq

import cv2
import numpy as np
import pytest

from satmask.errors import SettingError
from satmask.separation import _distances, separate

ROWS, COLUMNS = np.mgrid[:80, :130]


def disc(x, y, radius):
    return (COLUMNS - x) ** 2 + (ROWS - y) ** 2 <= radius**2


def random_mask(seed, shape=(90, 120)):
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 5) > 0.02


def groups(mask):
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)


def flooded(heights, mask, markers):
    """The oracle: flood from markers, one pixel at a time, the highest first."""
    labels, queue = markers.copy(), []
    for at in zip(*np.nonzero(markers), strict=True):
        heapq.heappush(queue, (-heights[at], len(queue), at))
    while queue:
        _, _, (row, column) = heapq.heappop(queue)
        for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            at = row + step[0], column + step[1]
            if 0 <= at[0] < mask.shape[0] and 0 <= at[1] < mask.shape[1] and mask[at] and not labels[at]:
                labels[at] = labels[row, column]
                heapq.heappush(queue, (-heights[at], len(queue) + heights.size, at))
    return labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("depth", [0.5, 1.5, 4])
def test_every_pixel_is_kept_and_every_part_is_connected(seed, depth):
    mask = random_mask(seed)
    labels = separate(mask, depth=depth)
    np.testing.assert_array_equal(labels > 0, mask)
    count, of_group = groups(mask)
    assert labels.max() >= count - 1
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    for number in range(1, labels.max() + 1):
        assert groups(labels == number)[0] == 2
        assert len(np.unique(of_group[labels == number])) == 1


@pytest.mark.parametrize("radius", [9, 14, 20])
def test_two_touching_discs_are_parted_at_their_neck(radius):
    two = disc(40, 40, 22) | disc(40 + 20 + radius, 40, radius)
    labels = separate(two, depth=2)
    assert labels.max() == 2
    small = labels == labels[40, 40 + 20 + radius]
    # The neck is where the circles cross.
    expected = two & ~disc(40, 40, 22)
    assert (small & expected).sum() / (small | expected).sum() > 0.85


@pytest.mark.parametrize("shape", [disc(60, 40, 30), (np.abs(COLUMNS - 60) < 40) & (np.abs(ROWS - 40) < 14)])
def test_what_is_whole_stays_whole(shape):
    assert separate(shape, depth=1).max() == 1


def test_more_depth_parts_less_and_ends_with_groups():
    mask = random_mask(9, (150, 150))
    counts = [int(separate(mask, depth=depth).max()) for depth in (0.5, 1, 2, 4, 100)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1] == groups(mask)[0] - 1


def dynamics(heights, mask):
    """The oracle: pixels are uncovered one after the other, the highest first; where two lands meet, the lower top falls."""
    land, found = {}, {}

    def root(at):
        while land[at] != at:
            at = land[at]
        return at

    order = np.argsort(-heights[mask], kind="stable")
    for at in zip(*(part[order].tolist() for part in np.nonzero(mask)), strict=True):
        land[at] = at
        for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            beside = at[0] + step[0], at[1] + step[1]
            if beside in land and (one := root(at)) != (other := root(beside)):
                low, high = sorted((one, other), key=lambda top: heights[top])
                found[low] = heights[low] - heights[at]
                land[low] = high
    return found | {top: np.inf for top in land if root(top) == top}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("depth", [0.01, 0.1, 0.3])
def test_each_object_has_one_top_that_stands_out_far_enough(seed, depth):
    mask = random_mask(seed + 20)
    surface = cv2.GaussianBlur(np.random.default_rng(seed).random(mask.shape, np.float32), (0, 0), 1.5)
    tops = [top for top, falls in dynamics(surface, mask).items() if falls >= depth]
    labels = separate(mask, depth=depth, surface=surface)
    assert labels.max() == len(tops)
    assert {int(labels[top]) for top in tops} == set(range(1, len(tops) + 1))


def test_distances_are_exact_so_that_no_memory_layout_decides():
    mask = random_mask(31, (60, 77))  # OpenCV alone is a bit off at this width
    inside, outside = np.argwhere(mask), np.argwhere(~mask)
    exact = np.zeros(mask.shape, np.float32)
    exact[mask] = np.sqrt(((inside[:, None] - outside) ** 2).sum(axis=-1).min(axis=1))
    np.testing.assert_array_equal(_distances(mask), exact)
    for offset in range(4):
        placed = np.zeros((mask.shape[0], mask.shape[1] + 4), bool)[:, offset : offset + mask.shape[1]]
        placed[...] = mask
        np.testing.assert_array_equal(separate(placed, depth=1), separate(mask, depth=1, surface=exact))


@pytest.mark.parametrize("depth", [0.7, 1.5, 3])
def test_by_distance_there_are_as_many_objects_as_widths_that_stand_out(depth):
    mask = random_mask(30, (120, 160))
    heights = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    expected = sum(falls >= depth for falls in dynamics(heights, mask).values())
    assert separate(mask, depth=depth).max() == expected > groups(mask)[0]


def test_probabilities_part_what_distances_cannot():
    bar = (np.abs(COLUMNS - 60) < 40) & (np.abs(ROWS - 40) < 14)
    probability = np.where(np.abs(COLUMNS - 50) < 2, 0.55, 0.95).astype(np.float32)
    labels = separate(bar, depth=0.2, surface=probability)
    assert labels.max() == 2
    assert separate(bar, depth=0.5, surface=probability).max() == 1
    assert labels[40, 40] != labels[40, 70]
    assert (labels[bar & (COLUMNS < 48)] == labels[40, 40]).all()
    assert (labels[bar & (COLUMNS > 52)] == labels[40, 70]).all()


def test_borders_are_those_of_flooding_pixel_by_pixel():
    mask = disc(35, 40, 20) | disc(66, 36, 15) | disc(90, 44, 13)
    heights = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    labels = separate(mask, depth=2)
    assert labels.max() == 3
    markers = np.zeros(mask.shape, np.int32)
    for number in (1, 2, 3):
        top = np.unravel_index(np.argmax(np.where(labels == number, heights, -1)), mask.shape)
        markers[top] = number
    assert (flooded(heights, mask, markers) == labels)[mask].mean() > 0.975


def test_turning_the_image_turns_the_parts():
    mask = disc(40, 40, 22) | disc(72, 44, 14)
    labels, turned = separate(mask, depth=2), np.rot90(separate(np.rot90(mask), depth=2), -1)
    pairs = np.unique(np.stack([labels[mask], turned[mask]]), axis=1, return_counts=True)[1]
    assert np.sort(pairs)[-2:].sum() > 0.98 * mask.sum()


def test_settings_are_checked_and_empty_masks_have_no_objects():
    nothing = np.zeros((4, 5), bool)
    assert separate(nothing, depth=1).max() == 0
    assert separate(~nothing, depth=1).min() == 1
    for settings in ({"depth": 0}, {"depth": float("nan")}, {"depth": 1, "surface": np.zeros((5, 4))}):
        with pytest.raises(SettingError):
            separate(nothing, **settings)


def test_an_image_that_is_all_mask_is_one_object():
    assert (separate(np.ones((40, 60), bool), depth=0.5) == 1).all()
