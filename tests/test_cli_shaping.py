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
from satmask.decisions import Decision
from satmask.features import Shaping, find_features, shaping_of
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.rasters import legend_tags
from satmask.refinements import Refinement

GRID = Grid(90, 120, Affine(0.25, 0, 500_000, 0, -0.25, 4_000_000), CRS("EPSG:32633"))
HOUSES = Legend.of(["house"])
FLAGS = ("--min-area-m2", "2", "--min-hole-m2", "1", "--open-m", "0.3", "--separate-m", "0.5", "--simplify-m", "0.3")


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


def write(path, values, *, band="", **tags):
    """Write a raster of one band on the grid."""
    settings = {"crs": GRID.crs.to_string(), "transform": GRID.transform, "height": 90, "width": 120}
    with rasterio.open(path, "w", dtype=values.dtype, count=1, **settings) as file:
        file.update_tags(**tags)
        file.set_band_description(1, band)
        file.write(values, 1)
    return path


@pytest.fixture
def raster(tmp_path):
    """Two discs that touch, a house with a pinhole, and a speck."""
    rows, columns = np.mgrid[:90, :120]
    mask = (np.hypot(rows - 30, columns - 30) < 20) | (np.hypot(rows - 30, columns - 62) < 15)
    mask |= (np.abs(rows - 70) < 12) & (np.abs(columns - 80) < 25) & ((rows != 70) | (columns != 80))
    mask[2, 110] = True
    ids = mask.astype(np.uint8)
    return write(tmp_path / "ids.tif", ids), ids


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


def test_what_the_raster_says_is_done_unless_asked_otherwise(raster, tmp_path, capsys):
    decision = Decision(
        HOUSES, (0.6,), min_area_m2=(2,), refinements=(Refinement("house", min_hole_m2=1, separate_m=0.5),)
    )
    tags = {**legend_tags(HOUSES, decision.thresholds), **decision.tags()}
    said = np.where(raster[1] > 0, np.float32(0.8), np.float32(0.55))
    write(tmp_path / "said.tif", said, band="house probability", **tags)
    counts = {}
    for name, flags in {
        "": (),
        "none": ("--separate-m", "0"),
        "more": ("--separate-m", "9"),
        "all": ("--threshold", "0.5"),
        "large": ("--min-area-m2", "60"),
    }.items():
        code, out, err = run(capsys, "polygons", tmp_path / "said.tif", "--out", tmp_path / "a.gpkg", "--json", *flags)
        assert (code, err) == (0, "")
        counts[name] = json.loads(out)["polygons"]
    assert counts == {"": 3, "none": 2, "more": 2, "all": 1, "large": 2}
    run(capsys, "polygons", tmp_path / "said.tif", "--out", tmp_path / "a.gpkg")
    found = geopandas.read_file(tmp_path / "a.gpkg")
    masks = decision.masks(said[..., None], gsd_m=0.25)
    shaping = shaping_of(decision, GRID)
    expected = find_features(masks, GRID, HOUSES, probabilities=said[..., None], shaping=shaping).frame
    assert sorted(found["area_px"]) == sorted(expected["area_px"])
    assert np.isclose(shaping.depth(1), 0.5, rtol=1e-3)


def test_classes_that_exclude_each_other_are_cleaned_as_a_whole(raster, tmp_path, capsys):
    legend = Legend.of(["ground", "house"], exclusive=True)
    ids = np.where(raster[1] > 0, legend.ids[1], legend.ids[0]).astype(np.uint8)
    path = write(tmp_path / "both.tif", ids, **legend_tags(legend))
    flags = ("--out", tmp_path / "a.gpkg", "--min-hole-m2", "1", "--min-area-m2", "2", "--json")
    code, out, _ = run(capsys, "polygons", path, *flags)
    told = json.loads(out)
    expected = find_features(ids, GRID, legend, shaping=Shaping(Cleaning(0, 0, 1, 2)))
    assert code == 0
    assert told["steps"] == [step.to_dict() for step in expected.steps]
    assert told["polygons"] == len(expected.frame)
