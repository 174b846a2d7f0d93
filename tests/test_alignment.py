"""Alignment: known shifts are found, aligned labels are left alone, and what can't matter doesn't."""

import numpy as np
import pytest

from satmask import alignment
from satmask.alignment import Alignment, combine, measure_shift
from satmask.datasets import read_dataset
from satmask.datasets.town import draw_town
from satmask.datasets.town.drawing import BUILDING, ROAD
from satmask.errors import SettingError
from satmask.scene import open_scene
from satmask.windows import Window

SHIFTS = [(2, 0), (0, -3), (-4, 3), (5, 6), (-8, -2), (10, -9)]


@pytest.fixture(scope="module")
def town():
    """Image and classes of a town, of sides that are multiples of no block."""
    drawn = draw_town(300, 340, seed=5)
    return drawn.image, np.stack([drawn.truth(id_) for id_ in (BUILDING, ROAD)], axis=-1).astype(np.uint8)


def everywhere(image):
    return np.ones(image.shape[:2], bool)


def misplace(image, classes, dx, dy, margin=12):
    """Cut image and labels so that the labels have to be moved by `dx` and `dy` to lie right."""
    height, width = image.shape[:2]
    cut = (slice(margin, height - margin), slice(margin, width - margin))
    moved = (slice(margin + dy, height - margin + dy), slice(margin + dx, width - margin + dx))
    return image[cut], classes[moved]


def measure(image, classes, **settings):
    return measure_shift(image, classes, everywhere(image), **settings)


def same(one, other, tolerance=1e-4):
    scale = np.abs(other.surface).max()
    assert scale > 1
    np.testing.assert_allclose(one.surface / scale, other.surface / scale, atol=tolerance)
    np.testing.assert_allclose(one.spread, other.spread, atol=tolerance * other.spread.max())
    assert one.boundary_px == pytest.approx(other.boundary_px, rel=tolerance)


@pytest.mark.parametrize("shift", SHIFTS)
def test_known_shifts_are_found_to_half_a_pixel(town, shift):
    found = measure(*misplace(*town, *shift))
    assert found.is_shifted
    assert found.verdict == "shifted"
    assert (found.dx, found.dy) == pytest.approx(shift, abs=0.5)
    assert found.gain > 0.05


def test_aligned_labels_are_called_aligned(town):
    found = measure(*town)
    assert found.verdict == "aligned"
    assert found.shift < 0.5
    assert not found.is_shifted


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_town_is_flagged_unmoved(seed):
    drawn = draw_town(200, 200, seed=seed, bands=8)
    classes = np.stack([drawn.truth(id_) for id_ in drawn.legend.ids], axis=-1).astype(np.uint8)
    found = measure(drawn.image, classes)
    assert not found.is_shifted
    assert found.shift < 1


def test_a_fraction_of_a_pixel_is_seen(town):
    image = np.asarray(town[0], np.float32)
    halved = (image + np.roll(image, 1, axis=1)) / 2  # as if everything lay half a pixel further right
    found, before = measure(halved, town[1]), measure(*town)
    assert found.dx - before.dx == pytest.approx(0.5, abs=0.2)
    assert found.dy - before.dy == pytest.approx(0.0, abs=0.1)


def test_flipping_image_and_labels_flips_the_shift(town):
    image, classes = (part[:272, :304] for part in misplace(*town, 5, -3))  # whole blocks, so that flips keep them
    upright = measure(image, classes)
    mirrored = measure(image[:, ::-1], classes[:, ::-1])
    same(mirrored, Alignment(upright.surface[:, ::-1], upright.spread[:, ::-1], upright.boundary_px))
    assert (mirrored.dx, mirrored.dy) == pytest.approx((-upright.dx, upright.dy), abs=1e-3)
    turned = measure(image.swapaxes(0, 1), classes.swapaxes(0, 1))
    assert (turned.dx, turned.dy) == pytest.approx((upright.dy, upright.dx), abs=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image + 1000.0,
        lambda image: image * 1e-6,
        lambda image: image.astype(np.uint16) * 200 + 7,
        lambda image: image * np.array([1.0, 50.0, 1e30]),
        lambda image: image[..., ::-1],
        lambda image: 255 - image,
        lambda image: np.concatenate([image, np.full_like(image[..., :1], 77)], axis=-1),
    ],
    ids=["brighter", "darker", "uint16", "units", "order", "negative", "constant band"],
)
def test_brightness_units_and_order_of_bands_do_not_matter(town, change):
    same(measure(change(town[0]), town[1]), measure(*town), tolerance=1e-3)


@pytest.mark.parametrize("fill", [0.0, 65535.0, np.nan])
def test_nodata_borders_change_nothing(town, fill):
    around = ((16, 32), (48, 16), (0, 0))
    image = np.pad(town[0].astype(np.float32), around, constant_values=fill)
    classes = np.pad(town[1], around, constant_values=1)
    valid = np.pad(everywhere(town[0]), around[:2])
    same(measure(image, classes, valid=valid), measure(*town))


def test_values_that_are_not_finite_are_nodata(town):
    image, hole = town[0].astype(np.float32), everywhere(town[0])
    hole[100:140, 60:200] = False
    image[~hole, 1] = np.inf
    same(measure(image, town[1]), measure(*town, valid=hole))


def test_what_is_unlabelled_has_no_boundary(town):
    image, classes = town
    labelled = everywhere(image)
    labelled[:, 200:] = labelled[90:120] = False
    found = measure_shift(image, classes, labelled)
    wild = np.where(labelled[..., None], classes, np.indices(labelled.shape).sum(axis=0)[..., None] % 2)
    same(measure_shift(image, wild.astype(np.uint8), labelled), found)
    assert 0 < found.boundary_px < measure(image, classes).boundary_px


def test_the_edge_of_the_tile_is_no_boundary(town):
    whole = np.ones_like(town[1])
    assert measure(town[0], whole).boundary_px == 0
    assert measure(town[0], whole).verdict == "can't tell"


def test_the_boundary_has_the_length_of_its_square():
    classes = np.zeros((128, 128, 1), np.uint8)
    classes[40:90, 30:100] = 1
    assert measure(np.zeros((128, 128, 1)), classes).boundary_px == pytest.approx(240, rel=0.02)


def test_the_surface_is_the_sum_over_the_boundary_at_every_shift(town):
    """Block by block in the frequency domain, and shift by shift in plain sums."""
    image, classes, reach = town[0][:90, :100], town[1][:90, :100], 6
    known = everywhere(image)
    usable = np.zeros_like(known)
    usable[10:-10, 10:-10] = True
    boundary, _ = alignment._boundary(classes, usable)
    edges = alignment._edges(image, known)
    found = measure(image, classes, max_shift=reach)
    maps = {
        (dx, dy): (boundary * np.roll(edges, (-dy, -dx), (1, 2))).sum(axis=0)
        for dx in range(-reach, reach + 1)
        for dy in range(-reach, reach + 1)
    }
    for (dx, dy), agreement in maps.items():
        assert found.surface[reach + dy, reach + dx] == pytest.approx(agreement.sum(), abs=1e-2)
        padded = np.pad(agreement - maps[0, 0], ((0, 6), (0, 12))).reshape(6, 16, 7, 16)
        spread = np.square(padded.sum(axis=(1, 3))).sum()
        assert found.spread[reach + dy, reach + dx] == pytest.approx(spread, rel=1e-2, abs=1e-2)


def test_noise_tells_nothing(town):
    classes = town[1][:200, :200]
    noise = np.random.default_rng(0).normal(size=(20, *classes.shape[:2], 1))
    assert {measure(image, classes).verdict for image in noise} == {"can't tell"}


def test_labels_of_another_town_are_not_flagged(town):
    classes = town[1]
    verdicts = [measure(draw_town(*classes.shape[:2], seed=seed).image, classes).verdict for seed in (7, 8)]
    assert verdicts == ["can't tell"] * 2


def test_one_house_is_too_little():
    image, classes = np.zeros((96, 96, 1)), np.zeros((96, 96, 1), np.uint8)
    image[44:52, 50:58] = 9
    classes[44:52, 44:52] = 1
    found = measure(image, classes)
    assert (found.dx, found.dy) == pytest.approx((6, 0), abs=0.5)
    assert found.verdict == "can't tell"


def test_weak_tiles_make_strong_evidence(town):
    image, classes = misplace(*town, 4, -3)
    tiles = [
        measure(image[row : row + 64, column : column + 64], classes[row : row + 64, column : column + 64], max_shift=8)
        for row in range(0, 256, 64)
        for column in range(0, 256, 64)
    ]
    assert not any(tile.is_shifted for tile in tiles)
    together = combine(tiles)
    assert together.is_shifted
    assert (together.dx, together.dy) == pytest.approx((4, -3), abs=0.7)


def test_alignments_add(town):
    one, other = measure(*town), measure(*misplace(*town, 3, 3))
    total = one + other
    np.testing.assert_array_equal(total.surface, one.surface + other.surface)
    np.testing.assert_array_equal(total.spread, combine([other, one]).spread)
    assert total.boundary_px == one.boundary_px + other.boundary_px
    twice = one + one
    assert twice.gain == one.gain
    assert (twice.dx, twice.dy) == (one.dx, one.dy)


def test_twice_the_evidence_is_more_significant_by_the_root_of_two(town):
    found = measure(*misplace(*town, 5, 1))
    assert (found + found).significance == pytest.approx(2**0.5 * found.significance)


def peak_at(row, column, height=10.0):
    surface = np.zeros((9, 9))
    surface[row, column] = height
    return Alignment(surface, np.ones((9, 9)), 100.0)


def test_a_best_shift_at_the_rim_is_not_believed():
    assert peak_at(4, 7).is_shifted
    assert not peak_at(4, 8).is_shifted
    assert not peak_at(0, 2).is_shifted


def test_a_best_shift_with_a_rival_is_not_believed():
    """Rows of equal houses fit as well one house further."""
    both = peak_at(1, 2, 10.0) + peak_at(6, 6, 9.5)
    assert both.significance > 4
    assert both.rival == 0.95
    assert not both.is_shifted
    assert (peak_at(1, 2, 10.0) + peak_at(6, 6, 8.0)).is_shifted


def test_the_rule_asks_for_significance_and_length():
    assert peak_at(2, 2, 4.1).is_shifted
    assert not peak_at(2, 2, 3.9).is_shifted
    assert not peak_at(4, 5).is_shifted
    assert peak_at(2, 2).gain == 0.1


@pytest.mark.parametrize(("height", "verdict"), [(3.5, "aligned"), (2.5, "can't tell")])
def test_labels_are_aligned_only_if_far_shifts_are_clearly_worse(height, verdict):
    assert peak_at(4, 4, height).verdict == verdict


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float64, np.bool_])
def test_a_constant_image_tells_nothing(town, dtype):
    found = measure(np.full(town[0].shape, 3, dtype), town[1])
    assert found.verdict == "can't tell"
    assert (found.dx, found.dy, found.gain, found.significance) == (0, 0, 0, 0)


def test_nothing_valid_tells_nothing(town):
    found = measure(*town, valid=np.zeros(town[0].shape[:2], bool))
    assert (found.boundary_px, found.verdict) == (0, "can't tell")


def test_tiles_smaller_than_the_shift_tell_nothing():
    found = measure(np.ones((5, 300, 3)), np.ones((5, 300, 1), np.uint8))
    assert (found.boundary_px, found.verdict) == (0, "can't tell")


def test_arrays_that_do_not_fit_are_refused(town):
    image, classes = town
    with pytest.raises(SettingError, match="share height and width"):
        measure_shift(image, classes[:-1], everywhere(image))
    with pytest.raises(SettingError, match="share height and width"):
        measure_shift(image[..., 0], classes, everywhere(image))
    with pytest.raises(SettingError, match="2 to 64"):
        measure(image, classes, max_shift=1)
    with pytest.raises(SettingError, match="share max_shift"):
        measure(image, classes) + measure(image, classes, max_shift=4)
    with pytest.raises(SettingError, match="at least one"):
        combine([])
    with pytest.raises(SettingError, match="odd side"):
        Alignment(np.zeros((4, 4)), np.zeros((4, 4)), 0.0)


@pytest.fixture(scope="module")
def buildings(data):
    return [sample for part in read_dataset(data / "buildings").splits.values() for sample in part]


@pytest.mark.parametrize("place", ["catanduanes", "dhaka"])
def test_a_real_place_is_aligned_until_it_is_moved(buildings, place):
    samples = [sample for sample in buildings if sample.name.startswith(place)][-8:]
    unmoved, moved = [], []
    for sample in samples:
        window = Window(0, 0, *sample.shape)
        image, truth = open_scene(sample.image).read(window).values, sample.labels.read(window)
        unmoved.append(measure_shift(image, truth.classes, truth.labelled))
        moved.append(measure(*misplace(image, truth.classes, 6, -5)))
    assert not any(found.is_shifted for found in unmoved)
    assert combine(unmoved).verdict == "aligned"
    together = combine(moved)
    assert together.is_shifted
    assert (together.dx, together.dy) == pytest.approx((6, -5), abs=1)
