"""Surveys: their statistics are NumPy's, their classes are those of the labels, and odd images are named."""

import cv2
import numpy as np
import pytest
import rasterio

from satmask.datasets import read_dataset
from satmask.datasets.dataset import Sample
from satmask.datasets.town import draw_town, write_scene
from satmask.errors import DataError
from satmask.labels import PolygonLabels
from satmask.legend import Legend
from satmask.survey import BLOCK, READ, SAMPLED, survey
from satmask.windows import Window

LEGEND = Legend.of(["a"])


def write(path, values, **options):
    height, width, count = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=values.dtype, **options
    ) as file:
        file.write(np.moveaxis(values, -1, 0))
    return Sample(path.stem, path, (height, width), PolygonLabels(LEGEND, (height, width), [], []))


def images(dtype, shapes, bands=3):
    random = np.random.default_rng(4)
    return [(random.random((*shape, bands)) * 200 + 1).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int16"])
@pytest.mark.parametrize("nodata", [None, 0])
def test_statistics_are_those_of_numpy(tmp_path, dtype, nodata):
    arrays = images(dtype, [(40, 50), (64, 64), (1, 7), (63, 65)], bands=5)
    if nodata is not None:
        arrays[0][10:30] = nodata
        arrays[1][:] = nodata
    seen = survey([write(tmp_path / f"{n}.tif", array, nodata=nodata) for n, array in enumerate(arrays)])
    values = np.concatenate([array.reshape(-1, 5) for array in arrays]).astype(np.float64)
    if nodata is not None:
        values = values[(values != nodata).any(axis=1)]
    assert all(len(array.reshape(-1, 5)) <= SAMPLED for array in arrays)
    assert (seen.smallest == values.min(axis=0)).all()
    assert (seen.largest == values.max(axis=0)).all()
    np.testing.assert_allclose(seen.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(seen.deviation, values.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose([seen.low, seen.high], np.percentile(values, (1, 99), axis=0), rtol=1e-12)
    assert (seen.labelled.sum(), seen.pixels) == (len(values), sum(array[..., 0].size for array in arrays))
    assert (seen.valid == seen.labelled).all()
    assert sorted(map(tuple, seen.values)) == sorted(map(tuple, values.astype(np.float32)))
    assert (seen.dtype, seen.shapes) == (np.dtype(dtype), [array.shape[:2] for array in arrays])


def test_extremes_see_every_pixel_of_large_images(tmp_path):
    (array,) = images("uint16", [(READ + 70, READ + 130)], bands=2)
    array[READ + 69, READ + 3] = 999, 0
    seen = survey([write(tmp_path / "a.tif", array)])
    assert seen.largest.tolist() == [999, array[..., 1].max()]
    assert seen.smallest.tolist() == [1, 0]
    np.testing.assert_allclose(seen.mean, array.reshape(-1, 2).mean(axis=0), rtol=0.02)
    np.testing.assert_allclose(seen.deviation, array.reshape(-1, 2).std(axis=0), rtol=0.05)


@pytest.mark.parametrize("name", ["naip", "mumbai", "buildings"])
def test_class_pixels_are_those_of_the_labels(data, name):
    samples = read_dataset(data / name).splits["val"][:25]
    seen = survey(samples)
    classes = len(samples[0].labels.legend)
    total, labelled = np.zeros((len(samples), classes), np.int64), []
    for index, sample in enumerate(samples):
        truth = sample.labels.read(Window(0, 0, *sample.shape))
        total[index] = truth.classes.sum(axis=(0, 1), dtype=np.int64)
        labelled.append(int(truth.labelled.sum()))
        for row, column in ((0, 0), (1, 2), (3, 3)):
            here = (seen.blocks.image == index) & (seen.blocks.row == row) & (seen.blocks.column == column)
            block = truth.classes[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]
            assert (seen.blocks.pixels[here].sum(axis=0) == block.sum(axis=(0, 1), dtype=np.int64)).all()
    assert (seen.class_pixels == total).all()
    assert seen.labelled.tolist() == labelled
    assert not seen.problems


def test_classes_under_nodata_are_not_counted(tmp_path):
    write_scene(draw_town(90, 80, seed=1), tmp_path, "town")
    (sample,) = read_dataset(tmp_path).splits["train"]
    before = survey([sample])
    with rasterio.open(sample.image) as file:
        values, profile = np.moveaxis(file.read(), 0, -1), {"crs": file.crs, "transform": file.transform}
    values[:, :40] = 0
    blank = write(tmp_path / "blank.tif", np.maximum(values, 1) * (values.any(axis=-1)[..., None]), nodata=0, **profile)
    seen = survey([Sample("blank", blank.image, sample.shape, sample.labels)])
    truth = sample.labels.read(Window(0, 40, 90, 40))
    assert (seen.class_pixels == truth.classes.sum(axis=(0, 1), dtype=np.int64)).all()
    assert (seen.class_pixels <= before.class_pixels).all()
    assert seen.labelled <= seen.valid == 90 * 40


def test_the_town_has_the_ground_sampling_it_was_drawn_with(tmp_path):
    write_scene(draw_town(60, 60, seed=1), tmp_path, "town")
    low, high = survey(read_dataset(tmp_path).splits["train"]).gsd_m
    assert low == high == pytest.approx(0.5, rel=0.01)


def test_odd_images_are_named_and_the_rest_is_used(tmp_path):
    samples = [write(tmp_path / f"good{n}.tif", array) for n, array in enumerate(images("uint16", [(20, 20)] * 3, 8))]
    odd = {
        "bands": write(tmp_path / "bands.tif", images("uint16", [(20, 20)], 4)[0]),
        "type": write(tmp_path / "type.tif", images("uint8", [(20, 20)], 8)[0]),
        "size": Sample("size", samples[0].image, (20, 21), samples[0].labels),
        "gone": Sample("gone", tmp_path / "gone.tif", (20, 20), samples[0].labels),
    }
    calls = []
    seen = survey([*odd.values(), *samples], progress=calls.append)
    assert [sample.name for sample in seen.samples] == ["good0", "good1", "good2"]
    assert [problem.where for problem in seen.problems] == list(odd)
    assert calls == [1] * 7
    assert (len(seen.bands), seen.dtype) == (8, np.uint16)


def test_bands_are_chosen(tmp_path):
    (array,) = images("uint8", [(20, 20)], 4)
    seen = survey([write(tmp_path / "a.tif", array)], bands=[4, 1])
    assert seen.indexes == (4, 1)
    np.testing.assert_allclose(seen.mean, array.reshape(-1, 4).mean(axis=0)[[3, 0]])


def test_nothing_usable_is_refused(tmp_path):
    blank = write(tmp_path / "a.tif", np.zeros((9, 9, 1), np.uint8), nodata=0)
    with pytest.raises(DataError, match="only nodata"):
        survey([blank])
    cv2.imwrite(str(tmp_path / "b.jpg"), np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:300])
    for samples in ([], [Sample("b", tmp_path / "b.jpg", (64, 64), blank.labels)]):
        with pytest.raises(DataError, match="at least one"):
            survey(samples)
