"""Resampling and pan-sharpening: windows change no bit, what is reproduced exactly, and Wald's protocol."""

import cv2
import numpy as np
import pytest

from satmask.bands import Sharpening, apply_sharpening, fit_sharpening, reduce, resample, sharpen
from satmask.bands.fidelity import ergas, spectral_angle, universal_quality
from satmask.bands.sharpening import blur_pan
from satmask.errors import SettingError
from satmask.windows import Window, cover

SHAPE, COARSE = (97, 130), (24, 33)


def windows():
    return [Window(0, 0, 97, 130), Window(13, 50, 31, 17), Window(60, 0, 37, 130), Window(96, 129, 1, 1)]


def town(size=256):
    from satmask.datasets.town import draw_town

    return draw_town(size, size, seed=4, bands=8).image.astype(np.float32)


def coarse(image, factor):
    """What a detector with a transfer function of 0.3 at its Nyquist frequency makes of an image."""
    sigma = factor * np.sqrt(-2 * np.log(0.3)) / np.pi
    blurred = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return resample(blurred, (image.shape[0] // factor, image.shape[1] // factor))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.3, -7.61)])
def test_windows_of_a_resampled_product_are_parts_of_the_whole(shift):
    values = np.random.default_rng(0).integers(0, 2047, (*COARSE, 3)).astype(np.uint16)
    whole = resample(values, SHAPE, shift=shift)
    for window in windows():
        np.testing.assert_array_equal(resample(values, SHAPE, window=window, shift=shift), whole[window.slices])


def test_a_plane_with_slopes_is_resampled_exactly_and_shifted_by_the_shift():
    rows, columns = np.mgrid[: COARSE[0], : COARSE[1]] + 0.5
    values = 3 * rows * SHAPE[0] / COARSE[0] - 2 * columns * SHAPE[1] / COARSE[1]
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    found = resample(values, SHAPE, shift=(1.25, -0.5))
    inner = (slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(found[inner], (3 * (y - 0.5) - 2 * (x + 1.25))[inner], atol=1e-3)


def test_without_a_change_of_grid_nothing_changes():
    values = np.random.default_rng(1).random((7, 9, 2), np.float32)
    np.testing.assert_array_equal(resample(values, (7, 9)), values)
    np.testing.assert_array_equal(reduce(values, (7, 9)), values)


def test_windows_over_the_edge_repeat_it_and_far_shifts_show_it():
    values = np.arange(12.0).reshape(3, 4)
    outside = resample(values, (12, 16), window=Window(-9, -9, 4, 4))
    assert set(outside.ravel()) == {0.0}
    assert set(resample(values, (12, 16), shift=(1e9, 1e9)).ravel()) == {11.0}
    assert resample(values, (12, 16), window=Window(2, 2, 0, 5)).shape == (0, 5)


def test_nodata_reaches_only_what_is_made_of_it():
    values = np.ones((8, 8))
    values[2, 3] = np.nan
    np.testing.assert_array_equal(np.isnan(resample(values, (8, 8))), np.isnan(values))
    unknown = np.isnan(resample(values, (32, 32)))
    rows, columns = np.nonzero(unknown)
    assert unknown.any()
    assert rows.min() >= 4 * 2 - 6
    assert rows.max() < 4 * 3 + 6
    assert columns.max() < 4 * 4 + 6


def test_averages_keep_the_mean():
    values = np.random.default_rng(2).integers(0, 65535, (96, 130, 2)).astype(np.uint16)
    small = reduce(values, COARSE)
    np.testing.assert_allclose(small.mean(axis=(0, 1)), values.mean(axis=(0, 1)), rtol=1e-4)
    np.testing.assert_allclose(reduce(values, (48, 65)), values.reshape(48, 2, 65, 2, 2).mean(axis=(1, 3)), rtol=1e-5)


@pytest.mark.parametrize("method", ["brovey", "glp"])
def test_windows_of_a_sharpened_scene_are_parts_of_the_whole(method):
    random = np.random.default_rng(3)
    colour, pan = random.uniform(50, 900, (*COARSE, 4)), random.integers(1, 2047, SHAPE).astype(np.uint16)
    fitted = fit_sharpening(colour, pan, method=method, shift=(0.7, -1.2))
    whole = apply_sharpening(fitted, colour, pan, shift=(0.7, -1.2))
    assert whole.shape == (*SHAPE, 4)
    for window in [*windows(), *(tile.core for tile in cover(*SHAPE, size=32, halo=0, stride=1))]:
        part = apply_sharpening(fitted, colour, pan[window.slices], shape=SHAPE, window=window, shift=(0.7, -1.2))
        np.testing.assert_array_equal(part, whole[window.slices])


@pytest.mark.parametrize("method", ["brovey", "glp"])
def test_a_panchromatic_band_without_detail_adds_none(method):
    colour = np.full((*COARSE, 3), [100.0, 200.0, 50.0])
    found = sharpen(colour, np.full(SHAPE, 117.0), method=method)
    np.testing.assert_allclose(found, np.broadcast_to([100.0, 200.0, 50.0], found.shape), rtol=1e-4)


@pytest.mark.parametrize("method", ["brovey", "glp"])
def test_the_angle_of_every_spectrum_stays(method):
    image = town(64)
    colour, pan = coarse(image, 4), image[..., 1:6].mean(axis=-1)
    plain, sharp = resample(colour, pan.shape), sharpen(colour, pan, method=method)
    assert spectral_angle(sharp, plain) < 0.02
    assert not np.allclose(sharp, plain, rtol=0.05)


def test_wald_says_that_sharpening_helps_and_that_glp_is_no_worse_than_brovey():
    image = town()
    pan = image @ np.array([0, 0.12, 0.20, 0.17, 0.22, 0.18, 0.11, 0], np.float32)
    colour = coarse(image, 4)
    candidates = {"plain": resample(colour, pan.shape)}
    candidates |= {method: sharpen(colour, pan, method=method) for method in ("brovey", "glp")}
    errors = {name: ergas(found, image, ratio=4) for name, found in candidates.items()}
    quality = {name: universal_quality(found, image) for name, found in candidates.items()}
    assert errors["glp"] < 0.7 * errors["plain"]
    assert quality["glp"] > quality["plain"] + 0.05
    assert errors["glp"] <= errors["brovey"] * 1.01


def test_on_real_data_glp_beats_brovey(data):
    from satmask.scene import Scene

    with Scene(data / "rasters" / "multispectral_float64.tif") as scene:
        colour = scene.raw(Window(0, 0, *scene.shape))
    with Scene(data / "rasters" / "panchromatic_uint16.tif") as scene:
        pan = scene.raw(Window(0, 0, *scene.shape))[..., 0]
    # One step coarser than delivered, so that the delivered bands are the truth.
    low = blur_pan(pan, colour.shape[:2], mtf=0.15)
    small = np.stack([blur_pan(colour[..., band], (150, 150)) for band in range(4)], axis=-1)
    glp, brovey = (sharpen(small, low, method=method) for method in ("glp", "brovey"))
    assert ergas(glp, colour, ratio=2) < 0.95 * ergas(brovey, colour, ratio=2)
    assert universal_quality(glp, colour) > universal_quality(brovey, colour) + 0.01


def test_a_shift_known_is_a_shift_undone():
    image = town(160)
    pan = image[..., 1:6].mean(axis=-1)
    moved = resample(image, pan.shape, shift=(-6.0, 4.0))
    colour = coarse(moved, 4)
    inner = (slice(16, -16), slice(16, -16))
    blind, seeing = sharpen(colour, pan), sharpen(colour, pan, shift=(6.0, -4.0))
    assert ergas(seeing[inner], image[inner], ratio=4) < 0.6 * ergas(blind[inner], image[inner], ratio=4)


@pytest.mark.parametrize("method", ["brovey", "glp"])
def test_black_and_nodata_stay(method):
    colour, pan = np.full((8, 8, 2), 100.0), np.full((32, 32), 80.0)
    colour[0, 0], pan[20:, 20:] = 0, 0
    colour[7, 0], pan[0, 31] = np.nan, np.nan
    found = sharpen(colour, pan, method=method)
    assert np.isnan(found[31, 0]).all()
    assert np.isnan(found[0, 31]).all()
    assert np.isfinite(found[8:20, 8:20]).all()
    assert (np.abs(found[np.isfinite(found)]) < 2000).all()


def test_measures_are_perfect_for_equals_and_known_for_simple_errors():
    truth = np.random.default_rng(5).uniform(50, 100, (64, 64, 3))
    assert ergas(truth, truth, ratio=4) == spectral_angle(truth, truth) == 0
    assert universal_quality(truth, truth) == pytest.approx(1)
    assert spectral_angle(3 * truth, truth) == pytest.approx(0, abs=1e-5)
    assert ergas(1.1 * truth[:1], truth[:1], ratio=4) == pytest.approx(
        2.5 * np.sqrt(((truth[:1] ** 2).mean(axis=(0, 1)) / truth[:1].mean(axis=(0, 1)) ** 2).mean())
    )
    east, north = np.array([[[1.0, 0]]]), np.array([[[0, 2.0]]])
    assert spectral_angle(east, north) == pytest.approx(90)
    # Wang & Bovik: twice the brightness and contrast gives (2·2/5)² = 0.64.
    assert universal_quality(2 * truth, truth) == pytest.approx(0.64)


@pytest.mark.parametrize(
    ("colour", "pan", "settings", "message"),
    [
        ((8, 8, 3), (32, 32), {"method": "ihs"}, r"^Method of sharpening must be one of brovey, glp, got 'ihs'\.$"),
        ((8, 8), (32, 32), {}, r"^Multispectral product must be of shape \(height, width, bands\), got \(8, 8\)\.$"),
        ((8, 8, 3), (4, 32), {}, r"at least as fine as the product, got \(4, 32\) for \(8, 8\)\.$"),
        ((8, 8, 3), (32, 32), {"mtf": 1.0}, r"^MTF at the Nyquist frequency must lie between 0 and 1, got 1\.0\."),
    ],
)
def test_what_is_refused(colour, pan, settings, message):
    with pytest.raises(SettingError, match=message):
        fit_sharpening(np.ones(colour), np.ones(pan), **settings)


def test_pixels_of_another_size_than_their_window_are_refused():
    fitted = Sharpening("glp", np.ones((8, 8), np.float32))
    with pytest.raises(SettingError, match=r"must have the sides of their window, got \(5, 5\) for \(4, 5\)"):
        apply_sharpening(fitted, np.ones((8, 8, 3)), np.ones((5, 5)), shape=(32, 32), window=Window(0, 0, 4, 5))
