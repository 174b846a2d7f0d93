"""Sensors: grey stays grey, haze is bounded, coarse pixels keep their sum, and nodata's value never matters."""

import numpy as np
import pytest

from satmask.augment import Augmentation, augment
from satmask.sensors import add_haze, coarsen_plane, compress, mix_bands

OFF = {"flips": False, "turns": False, "brightness": 0, "contrast": 0}
EACH = [{"haze": 0.8}, {"mix": 1.0}, {"coarsen": 4.0}, {"jpeg": 0.9}]


def window(*, bands=3, dtype=np.uint8, nodata=7, seed=0):
    random = np.random.default_rng(seed)
    image = random.integers(20, 250, (24, 24, bands)).astype(dtype)
    valid = np.ones((24, 24), bool)
    valid[5:11, 8:] = False
    image[~valid] = nodata
    truth = random.integers(2, size=(24, 24, 1)).astype(np.uint8)
    return image, truth, valid.astype(np.float32)


def vary(parts, seed=1, **settings):
    random = np.random.default_rng([seed])
    return augment(*parts, settings=Augmentation(**OFF, **settings), value_range=(0, 255), random=random)


@pytest.mark.parametrize("settings", EACH)
@pytest.mark.parametrize("bands", [1, 3, 8])
def test_values_vary_but_labels_and_nodata_do_not(settings, bands):
    parts = window(bands=bands)
    image, truth, weight = vary(parts, **settings)
    np.testing.assert_array_equal(truth, parts[1])
    np.testing.assert_array_equal(weight, parts[2])
    np.testing.assert_array_equal(image[weight == 0], parts[0][weight == 0])
    assert image.min() >= 0
    assert image.max() <= 255
    # A mixture of one band is the band itself.
    assert np.array_equal(image, parts[0]) == (bands == 1 and "mix" in settings)
    assert image.tobytes() == vary(parts, **settings)[0].tobytes()


@pytest.mark.parametrize("settings", EACH)
def test_what_nodata_holds_changes_nothing(settings):
    one, other = (vary(window(nodata=value), **settings) for value in (0, 255))
    valid = one[2] > 0
    np.testing.assert_allclose(one[0][valid], other[0][valid], atol=1e-3)


def test_sixteen_bits_are_not_compressed():
    parts = window(dtype=np.uint16)
    np.testing.assert_array_equal(vary(parts, jpeg=0.9)[0], parts[0])


def test_new_variations_leave_the_others_as_they_were():
    """Recipes of before draw what they drew."""
    parts, settings = window(), {"noise": 0.1, "gamma": 0.5, "channel": 0.2}
    plain, coarse = vary(parts, **settings), vary(parts, **settings, coarsen=1e-9)
    np.testing.assert_allclose(plain[0], coarse[0], atol=1e-3)


def test_a_pond_changes_no_label_nothing_that_has_one_and_no_other_variation():
    parts, settings = window(), {"noise": 0.1, "gamma": 0.5, "channel": 0.2, "haze": 0.3, "mix": 0.3}
    changed = []
    for seed in range(20):
        dry, wet = vary(parts, seed, **settings), vary(parts, seed, **settings, ponds=1)
        for number in (1, 2):
            np.testing.assert_array_equal(wet[number], dry[number])
        labelled = parts[1].any(axis=-1) | (parts[2] == 0)
        np.testing.assert_array_equal(wet[0][labelled], dry[0][labelled])
        changed.append((wet[0] != dry[0]).any(axis=-1)[~labelled].mean())
    assert max(changed) > 0.2
    assert vary(parts, 3, **settings, ponds=1e-9)[0].tobytes() == vary(parts, 3, **settings)[0].tobytes()


def test_grey_stays_grey_and_haze_is_bounded():
    random = np.random.default_rng(0)
    grey = np.repeat(random.random((50, 1)), 5, axis=1).astype(np.float32)
    for seed in range(20):
        np.testing.assert_allclose(mix_bands(grey, 1.0, np.random.default_rng(seed)), grey, atol=1e-6)
        hazy = add_haze(grey, 0.7, np.random.default_rng(seed))
        assert (hazy >= grey * 0.3 - 1e-6).all()
        assert (np.ptp(hazy, axis=0) >= 0.3 * np.ptp(grey, axis=0) - 1e-6).all()
        assert hazy.max() <= 1.05


def test_coarse_pixels_keep_means_and_lose_detail():
    plane = np.random.default_rng(0).random((48, 48)).astype(np.float32)
    coarse = coarsen_plane(plane, 4)
    assert coarse.shape == plane.shape
    assert coarse.mean() == pytest.approx(plane.mean(), abs=0.01)
    assert coarse.std() < plane.std() / 3
    np.testing.assert_array_equal(coarsen_plane(plane, 1), plane)


def test_colours_come_back_in_their_order():
    image = np.zeros((16, 16, 3), np.float32)
    image[...] = (200, 90, 10)
    found = compress(image, np.ones((16, 16), bool), 95)
    assert np.abs(found - image).max() <= 4
    many = compress(np.concatenate([image, image], axis=-1), np.ones((16, 16), bool), 95)
    assert np.abs(many - np.concatenate([image, image], axis=-1)).max() <= 4
