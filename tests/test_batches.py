"""Batches: fixed by seed and epoch, whole in validation, and without weight where nothing is known."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import shapely

from satmask.augment import Augmentation
from satmask.batches import Reading, TrainingBatches, ValidationBatches, _draw_at_distances, _scaled
from satmask.datasets.dataset import Sample
from satmask.labels import PolygonLabels
from satmask.legend import Legend
from satmask.survey import survey
from satmask.upsampling import double
from satmask.windows import ClassBlocks, Window, draw_balanced

PLAIN = Augmentation(flips=False, turns=False, brightness=0, contrast=0)
LEGEND = Legend.of(["a", "b"])


@pytest.fixture
def samples(tmp_path):
    """Three 16-bit scenes of 5 bands and odd sizes, with nodata, an ignored square and two classes."""
    random, found = np.random.default_rng(2), []
    for number, (height, width) in enumerate([(70, 90), (33, 50), (100, 41)]):
        values = random.integers(1, 65535, (height, width, 5)).astype(np.uint16)
        values[:9, :12] = 0
        path = tmp_path / f"{number}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", height=height, width=width, count=5, dtype="uint16", nodata=0
        ) as file:
            file.write(np.moveaxis(values, -1, 0))
        shapes = [shapely.box(5, 5, 30, 30), shapely.box(20, 10, 25, 33), shapely.box(0, 20, 8, 28)]
        labels = PolygonLabels(LEGEND, (height, width), shapes, [0, 1, -1])
        found.append(Sample(str(number), path, (height, width), labels))
    return found


def reading(seen):
    return Reading(seen.indexes, tuple(seen.mean.round().tolist()), seen.smallest, seen.largest)


def training(samples, settings=Augmentation(noise=0.05), **changes):  # noqa: B008  # frozen
    seen = survey(samples)
    settled = {"size": 32, "count": 10, "batch": 4, "seed": 3, "epoch": 0} | changes
    return TrainingBatches(seen, reading(seen), settings, **settled)


def same(one, other):
    return all((a == b).all() for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("sampling", ["random", "balanced", "boundaries"])
def test_the_same_epoch_has_the_same_bytes(samples, sampling):
    first, again, later, other = (
        training(samples, sampling=sampling, epoch=epoch, seed=seed) for epoch, seed in ((1, 3), (1, 3), (2, 3), (1, 4))
    )
    batches = [first[step] for step in range(len(first))]
    # In any order, as by threads that read ahead.
    assert same(batches, [again[step] for step in reversed(range(len(again)))][::-1])
    assert not same(batches, [later[step] for step in range(len(later))])
    assert not same(batches, [other[step] for step in range(len(other))])


def test_the_same_window_is_varied_anew_each_epoch(samples):
    small = [Sample("1", samples[1].image, (33, 50), samples[1].labels)]
    first, later = (training(small, size=64, count=4, epoch=epoch) for epoch in (0, 1))
    assert {window for _, window, _ in first.draws + later.draws} == {Window(0, 0, 64, 64)}
    images = [*first[0][0], *later[0][0]]
    assert len({image.tobytes() for image in images}) == 8


def test_epochs_are_whole_batches(samples):
    batches = training(samples)
    assert len(batches) == 3
    for step in range(3):
        image, truth, weight = batches[step]
        assert (image.shape, truth.shape, weight.shape) == ((4, 32, 32, 5), (4, 32, 32, 2), (4, 32, 32))
        assert (image.dtype, truth.dtype, weight.dtype) == (np.float32, np.uint8, np.float32)


def whole(sample):
    """A scene as it is in the file, with its truth and weight."""
    with rasterio.open(sample.image) as file:
        values = np.moveaxis(file.read(), 0, -1)
    truth = sample.labels.read(Window(0, 0, *sample.shape))
    return values, truth.classes, truth.labelled & values.any(axis=-1)


def test_values_arrive_as_they_are_in_the_file(samples):
    batches = training(samples, PLAIN)
    for step in range(len(batches)):
        for place, (image, truth, weight) in enumerate(zip(*batches[step], strict=True), start=step * 4):
            index, window, _ = batches.draws[place]
            values, classes, known = whole(samples[index])
            height, width = values[window.slices].shape[:2]
            assert (weight[:height, :width] == known[window.slices]).all()
            assert weight.sum() == known[window.slices].sum()
            assert (truth[:height, :width] == classes[window.slices]).all()
            valid = values[window.slices].any(axis=-1)
            assert (image[:height, :width][valid] == values[window.slices][valid]).all()
            assert (image[:height, :width][~valid] == batches.reading.fill).all()
            assert (image[height:] == batches.reading.fill).all()


@pytest.mark.parametrize("seed", range(3))
def test_varied_windows_learn_nothing_from_the_unknown(samples, seed):
    """Geometry moves the weight along: as many pixels have weight as before, and fill has none."""
    settings = Augmentation(brightness=0.5, contrast=0.5, channel=0.3, noise=0.05)
    varied, plain = (training(samples, chosen, seed=seed) for chosen in (settings, PLAIN))
    for step in range(len(varied)):
        for one, other in zip(zip(*varied[step], strict=True), zip(*plain[step], strict=True), strict=True):
            assert one[2].sum() == other[2].sum()
            assert (one[1] * one[2][..., None]).sum() == (other[1] * other[2][..., None]).sum()
            filled = (one[0] == varied.reading.fill).all(axis=-1)
            assert filled.sum() == (other[0] == plain.reading.fill).all(axis=-1).sum()
            assert not one[2][filled].any()


@pytest.mark.parametrize(("size", "batch"), [(32, 4), (64, 1), (16, 7), (128, 2)])
def test_validation_sees_each_pixel_once(samples, size, batch):
    seen = survey(samples)
    batches = ValidationBatches(samples, reading(seen), size=size, batch=batch)
    touched = {sample.name: np.zeros(sample.shape) for sample in samples}
    content = [batches[step] for step in range(len(batches))]
    assert {(image.shape, truth.shape, weight.shape) for image, truth, weight in content} == {
        ((batch, size, size, 5), (batch, size, size, 2), (batch, size, size))
    }
    weights = np.concatenate([weight for _, _, weight in content])
    for weight, (sample, window) in zip(weights, batches.places, strict=False):
        height, width = touched[sample.name][window.slices].shape
        touched[sample.name][window.slices] += weight[:height, :width]
        assert weight.sum() == weight[:height, :width].sum()
    for sample in samples:
        assert (touched[sample.name] == whole(sample)[2]).all()
    assert not weights[len(batches.places) :].any()


@pytest.mark.parametrize("settings", [PLAIN, Augmentation(noise=0.05, zoom=0.5)])
def test_where_pixels_are_seen_as_four_windows_are_the_same_enlarged(samples, settings):
    seen = survey(samples)
    plain, larger = reading(seen), replace(reading(seen), upsampling=2)
    settled = {"size": 16, "count": 8, "batch": 4, "seed": 3, "epoch": 0}
    pairs = [
        [TrainingBatches(seen, one, settings, **settled) for one in (plain, larger)],
        [ValidationBatches(samples, one, size=16, batch=4) for one in (plain, larger)],
    ]
    for whole, enlarged in pairs:
        assert len(whole) == len(enlarged) > 1
        for step in range(len(whole)):
            (image, truth, weight), (image2, truth2, weight2) = whole[step], enlarged[step]
            assert image2.shape[1:3] == truth2.shape[1:3] == weight2.shape[1:3] == (32, 32)
            np.testing.assert_array_equal(image2, double(image))
            for layer, larger in ((truth, truth2), (weight, weight2)):
                np.testing.assert_array_equal(larger, layer.repeat(2, axis=1).repeat(2, axis=2))


def test_balanced_windows_hold_the_classes(samples):
    batches = training(samples, PLAIN, sampling="balanced", count=24, size=64)
    truths = np.concatenate([batches[step][1] for step in range(len(batches))])
    assert truths[..., 1].any(axis=(1, 2)).mean() >= 0.5


@pytest.mark.parametrize(
    "settings", [{"cutmix": 1}, {"paste": 1}, {"zoom": 3}, {"cutmix": 0.5, "paste": 0.5, "zoom": 2}]
)
def test_composed_and_scaled_windows_are_fixed_by_the_seed_and_learn_nothing_from_the_unknown(samples, settings):
    settings = Augmentation(**PLAIN.model_dump() | settings)
    first, again = (training(samples, settings, count=16) for _ in range(2))
    assert same([first[step] for step in range(4)], [again[step] for step in reversed(range(4))][::-1])
    for step in range(4):
        image, truth, weight = first[step]
        assert (image.shape, truth.shape, weight.shape) == ((4, 32, 32, 5), (4, 32, 32, 2), (4, 32, 32))
        assert not weight[(image == first.reading.fill).all(axis=-1)].any()


def test_zoomed_out_windows_read_more_ground_in_place_of_fill(samples):
    """Where the image is large enough nothing is filled; the files have nodata in one corner only."""
    sample = Sample("0", samples[0].image, (70, 90), samples[0].labels)
    look = Reading((1, 2, 3, 4, 5), (0.0,) * 5, np.zeros(5), np.full(5, 65535.0))
    zoom, sides = Augmentation(**PLAIN.model_dump() | {"zoom": 3}), set()
    for seed in range(40):
        image, _, weight = look.read(sample, Window(40, 50, 16, 16), settings=zoom, seed=(seed,))
        place = _scaled(Window(40, 50, 16, 16), (70, 90), zoom, seed=(seed,))
        sides.add(place.height)
        assert place.clip(70, 90) == place
        assert image.shape == (16, 16, 5)
        known = whole(sample)[2][place.slices]
        assert abs(weight.mean() - known.mean()) < 0.15
    assert min(sides) <= 5
    assert max(sides) > 48


def test_a_zoomed_window_shows_what_the_file_holds(samples):
    """Twice as fine: every pixel of the part that was read comes up in a square."""
    look = Reading((1,), (0.0,), np.zeros(1), np.full(1, 65535.0))
    zoom = Augmentation(**PLAIN.model_dump() | {"zoom": 3})
    values, classes, _ = whole(samples[0])
    for seed in range(8):
        place = _scaled(Window(20, 20, 32, 32), (70, 90), zoom, seed=(seed,))
        image, truth, _ = look.read(samples[0], Window(20, 20, 32, 32), settings=zoom, seed=(seed,))
        near = (2 * np.arange(32) + 1) * place.height // 64
        np.testing.assert_array_equal(truth, classes[place.slices][near][:, near])
        if place.height > 32:
            assert image.mean() == pytest.approx(values[place.slices][..., 0].mean(), rel=0.15)


def look_at(gsds_m, shapes=None):
    """What a survey tells of images with these distances."""
    shapes = shapes or [(9999, 9999)] * len(gsds_m)
    return SimpleNamespace(gsds_m=np.array(gsds_m), shapes=shapes)


def distances(found, gsds_m):
    return np.array([gsds_m[index] / scale for index, _, scale in found])


@pytest.mark.parametrize("own", [[0.1], [0.3], [1.2], [0.1, 0.3, 1.2], [0.15, 0.15], [0.3, math.nan]])
def test_windows_come_at_every_distance_asked_for_whatever_the_images(own):
    """As many below the middle of the logarithms as above; those of coarse images end at twice their detail."""
    told = [one for one in own if math.isfinite(one)]
    found = list(_draw_at_distances(look_at(own), (0.2, 0.8), count=400, seed=(3,), size=64, sampling="random"))
    seen = distances([one for one in found if math.isfinite(own[one[0]])], own)
    finest = max(0.2, min(told) / 2)
    assert finest <= seen.min() < finest * 1.1
    assert max(0.8, min(told) / 2) / 1.1 < seen.max() <= max(0.8, min(told) / 2)
    if len(told) == len(own):
        assert np.mean(seen < 0.4) == pytest.approx(0 if min(own) > 0.8 else 0.5, abs=0.1)


def test_a_distance_is_shown_by_images_that_are_as_fine_by_how_much_ground_they_hold():
    """The same ground thrice; only the finest image shows 0.07 to 0.15 m, and beyond 0.3 m all do so equally often."""
    own = [0.075, 0.15, 0.3]
    seen = look_at(own, [(8000, 8000), (4000, 4000), (2000, 2000)])
    found = list(_draw_at_distances(seen, (0.05, 0.6), count=3000, seed=(1, 2), size=64, sampling="random"))
    wanted, chosen = distances(found, own), np.array([index for index, _, _ in found])
    assert wanted.min() == pytest.approx(0.05, rel=0.01)
    assert set(chosen[wanted < 0.13]) == {0}
    assert set(chosen[(wanted > 0.15) & (wanted < 0.27)]) == {0, 1}
    counts = np.bincount(chosen[wanted > 0.3])
    assert counts.max() < 1.15 * counts.min()
    assert not (np.diff(wanted) > 0).all(), "a batch must hold several distances"


def test_a_scaled_window_reads_as_much_ground_as_its_scale_says():
    window = Window(0, 0, 64, 64)
    for scale in (0.25, 0.7, 1.0, 2.0):
        place = _scaled(window, (9999, 9999), PLAIN, scale=scale, seed=(1,))
        assert (place.height, place.width) == (round(64 / scale), round(64 / scale))
    assert _scaled(window, (99, 99), Augmentation(gsd_m=(0.2, 0.8)), seed=(1,)) == window


def test_classes_that_no_image_of_a_distance_holds_are_left_out():
    """The coarse image holds the only water, and can't show fine windows."""
    blocks = ClassBlocks(
        8, *(np.array([0, 1], np.int32), np.zeros(2, np.int32), np.zeros(2, np.int32)), np.diag([64, 64])
    )
    shapes = [(64, 64), (64, 64)]
    drawn = list(draw_balanced(blocks, shapes, size=8, count=20, seed=(1,), weights=np.array([1.0, 0.0])))
    assert {index for index, _ in drawn} == {0}


def test_pixels_at_edges_weigh_more_in_training(samples):
    plain, weighed = (training(samples, PLAIN, edges=edges) for edges in ((0.0, 5.0), (10.0, 2.0)))
    for step in range(len(plain)):
        one, other = plain[step][2], weighed[step][2]
        np.testing.assert_array_equal(one > 0, other > 0)
        assert (other >= one).all()
        assert other.max() == pytest.approx(11)


def test_windows_at_boundaries_come_up_more_often(samples):
    def mixture(sampling):
        batches = training(samples, PLAIN, sampling=sampling, count=80, size=16)
        truths = np.concatenate([batches[step][1] for step in range(len(batches))])
        shares = truths.mean(axis=(1, 2))
        return (shares * (1 - shares)).sum(axis=1).mean()

    assert mixture("boundaries") > 1.15 * mixture("random")
