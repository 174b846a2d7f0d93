"""Laws of bands: each stretched by its own valid pixels, and what is shown as black and white is said."""

import numpy as np
import pytest
import rasterio

from satmask.band_sheets import band_sheet, composite
from satmask.errors import SettingError


@pytest.fixture
def random():
    return np.random.default_rng(4)


def shown(figure):
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]


def said(figure):
    return [axis.get_xlabel() for axis in figure.axes if axis.images]


@pytest.mark.parametrize("junk", [0, 65535, 700])
def test_nodata_changes_no_stretch(data, junk):
    with rasterio.open(data / "rasters" / "sentinel2_8band_uint16.tif") as source:
        image = source.read().transpose(1, 2, 0)
    valid = np.ones(image.shape[:2], bool)
    valid[:150] = False
    junked = np.where(valid[..., None], image, np.uint16(junk))
    expected = band_sheet(image, valid=valid)
    figure = band_sheet(junked, valid=valid)
    assert said(figure) == said(expected)
    assert all(np.array_equal(*pair) for pair in zip(shown(figure), shown(expected), strict=True))
    low, high = np.percentile(image[valid][:, 2], (2, 98))
    assert said(figure)[2].startswith(f"black {low:,.0f}, white {high:,.0f}")
    assert "nodata" in said(figure)[2]
    grey = shown(figure)[2][valid, 0]
    scaled = np.clip((image[valid][:, 2] - low) / (high - low), 0, 1) * 255
    assert np.abs(grey - scaled).max() <= 0.5 + 1e-6


def test_nodata_of_each_band_is_a_checkerboard_there_alone(random):
    image = random.uniform(0, 1, (50, 60, 3))
    image[:20, :30, 1] = np.nan
    first, second, third = shown(band_sheet(image))
    assert set(np.unique(second[:20, :30])) == {204, 232}
    assert len(np.unique(first[:20, :30])) > 100
    assert said(band_sheet(image))[1].endswith("20.0 % nodata")
    assert third.shape == (50, 60, 3)


def test_a_flat_band_is_grey_and_said_to_be_flat():
    image = np.full((40, 50, 2), 7.5)
    image[..., 1] = 0
    image[0, 0, 1] = 3  # a single speck: the percentiles are equal, the band isn't flat
    figure = band_sheet(image)
    assert (shown(figure)[0] == 128).all()
    assert said(figure) == ["flat: 7.5 everywhere", "nearly flat: black 0, white 3"]


def test_a_band_of_nothing_says_so():
    figure = band_sheet(np.full((9, 9), np.nan))
    assert said(figure) == ["no value · 100 % nodata"]
    assert shown(figure)[0].min() == 204


def test_bands_are_named_with_their_wavelengths():
    figure = band_sheet(np.zeros((9, 9, 3)), names=["a$b", "b", "c"], wavelengths_nm=[480, None, 2202.4])
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    assert titles == [r"a\$b · 480 nm", "b", "c · 2202.4 nm"]


def test_composite_takes_bands_by_name_and_number(random):
    image = random.integers(0, 255, (30, 40, 5), dtype=np.uint8)
    names = ["blue", "green", "red", "edge", "nir"]
    by_name, mixed = (composite(image, bands, names=names) for bands in (("nir", "red", "green"), (5, "red", 2)))
    assert np.array_equal(shown(by_name)[0], image[..., [4, 2, 1]])
    assert np.array_equal(shown(mixed)[0], image[..., [4, 2, 1]])
    assert by_name.get_suptitle() == "nir · red · green"
    assert [text.get_text() for text in by_name.legends[0].texts] == [
        "red: nir, 0 to 255", "green: red, 0 to 255", "blue: green, 0 to 255",
    ]  # fmt: skip


def test_composite_says_what_it_stretched_and_leaves_nodata_out(random):
    image = random.integers(200, 3000, (60, 60, 3), dtype=np.uint16)
    valid = random.random((60, 60)) < 0.6
    low, high = np.percentile(image[valid], (2, 98), axis=0)
    image[~valid] = 65535
    figure = composite(image, valid=valid, title="Scene")
    texts = [text.get_text() for text in figure.legends[0].texts]
    assert texts[1] == f"green: band 2, {low[1]:,.4g} to {high[1]:,.0f}"
    assert texts[-1] == "nodata"
    assert figure.get_suptitle() == "Scene: band 1 · band 2 · band 3"
    assert set(np.unique(shown(figure)[0][~valid])) == {204, 232}


def test_composite_of_one_band_thrice_is_grey(random):
    picture = shown(composite(random.uniform(0, 1, (20, 20)), (1, 1, 1)))[0]
    assert (picture == picture[..., :1]).all()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: band_sheet(np.zeros((4, 4, 21))),
        lambda: band_sheet(np.zeros((4, 4, 0))),
        lambda: band_sheet(np.zeros((4, 4, 2)), names=["a"]),
        lambda: band_sheet(np.zeros((4, 4, 2)), wavelengths_nm=[1, 2, 3]),
        lambda: composite(np.zeros((4, 4, 3)), (1, 2)),
        lambda: composite(np.zeros((4, 4, 3)), (0, 1, 2)),
        lambda: composite(np.zeros((4, 4, 3)), ("nir", 1, 2)),
    ],
)
def test_what_does_not_fit_is_refused(draw):
    with pytest.raises(SettingError, match=r"must .*got"):
        draw()
