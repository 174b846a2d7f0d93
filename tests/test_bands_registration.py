"""Registration: known shifts are found or declined, never made worse, whatever the bands; and what is kept of it."""

import json
import math

import cv2
import numpy as np
import pytest

from satmask.bands import Registration, chain, overlay, reduce, register, resample
from satmask.errors import DataError, SettingError

SIZE = 400


@pytest.fixture(scope="module")
def town():
    """Eight bands of a town, float32; pieces of it are cut at places of their own."""
    from satmask.datasets.town import draw_town

    return draw_town(SIZE + 80, SIZE + 80, seed=6, gsd_m=0.4, bands=8).image.astype(np.float32)


def pair(image, shift, *, factor=4, bands=(1, 2, 4, 6), seed=0):
    """A coarse product off by a shift, with noise of its own, and red, green and blue."""
    random = np.random.default_rng(seed)
    moved = resample(image[..., list(bands)], image.shape[:2], shift=(-shift[0], -shift[1]))[40:-40, 40:-40]
    coarse = reduce(moved, (round(SIZE / factor), round(SIZE / factor)))
    fixed = image[40:-40, 40:-40][..., [4, 2, 1]]
    return coarse + random.normal(0, 3, coarse.shape), fixed + random.normal(0, 5, fixed.shape)


def error(found, shift):
    return math.hypot(found.dx - shift[0], found.dy - shift[1])


@pytest.mark.parametrize(
    ("factor", "bands"), [(1, [3]), (2, range(8)), (4, range(8)), (4, [5, 6, 7]), (8, range(8)), (3.3, range(4))]
)
@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.3, -1.7), (-6.4, 9.1)])
def test_known_shifts_are_found_for_every_ratio_and_band(town, factor, bands, shift):
    moving, fixed = pair(town, shift, factor=factor, bands=bands)
    found = register(moving, fixed, limit_px=16, tolerance_px=max(0.3, 0.08 * factor))
    assert found.accepted, found.reason
    assert error(found, shift) <= max(0.3, 0.08 * factor)


def test_many_random_shifts_never_end_worse(town):
    random = np.random.default_rng(1)
    for seed in range(9):
        shift = tuple(random.normal(0, [0.1, 1, 4][seed % 3], 2))
        found = register(*pair(town, shift, seed=seed))
        assert error(found, shift) <= math.hypot(*shift) + 1e-9
        assert error(found, shift) <= 0.3 or not found.accepted


def test_the_other_way_round_is_the_opposite(town):
    moving, fixed = pair(town, (3.2, -4.4))
    there, back = register(moving, fixed), register(fixed, moving, limit_px=4, tolerance_px=0.1)
    assert there.accepted
    assert back.accepted
    assert -4 * back.dx == pytest.approx(there.dx, abs=0.05)
    assert -4 * back.dy == pytest.approx(there.dy, abs=0.05)


def test_the_shift_brings_the_product_into_place(town):
    moving, fixed = pair(town, (5.5, -3.25))
    found = register(moving, fixed)
    before, after = (resample(moving, fixed.shape[:2], shift=by) for by in ((0, 0), found.shift))
    red = cv2.GaussianBlur(fixed[..., 0], (0, 0), 2)[20:-20, 20:-20].ravel()
    likeness = [np.corrcoef(product[20:-20, 20:-20, 2].ravel(), red)[0, 1] for product in (before, after)]
    assert likeness[1] > likeness[0] + 0.1
    assert register(moving, fixed[..., 0]).shift == pytest.approx(found.shift, abs=0.1)


def test_brightness_and_sign_of_contrast_dont_matter(town):
    moving, fixed = pair(town, (2.0, 3.0))
    plain = register(moving, fixed)
    np.testing.assert_allclose(register(5000 - 3 * moving, fixed).shift, plain.shift, atol=1e-3)
    np.testing.assert_allclose(register(moving, fixed * 0.01 + 7).shift, plain.shift, atol=0.02)


def test_nodata_takes_pixels_away_but_changes_nothing_else(town):
    moving, fixed = pair(town, (2.0, 3.0))
    moving[:45], fixed[:, :80] = np.nan, np.nan
    assert error(register(moving, fixed), (2.0, 3.0)) < 0.3
    moving[:85] = np.nan
    assert not register(moving, fixed).accepted


def test_clouds_over_half_of_it_dont_matter(town):
    moving, fixed = pair(town, (-3.0, 1.5))
    lumps = cv2.GaussianBlur(np.random.default_rng(2).normal(size=moving.shape[:2]), (0, 0), 12)
    cover = cv2.GaussianBlur((lumps > np.median(lumps)).astype(np.float64), (0, 0), 2)[..., None]
    found = register(moving * (1 - cover) + 1700 * cover, fixed)
    assert error(found, (-3.0, 1.5)) < 0.3


def hopeless(town):
    """Pairs that nobody can bring into register, with the reason to be given."""
    random = np.random.default_rng(3)
    moving, fixed = pair(town, (1.0, 1.0))
    waves = 300 + 100 * np.sin(np.arange(SIZE) * 2 * np.pi / 24)
    lattice = (waves[:, None] * waves)[..., None] + random.normal(0, 5, (SIZE, SIZE, 1))
    water = cv2.GaussianBlur(random.normal(size=(SIZE, SIZE)).astype(np.float32), (0, 0), 40)[..., None] * 1000
    turned = cv2.warpAffine(moving, cv2.getRotationMatrix2D((50, 50), 3, 1), (100, 100))
    yield "noise", random.normal(300, 9, moving.shape), fixed, "no shift: "
    yield "flat", np.full(moving.shape, 300.0), fixed, "resembles"
    yield "both flat", np.full(moving.shape, 300), np.full(fixed.shape, 9), "resembles"
    yield "black", np.zeros(moving.shape, np.uint16), fixed, "resembles"
    yield "all nodata", np.full(moving.shape, np.nan), fixed, "known"
    yield "a lattice", reduce(lattice, (100, 100)), lattice, "no shift: "
    yield "mirrored", moving[:, ::-1], fixed, "no shift: "
    yield "turned", turned, fixed, "no shift: "
    noises = (random.normal(0, 5, shape) for shape in ((100, 100, 3), (SIZE, SIZE, 3)))
    yield "water", reduce(water, (100, 100)) + next(noises), water + next(noises), "no shift: "
    yield "too small", moving[:20, :20], fixed[:80, :80], "too small"
    yield "one pixel", moving[:1, :1], fixed[:1, :1], "too small"
    yield "too far", *pair(town, (25.0, 5.0)), "beyond the limit"


def test_what_nobody_can_tell_is_declined(town):
    for name, moving, fixed, reason in hopeless(town):
        found = register(moving, fixed)
        assert (found.accepted, found.shift) == (False, (0.0, 0.0)), name
        assert reason in found.reason, (name, found.reason)
        assert 0 <= found.score <= 1


def test_other_places_are_declined(town):
    from satmask.datasets.town import draw_town

    moving, _ = pair(town, (0.0, 0.0))
    other = draw_town(SIZE, SIZE, seed=7, gsd_m=0.4).image
    for turns in range(4):
        assert not register(moving, np.rot90(other, turns)).accepted


def test_a_limit_and_a_tolerance_are_kept(town):
    moving, fixed = pair(town, (6.0, 0.0))
    assert register(moving, fixed, limit_px=7).accepted
    assert "beyond the limit" in register(moving, fixed, limit_px=4).reason
    assert "parts of the scene disagree" in register(moving, fixed, tolerance_px=0.01).reason
    for settings in ({"limit_px": 0}, {"tolerance_px": -1}, {"limit_px": math.nan}):
        with pytest.raises(SettingError, match=r"^Limit and tolerance of a registration must be positive, got"):
            register(moving, fixed, **settings)
    with pytest.raises(SettingError, match=r"^Product must be of shape .*, got \(3,\)\.$"):
        register(np.ones(3), fixed)


def test_real_swir_bands_are_found_where_they_were_put(data):
    from satmask.scene import Scene
    from satmask.windows import Window

    for path in sorted((data / "dstl" / "sixteen_band").glob("*_A.tif"))[::4]:
        with Scene(path) as scene:
            bands = scene.raw(Window(0, 0, *scene.shape)).astype(np.float32)
        # SWIR 5 to 8 against 1 and 2, which are off by what the satellite left; moved by three whole pixels more.
        left = register(bands[:-3, 3:, 4:], bands[:-3, 3:, :2], tolerance_px=1)
        more = register(bands[:-3, 3:, 4:], bands[3:, :-3, :2], tolerance_px=1)
        assert left.accepted
        assert more.accepted
        assert more.dx - left.dx == pytest.approx(-3, abs=0.3)
        assert more.dy - left.dy == pytest.approx(3, abs=0.3)


def test_a_registration_survives_json():
    for found in (
        Registration(1.25, -0.5, 0.9, 0.2, accepted=True, reason="off by +1.25, -0.50 pixels"),
        Registration(0.0, 0.0, 0.0, math.inf, accepted=False, reason="no shift: ½"),
    ):
        text = json.dumps(found.to_dict(), allow_nan=False)
        assert Registration.from_dict(json.loads(text)) == found


@pytest.mark.parametrize(
    "change", [{"dx": None}, {"dy": "far"}, {"score": math.nan}, {"reason": ...}, {"dx": math.inf}]
)
def test_a_broken_registration_is_refused(change):
    content = Registration(1.0, 2.0, 0.5, 0.1, accepted=True, reason="").to_dict() | change
    content = {key: value for key, value in content.items() if value is not ...}
    with pytest.raises(DataError, match=r"^Registration must hold"):
        Registration.from_dict(content)


def test_the_picture_shows_both_and_the_shift(town):
    moving, fixed = pair(town, (8.0, -8.0))
    before, after = overlay(moving, fixed), overlay(moving, fixed, (8.0, -8.0))
    assert before.shape == after.shape == (SIZE, SIZE, 3)
    assert before.dtype == np.uint8
    side = SIZE // 8
    # The first square is the fixed product's and grey; the next one is the moving product's and orange.
    np.testing.assert_array_equal(before[:side, :side, 0], before[:side, :side, 2])
    np.testing.assert_array_equal(before[:side, :side], after[:side, :side])
    assert before[:side, side : 2 * side, 0].mean() > 1.5 * before[:side, side : 2 * side, 2].mean()
    assert (before[:side, side : 2 * side] != after[:side, side : 2 * side]).mean() > 0.5


def test_two_steps_end_where_one_does(town):
    coarse, fixed = pair(town, (9.0, -5.0), factor=8)
    middle, _ = pair(town, (2.0, 3.0), factor=2, seed=1)
    near, far = register(coarse, middle, tolerance_px=0.5), register(middle, fixed)
    joined = chain(near, far, scale=2.0)
    assert joined.accepted
    assert error(joined, (9.0, -5.0)) < 0.5
    lost = register(coarse[:10], middle)
    for first, second in ((lost, far), (near, lost)):
        declined = chain(first, second, scale=2.0)
        assert (declined.accepted, declined.shift, declined.reason) == (False, (0.0, 0.0), lost.reason)
