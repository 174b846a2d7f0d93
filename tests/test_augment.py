"""Augmentation: geometry moves everything together, radiometry scales, nodata stays, a seed fixes all."""

import numpy as np
import pytest
from pydantic import ValidationError

from satmask.augment import Augmentation, augment
from satmask.errors import SettingError

OFF = {"flips": False, "turns": False, "brightness": 0, "contrast": 0}
RADIOMETRY = {"brightness": 0.3, "contrast": 0.3, "channel": 0.2, "gamma": 0.5, "noise": 0.05, "blur": 2.0}
ALL = Augmentation(**RADIOMETRY, zoom=0.5)


def window(*, height=24, width=24, bands=3, seed=0, nodata=0.3):
    """A random 11-bit window, with nodata of value 7 in a band of pixels and weight 0 there."""
    random = np.random.default_rng(seed)
    image = random.integers(100, 2000, size=(height, width, bands), dtype=np.uint16)
    truth = random.integers(2, size=(height, width, 2), dtype=np.uint8)
    weight = (random.random((height, width)) >= nodata).astype(np.float32)
    image[weight == 0] = 7
    return image, truth, weight


def vary(parts, settings, *, seed=1, value_range=(0.0, 2047.0), **rest):
    random = np.random.default_rng([seed, 3])
    return augment(*parts, settings=settings, value_range=value_range, random=random, **rest)


def test_without_settings_nothing_changes():
    image, truth, weight = window()
    out = vary((image, truth, weight), Augmentation(**OFF))
    np.testing.assert_array_equal(out[0], image)
    np.testing.assert_array_equal(out[1], truth)
    np.testing.assert_array_equal(out[2], weight)
    assert [part.dtype for part in out] == [np.float32, np.uint8, np.float32]


@pytest.mark.parametrize("bands", [1, 4, 20])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(bands):
    parts = window(bands=bands)
    before = [part.copy() for part in parts]
    first, again, other = (vary(parts, ALL, seed=seed) for seed in (1, 1, 2))
    assert [part.tobytes() for part in first] == [part.tobytes() for part in again]
    assert first[0].tobytes() != other[0].tobytes()
    assert [part.shape for part in first] == [part.shape for part in parts]
    for part, copy, varied in zip(parts, before, first, strict=True):
        np.testing.assert_array_equal(part, copy)
        assert varied.flags.c_contiguous
        assert not np.shares_memory(part, varied)


@pytest.mark.parametrize(("height", "width"), [(5, 5), (4, 7)])
def test_flips_and_turns_move_image_truth_and_weight_together(height, width):
    place = np.arange(1, height * width + 1).reshape(height, width)
    parts = place[..., None].astype(np.uint16), place[..., None].astype(np.uint8), place.astype(np.float32)
    seen = set()
    for seed in range(80):
        image, truth, weight = vary(parts, Augmentation(brightness=0, contrast=0), seed=seed)
        np.testing.assert_array_equal(image, truth)
        np.testing.assert_array_equal(image[..., 0], weight)
        seen.add(image.tobytes())
    symmetries = [np.rot90(turned, k) for turned in (place, place[::-1]) for k in range(4)]
    fitting = {one[..., None].astype(np.float32).tobytes() for one in symmetries if one.shape == place.shape}
    assert seen == fitting


@pytest.mark.parametrize("turns", [False, True])
def test_flips_off_leaves_only_rotations(turns):
    place = np.arange(9, dtype=np.uint8).reshape(3, 3)
    settings = Augmentation(**OFF | {"turns": turns})
    parts = place[..., None], place[..., None], np.ones((3, 3), np.float32)
    seen = {vary(parts, settings, seed=seed)[1].tobytes() for seed in range(30)}
    assert seen == {np.rot90(place, k).tobytes() for k in range(4 if turns else 1)}


def test_radiometry_leaves_pixels_of_weight_0_truth_and_weight_alone():
    image, truth, weight = window()
    varied, same_truth, same_weight = vary((image, truth, weight), Augmentation(**OFF | RADIOMETRY))
    nodata = weight == 0
    assert (varied[nodata] == 7).all()
    assert (varied[~nodata] != image[~nodata]).mean() > 0.9
    np.testing.assert_array_equal(same_truth, truth)
    np.testing.assert_array_equal(same_weight, weight)


def test_what_nodata_holds_changes_nothing_else():
    image, truth, weight = window()
    other = np.where(weight[..., None] > 0, image.astype(np.float32), np.nan)
    one, two = vary((image, truth, weight), ALL), vary((other, truth, weight), ALL)
    seen = one[2] > 0
    assert 0 < seen.mean() < 1
    np.testing.assert_array_equal(one[0][seen], two[0][seen])
    np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.parametrize("settings", [ALL, *(Augmentation(**OFF | {name: v}) for name, v in RADIOMETRY.items())])
def test_more_bits_behave_like_fewer(settings):
    image, truth, weight = window()
    few = image // 16
    one = vary((few, truth, weight), settings, value_range=(np.full(3, 2.0), np.full(3, 120.0)))
    many = vary((few * 16, truth, weight), settings, value_range=(np.full(3, 32.0), np.full(3, 1920.0)))
    np.testing.assert_allclose(many[0], 16 * one[0], rtol=1e-5, atol=1e-2)


def test_brightness_shifts_all_bands_by_one_share_of_their_range():
    image, truth, weight = window(nodata=0)
    image = image // 4 + 700
    lowest, highest = np.zeros(3), np.array([2047.0, 4000.0, 2047.0])
    varied, _, _ = vary(
        (image, truth, weight), Augmentation(**OFF | {"brightness": 0.2}), value_range=(lowest, highest)
    )
    shares = (varied - image) / (highest - lowest)
    assert 0 < np.abs(shares).max() <= 0.2
    np.testing.assert_allclose(shares, shares[0, 0, 0], atol=1e-6)


def test_contrast_keeps_the_mean_and_channel_the_ratios():
    image, truth, weight = window(nodata=0)
    settings = Augmentation(**OFF | {"contrast": 0.1})
    varied, _, _ = vary((image // 2 + 500, truth, weight), settings)
    np.testing.assert_allclose(varied.mean(axis=(0, 1)), (image // 2 + 500).mean(axis=(0, 1)), rtol=1e-5)
    gained, _, _ = vary((image // 2, truth, weight), Augmentation(**OFF | {"channel": 0.1}))
    gains = (gained / (image // 2)).reshape(-1, 3)
    np.testing.assert_allclose(gains, np.broadcast_to(gains[0], gains.shape), rtol=1e-5)
    assert len(set(gains[0].round(4).tolist())) == 3


def test_values_stay_in_the_range_stretched_to_the_window():
    image, truth, weight = window(nodata=0)
    strong = Augmentation(**OFF | {"brightness": 1, "noise": 1})
    for seed in range(8):
        varied, _, _ = vary((image, truth, weight), strong, seed=seed, value_range=(500.0, 1500.0))
        assert varied.min() >= image.min()
        assert varied.max() <= image.max()


@pytest.mark.parametrize("value", [RADIOMETRY["blur"], 8.0])
def test_blur_next_to_nodata_keeps_a_flat_field_flat(value):
    image, truth, weight = window(nodata=0.6)
    image[weight > 0] = 1000
    varied, _, _ = vary((image, truth, weight), Augmentation(**OFF | {"blur": value}))
    np.testing.assert_allclose(varied[weight > 0], 1000, rtol=1e-5)


@pytest.mark.parametrize("bands", [3, 20])
def test_zoom_moves_image_and_truth_together_and_borders_weigh_nothing(bands):
    # Bands are bright where their class is; after any zoom they still must be, but for pixels half and half.
    side = 40
    truth = np.zeros((side, side, 2), np.uint8)
    truth[:, 17:, 0] = truth[9:, :, 1] = 1
    band = np.arange(bands) % 2
    image = truth[..., band] * np.uint16(1000)
    scales = set()
    for seed in range(12):
        zoomed, moved, weight = vary(
            (image, truth, np.ones((side, side), np.float32)), Augmentation(**OFF | {"zoom": 1}), seed=seed, fill=55
        )
        inside = weight > 0
        assert (zoomed[~inside] == 55).all()
        assert not moved[~inside].any()
        bright = moved[inside][:, band] == 1
        assert (zoomed[inside][bright] > 499).all()
        assert (zoomed[inside][~bright] < 501).all()
        scales.add(round(float(inside.mean()), 2))
    assert min(scales) < 0.6
    assert max(scales) == 1


def test_zoom_keeps_nodata_at_its_value_and_out_of_its_neighbours():
    image, truth, weight = window(nodata=0)
    image[:] = 1000
    image[6:14, 6:14], weight[6:14, 6:14] = 7, 0
    for seed in range(6):
        zoomed, _, moved = vary((image, truth, weight), Augmentation(**OFF | {"zoom": 0.5}), seed=seed, fill=7)
        np.testing.assert_allclose(zoomed[moved > 0], 1000, rtol=1e-5)
        assert (zoomed[moved == 0] == 7).all()


def test_unlabelled_ground_is_varied_like_the_rest_where_the_caller_says_it_is_valid():
    image, truth, weight = window(nodata=0)
    weight[:, :12] = 0
    settings = Augmentation(**OFF | {"brightness": 0.2})
    varied, _, same = vary((image, truth, weight), settings, valid=np.ones(weight.shape, bool), value_range=(-9e3, 9e3))
    np.testing.assert_allclose(varied - image, (varied - image)[0, 0, 0], atol=1e-2)
    assert (varied != image).all()
    np.testing.assert_array_equal(same, weight)


def test_a_window_of_nodata_only_comes_back():
    image, truth, weight = window(nodata=1)
    varied, _, _ = vary((image, truth, weight), ALL, fill=7)
    assert (varied == 7).all()


def test_one_variation_does_not_disturb_the_others():
    parts = window(nodata=0)
    turned, same = (vary(parts, Augmentation(contrast=0, brightness=0, **rest)) for rest in ({}, {"channel": 0.2}))
    np.testing.assert_array_equal(turned[1], same[1])


@pytest.mark.parametrize("wrong", [{"brightness": -0.1}, {"zoom": 4}, {"blur": np.nan}, {"hue": 0.1}])
def test_settings_are_validated_and_frozen(wrong):
    with pytest.raises(ValidationError):
        Augmentation(**wrong)
    with pytest.raises(ValidationError):
        Augmentation().zoom = 1


def test_shapes_and_ranges_that_do_not_fit_are_refused():
    image, truth, weight = window()
    with pytest.raises(SettingError, match="share height and width"):
        vary((image, truth[1:], weight), ALL)
    with pytest.raises(SettingError, match="one number or 3"):
        vary((image, truth, weight), ALL, value_range=(np.zeros(2), np.ones(2)))
    with pytest.raises(SettingError, match="lowest first"):
        vary((image, truth, weight), ALL, value_range=(1, 0))
