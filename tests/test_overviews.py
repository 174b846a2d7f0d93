"""Overviews of classes: GDAL's own, to the pixel."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from satmask import overviews
from satmask.overviews import add_class_overviews

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SHAPES = [(64, 96), (65, 64), (67, 101), (9, 1030), (1025, 90)]


def levels(path, factors):
    found = []
    for level in range(len(factors)):
        with rasterio.open(path, overview_level=level) as file:
            found.append(file.read(1))
    return found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("strip_px", [1, 1000, 1 << 22])
def test_overviews_are_those_of_gdal(tmp_path, monkeypatch, shape, dtype, strip_px):
    monkeypatch.setattr(overviews, "STRIP_PX", strip_px)
    random = np.random.default_rng(0)
    classes = np.kron(random.integers(0, 4, shape), np.ones((3, 2)))[: shape[0], : shape[1]].astype(dtype)
    noisy = random.random(shape) < 0.3
    classes[noisy] = random.choice([0, 1, 2, 3, 255], noisy.sum())
    profile = {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": 1, "dtype": dtype, "nodata": 255}
    ours, theirs, factors = tmp_path / "ours.tif", tmp_path / "theirs.tif", [2, 4, 8]
    for path in (ours, theirs):
        with rasterio.open(path, "w", **profile) as file:
            file.write(classes, 1)
    add_class_overviews(ours, factors)
    with rasterio.open(theirs, "r+") as file:
        file.build_overviews(factors, Resampling.mode)
    for found, expected in zip(levels(ours, factors), levels(theirs, factors), strict=True):
        np.testing.assert_array_equal(found, expected)
