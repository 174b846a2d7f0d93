"""Spectral indices: formulas against their definitions, nodata, black pixels, integers, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmask.bands import INDICES, canonical_band, compute_index
from satmask.datasets.town import BANDS
from satmask.errors import SettingError

NAMES = sorted({band for index in INDICES.values() for band in index.bands})


def reflectances(seed=0, shape=(9, 11)):
    random = np.random.default_rng(seed)
    return {band: random.uniform(0.001, 1, shape) for band in NAMES}


@pytest.mark.parametrize("name", INDICES)
def test_value_is_that_of_the_formula_as_written(name):
    bands = reflectances()
    formula = INDICES[name].formula.replace("−", "-").replace("·", "*")
    for number in ("6 red", "7.5 blue", "2.4 red"):
        formula = formula.replace(number, number.replace(" ", " * "))
    expected, found = eval(formula, {}, bands), compute_index(name, bands)  # noqa: S307  # our own table's formula
    inside = np.abs(expected) < 1
    if name == "evi":  # haze brighter than the rest: its denominator is negative, its value a defined 0
        hazy = bands["nir1"] + 6 * bands["red"] - 7.5 * bands["blue"] + 1 <= 0
        assert hazy.any()
        assert not found[hazy].any()
        inside &= ~hazy
    assert inside.mean() > 0.3
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", INDICES)
@given(values=st.lists(st.floats(-1e30, 1e30), min_size=4, max_size=4))
def test_values_lie_in_the_range_whatever_comes(name, values):
    bands = dict.fromkeys(NAMES, np.array(values[:1]))
    bands |= {band: np.array([value]) for band, value in zip(INDICES[name].bands, values, strict=False)}
    with np.errstate(over="ignore"):
        found = compute_index(name, bands)
    assert -1 <= found[0] <= 1


@pytest.mark.parametrize("name", INDICES)
def test_black_is_zero_and_nodata_stays_nodata(name):
    bands = {band: np.array([0.0, np.nan, np.inf, 0.2]) for band in NAMES}
    bands[INDICES[name].bands[0]][3] = np.nan
    found = compute_index(name, bands)
    assert found[0] == 0
    assert np.isnan(found[1:]).all()


def test_integers_neither_overflow_nor_wrap():
    bands = {"red": np.array([250, 250, 65535], np.uint16), "nir1": np.array([255, 5, 65535], np.uint16)}
    wide = {band: values.astype(np.float64) for band, values in bands.items()}
    np.testing.assert_array_equal(compute_index("ndvi", bands), compute_index("ndvi", wide))
    small = {"red": np.array([250], np.uint8), "nir1": np.array([10], np.uint8)}
    assert compute_index("ndvi", small)[0] == pytest.approx(-240 / 260)


def test_ratios_need_no_scale_and_absolute_indices_do():
    counts = {band: np.round(2047 * values).astype(np.uint16) for band, values in reflectances().items()}
    for name, index in INDICES.items():
        if not index.absolute:
            np.testing.assert_allclose(
                compute_index(name, counts), compute_index(name, counts, scale=1 / 2047), rtol=2e-5, atol=1e-6
            )
            continue
        with pytest.raises(SettingError, match=rf"^Scale must be given for {name}, got none"):
            compute_index(name, counts)
        scaled = {band: values / 2047 for band, values in counts.items()}
        np.testing.assert_allclose(
            compute_index(name, counts, scale=1 / 2047), compute_index(name, scaled), rtol=1e-4, atol=1e-5
        )


def test_a_scale_a_band_brings_two_sensors_together():
    bands = reflectances()
    counts = {"green": bands["green"] * 2047, "swir3": bands["swir3"] * 16383}
    scaled = compute_index("mndwi", counts, scale={"Green": 1 / 2047, "SWIR3": 1 / 16383})
    np.testing.assert_allclose(scaled, compute_index("mndwi", bands), rtol=1e-4, atol=1e-6)
    with pytest.raises(SettingError, match="got none for swir3"):
        compute_index("mndwi", counts, scale={"green": 1 / 2047})


def test_bands_of_the_town_are_known_by_their_names():
    assert {canonical_band(band) for band in BANDS} == set(NAMES) - {"swir3"} | {"yellow"}
    for spelling in ("RED EDGE", "red_edge", "Red-Edge", "RedEdge", " red  edge "):
        assert canonical_band(spelling) == "red_edge"
    assert canonical_band("NIR") == canonical_band("NIR1") == "nir1"


def test_leaves_are_green_and_water_is_wet():
    # Reflectances as spectral libraries give them for grass and a lake.
    bands = dict(zip(BANDS, np.array([[2.8, 4.0], [3.6, 4.3], [7.9, 4.7], [7.1, 3.6], [5.6, 2.8], [22, 1.6], [42, 0.8],
                                      [45, 0.5]]) / 100, strict=True))  # fmt: skip
    for name in ("ndvi", "ndre", "evi", "evi2", "savi"):
        leaves, water = compute_index(name, bands)
        assert leaves > 0.15
        assert water < 0
    # A product of two negative numbers is positive: CCCI by itself doesn't tell water from leaves.
    assert compute_index("ccci", bands)[1] > 0
    for name in ("ndwi", "wvwi"):
        leaves, water = compute_index(name, bands)
        assert water > 0.5
        assert leaves < 0


@pytest.mark.parametrize(
    ("name", "bands", "message"),
    [
        ("ndvj", {}, r"^Index must be one of ndvi, .*, got 'ndvj'\.$"),
        ("ndvi", {"red": np.ones(2)}, r"^Bands for ndvi must hold nir1, red, got no nir1 in red\.$"),
        (
            "ndvi",
            {"red": np.ones(2), "nir": np.ones(3)},
            r"^Bands for ndvi must have one shape, got \(2,\) and \(3,\)\.$",
        ),
        ("ndvi", {"red": np.ones(2), "nir": np.ones(2), "NIR1": np.ones(2)}, r"got 'nir1' twice"),
    ],
)
def test_what_is_refused(name, bands, message):
    with pytest.raises(SettingError, match=message):
        compute_index(name, bands)
