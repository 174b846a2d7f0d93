"""`satmask polygons` with flags that shape: the library's features, and each step told."""

import json

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS

from satmask.cleaning import Cleaning
from satmask.cli import main
from satmask.features import Shaping, find_features
from satmask.grid import Grid
from satmask.legend import Legend

GRID = Grid(90, 120, Affine(0.25, 0, 500_000, 0, -0.25, 4_000_000), CRS("EPSG:32633"))
FLAGS = ("--min-area-m2", "2", "--min-hole-m2", "1", "--open-m", "0.3", "--separate-m", "0.5", "--simplify-m", "0.3")


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


@pytest.fixture
def raster(tmp_path):
    """Two discs that touch, a house with a pinhole, and a speck."""
    rows, columns = np.mgrid[:90, :120]
    mask = (np.hypot(rows - 30, columns - 30) < 20) | (np.hypot(rows - 30, columns - 62) < 15)
    mask |= (np.abs(rows - 70) < 12) & (np.abs(columns - 80) < 25) & ((rows != 70) | (columns != 80))
    mask[2, 110] = True
    settings = {
        "crs": "EPSG:32633",
        "transform": GRID.transform,
        "dtype": "uint8",
        "count": 1,
        "height": 90,
        "width": 120,
    }
    with rasterio.open(tmp_path / "ids.tif", "w", **settings) as file:
        file.write(mask.astype(np.uint8), 1)
    return tmp_path / "ids.tif", mask.astype(np.uint8)


def test_flags_are_the_librarys_settings_and_steps_are_told(raster, tmp_path, capsys):
    path, mask = raster
    code, out, _ = run(capsys, "polygons", path, "--out", tmp_path / "a.gpkg", *FLAGS, "--square", "--json")
    shaping = Shaping(Cleaning(0.3, 0, 1, 2), separate_depth=0.5, simplify_m=0.3, square=True)
    expected = find_features(mask, GRID, Legend.of(["class 1"]), shaping=shaping)
    assert code == 0
    assert json.loads(out)["steps"] == [step.to_dict() for step in expected.steps]
    assert [step.polygons for step in expected.steps] == [3, 2, 3, 3, 3]
    found = geopandas.read_file(tmp_path / "a.gpkg")
    assert found["right_angles"].tolist() == expected.frame["right_angles"].tolist()
    assert found["right_angles"].sum() == 1
    assert found.geometry.geom_equals_exact(expected.frame.geometry, 1e-6).all()


def test_people_read_the_steps_beside_the_results(raster, tmp_path, capsys):
    code, out, err = run(capsys, "polygons", raster[0], "--out", tmp_path / "a.gpkg", "--simplify-m", "0.4")
    assert code == 0
    assert "3 polygons written" in out
    assert "satmask: traced: 3 polygons" in err
    assert "satmask: simplified: 3 polygons" in err


def test_metres_must_have_a_place(raster, tmp_path, capsys):
    with rasterio.open(tmp_path / "no.tif", "w", driver="GTiff", height=90, width=120, count=1, dtype="uint8") as file:
        file.write(raster[1], 1)
    code, _, err = run(capsys, "polygons", tmp_path / "no.tif", "--out", tmp_path / "a.gpkg", "--open-m", "0.4")
    assert code == 2
    assert "Shapes in metres must have a scene with a CRS" in err
    assert not (tmp_path / "a.gpkg").exists()
