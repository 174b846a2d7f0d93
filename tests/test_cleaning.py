"""Laws of cleaning: radii and areas are those on the ground, and what is clean stays as it is."""

import cv2
import numpy as np
import pytest

from satmask.cleaning import Cleaning, clean, clean_classes
from satmask.errors import SettingError
from satmask.legend import Legend

ROWS, COLUMNS = np.mgrid[:60, :60]


def random_mask(seed, shape=(70, 80)):
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 3) > 0


def disc_kernel(radius):
    reach = int(radius)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return (rows**2 + columns**2 <= radius**2 + 1e-6).astype(np.uint8)


@pytest.mark.parametrize("radius_m", [0.5, 1.0, 1.6])
@pytest.mark.parametrize("step", ["opening_m", "closing_m"])
def test_opening_and_closing_are_those_of_a_disc(radius_m, step):
    mask = random_mask(1)
    operation = cv2.MORPH_OPEN if step == "opening_m" else cv2.MORPH_CLOSE
    expected = cv2.morphologyEx(mask.astype(np.uint8), operation, disc_kernel(radius_m / 0.5)) > 0
    found = clean(mask, Cleaning(**{step: radius_m}), gsd_m=0.5)
    inner = np.s_[8:-8, 8:-8]  # libraries differ in what they take to lie beyond the edge
    np.testing.assert_array_equal(found[inner], expected[inner])
    assert (found != mask)[inner].any()


@pytest.mark.parametrize("rule", [Cleaning(opening_m=0.6), Cleaning(closing_m=0.6), Cleaning(0, 0, 5, 7)])
def test_a_second_cleaning_changes_nothing(rule):
    once = clean(random_mask(2), rule, gsd_m=0.3)
    np.testing.assert_array_equal(clean(once, rule, gsd_m=0.3), once)


def test_opening_takes_and_closing_gives():
    mask = random_mask(3)
    assert not (clean(mask, Cleaning(opening_m=1), gsd_m=0.5) & ~mask).any()
    assert not (mask & ~clean(mask, Cleaning(closing_m=1), gsd_m=0.5)).any()


@pytest.mark.parametrize("gsd_m", [0.5, 2.0])
def test_areas_are_counted_on_the_ground(gsd_m):
    mask = np.zeros((60, 60), bool)
    mask[5:30, 5:30] = mask[40:44, 40:44] = True
    mask[10:13, 10:13] = False
    speck, hole = 16 * gsd_m**2, 9 * gsd_m**2
    assert clean(mask, Cleaning(min_area_m2=speck), gsd_m=gsd_m)[41, 41]
    assert not clean(mask, Cleaning(min_area_m2=speck * 1.01), gsd_m=gsd_m)[41, 41]
    assert not clean(mask, Cleaning(min_hole_m2=hole), gsd_m=gsd_m)[11, 11]
    assert clean(mask, Cleaning(min_hole_m2=hole * 1.01), gsd_m=gsd_m)[11, 11]


def test_the_edge_of_the_image_is_no_edge_of_objects():
    mask = np.zeros((20, 20), bool)
    mask[:, :2] = True
    mask[8:10, 18:] = True
    opened = clean(mask, Cleaning(opening_m=1.5), gsd_m=1)
    assert opened[:, :2].all()
    ring = np.ones((20, 20), bool)
    ring[3:6, 0] = ring[3:6, 10] = False
    filled = clean(ring, Cleaning(min_hole_m2=10), gsd_m=1)
    assert filled[4, 10]
    assert not filled[4, 0]


def test_each_class_is_cleaned_by_its_own_rules():
    legend = Legend.of(["house", "car"])
    classes = np.zeros((20, 20), np.uint8)
    classes[2:5, 2:5], classes[10:12, 10:12] = 1, 2
    found = clean_classes(classes, legend, {1: Cleaning(min_area_m2=10), 2: Cleaning(min_area_m2=3)}, gsd_m=1)
    assert set(np.unique(found)) == {0, 2}
    masks = np.stack([classes == 1, classes == 2], axis=-1)
    apart = clean_classes(masks, legend, Cleaning(min_area_m2=5), gsd_m=1)
    np.testing.assert_array_equal(apart, np.stack([classes == 1, np.zeros_like(masks[..., 1])], axis=-1))


def test_exclusive_classes_leave_no_pixel_without_a_class():
    legend = Legend.of(["land", "water", "wood"], exclusive=True)
    classes = np.where(COLUMNS < 30, 1, 2).astype(np.uint8)
    classes[10, 10], classes[40:44, 50:54], classes[0, 0] = 2, 0, 255
    found = clean_classes(classes, legend, Cleaning(min_area_m2=20), gsd_m=1)
    expected = np.where(COLUMNS < 30, 1, 2)
    expected[0, 0] = 255
    np.testing.assert_array_equal(found, expected)


def test_a_growing_class_takes_from_earlier_classes_alone():
    legend = Legend.of(["road", "house", "tree"])
    classes = np.zeros((20, 20), np.uint8)
    classes[5:15, 5:15] = 2
    classes[8, 9], classes[11, 9], classes[8, 12], classes[9, 12] = 1, 3, 0, 255
    found = clean_classes(classes, legend, {2: Cleaning(min_hole_m2=9)}, gsd_m=1)
    assert [found[8, 9], found[11, 9], found[8, 12], found[9, 12]] == [2, 3, 2, 255]


def test_settings_are_checked():
    with pytest.raises(SettingError, match="opening_m"):
        Cleaning(opening_m=-1)
    with pytest.raises(SettingError, match="pixel"):
        clean(np.ones((3, 3), bool), Cleaning(), gsd_m=0)
    with pytest.raises(SettingError, match="Class id"):
        clean_classes(np.ones((3, 3), np.uint8), Legend.of(["house"]), {7: Cleaning()}, gsd_m=1)
