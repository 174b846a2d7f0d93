"""Laws of streaming: the same polygons as at once, in every format, whole or not at all."""

from importlib.util import find_spec

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import CRS

from satmask import polygon_writer
from satmask.decisions import Decision
from satmask.engines import open_engine
from satmask.errors import DataError, SettingError
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.polygon_writer import PolygonWriter, stream_polygons
from satmask.polygons import find_polygons, read_polygons, write_polygons
from satmask.prediction import predict_scene
from satmask.vectorise import raster

LAND = Legend.of({0: "other", 1: "house", 7: "water"}, exclusive=True)
GRID = Grid(40, 30, Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000), CRS("EPSG:32633"))
COLUMNS = ["class_id", "class", "area_m2", "area_px", "mean_probability", "min_probability", "score"]
FORMATS = [".gpkg", ".fgb", ".geojson", ".shp", *([".parquet"] if find_spec("pyarrow") else [])]


def scene(seed=0):
    random = np.random.default_rng(seed)
    classes = np.kron(random.choice([0, 1, 7, 255], (10, 10)), np.ones((4, 3))).astype(np.uint8)
    return classes, random.random((40, 30, 3)).astype(np.float32)


def streamed(block, **settings):
    classes, probabilities = scene()
    read = lambda at: (classes[at.slices], probabilities[at.slices])  # noqa: E731 (a one-line reader)
    return list(stream_polygons(read, GRID, LAND, block=block, **settings))


def rows(frame):
    return sorted(zip(shapely.to_wkb(frame.geometry), *(frame[name] for name in COLUMNS), strict=True))


@pytest.mark.parametrize("block", [None, (1, 30), (7, 4), (64, 64)])
@pytest.mark.parametrize("areas", [{}, {"min_area_m2": {1: 6.0}}, {"min_area_px": 20}])
def test_streamed_polygons_are_those_found_at_once(block, areas):
    classes, probabilities = scene()
    frame = geopandas.pd.concat(streamed(block, **areas))
    expected = find_polygons(classes, GRID, LAND, probabilities=probabilities, **areas)
    assert rows(frame) == rows(expected)
    assert frame.crs == GRID.crs
    in_order = geopandas.pd.concat(streamed((40, 30), **areas))
    assert frame["area_px"].tolist() == in_order["area_px"].tolist()
    assert shapely.to_wkb(frame.geometry).tolist() == shapely.to_wkb(in_order.geometry).tolist()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("batch", "vertices"), [(5, 400_000), (20_000, 40), (20_000, 400_000)])
def test_files_grow_to_what_is_written_at_once(tmp_path, monkeypatch, suffix, batch, vertices):
    monkeypatch.setattr(polygon_writer, "BATCH", batch)
    monkeypatch.setattr(polygon_writer, "BATCH_VERTICES", vertices)
    parts = streamed((4, 30))
    whole = read_polygons(write_polygons(geopandas.pd.concat(parts, ignore_index=True), tmp_path / f"one{suffix}"))
    with PolygonWriter(tmp_path / f"many{suffix}") as writer:
        for part in parts:
            writer.write(part)
            waiting = [shape for frame in writer._waiting for shape in frame.geometry]
            assert len(waiting) < batch
            assert shapely.get_num_coordinates(waiting).sum() < vertices
        assert not (tmp_path / f"many{suffix}").exists()
        grown = read_polygons(writer.finish())
    assert list(grown.columns) == list(whole.columns)
    assert rows(grown) == rows(whole)
    assert grown.crs == whole.crs
    assert writer.rows == len(whole)
    assert {file.stem for file in tmp_path.iterdir()} == {"one", "many"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_without_polygons_keep_their_columns(tmp_path, suffix):
    empty = streamed(None)[0].iloc[:0]
    with PolygonWriter(tmp_path / f"none{suffix}") as writer:
        writer.write(empty)
        writer.write(empty)
        back = read_polygons(writer.finish())
    assert len(back) == 0
    if suffix != ".geojson":  # it has columns only as part of rows
        assert list(back.columns) == [*COLUMNS, "geometry"]


def test_what_is_left_unfinished_leaves_nothing(tmp_path):
    path = write_polygons(streamed(None)[0], tmp_path / "a.gpkg")
    before = path.read_bytes()
    with PolygonWriter(path) as writer:
        writer.write(streamed(None)[0])
    assert [file.name for file in tmp_path.iterdir()] == ["a.gpkg"]
    assert path.read_bytes() == before


def test_grown_geopackages_have_their_layer_type_and_index(tmp_path, monkeypatch):
    monkeypatch.setattr(polygon_writer, "BATCH", 3)
    with PolygonWriter(tmp_path / "a.gpkg", layer="land") as writer:
        for part in streamed((4, 30)):
            writer.write(part)
        path = writer.finish()
    info = pyogrio.read_info(path, layer="land")
    assert info["geometry_type"] == "Polygon"
    assert info["capabilities"]["fast_spatial_filter"]
    box = (500_000, 3_999_990, 500_005, 4_000_000)
    everything = read_polygons(path)
    assert len(pyogrio.read_dataframe(path, bbox=box)) == everything.intersects(shapely.box(*box)).sum()


@pytest.mark.parametrize("exclusive", [True, False])
def test_predicted_polygons_are_those_of_the_rasters_whatever_the_strips(tmp_path, monkeypatch, write_model, exclusive):
    legend = Legend.of(["ground", "house"], exclusive=True) if exclusive else Legend.of(["house"])
    engine = open_engine(write_model(tmp_path / "m.onnx", ["r", "g", "b"], list(legend.names)))
    pixels = np.kron(np.random.default_rng(1).integers(0, 256, (3, 12, 9)), np.ones((1, 5, 5))).astype(np.uint8)
    place = {"crs": "EPSG:32633", "transform": GRID.transform}
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", count=3, height=60, width=45, dtype="uint8", **place
    ) as file:
        file.write(pixels)
    found = []
    for strip in (45, 45 * 7, 1 << 21):
        monkeypatch.setattr(raster, "STRIP_PX", strip)
        out = predict_scene(engine, tmp_path / "a.tif", tmp_path / str(strip), decision=Decision(legend))
        found.append(read_polygons(out.polygons))
        assert out.objects == len(found[-1]) > 0
    with rasterio.open(out.classes) as classes, rasterio.open(out.probabilities) as said:
        grid = Grid(60, 45, GRID.transform, CRS("EPSG:32633"))
        expected = find_polygons(classes.read(1), grid, legend, probabilities=np.moveaxis(said.read(), 0, -1))
    assert [rows(frame) for frame in found] == [rows(expected)] * 3
    assert found[0].geometry.to_wkb().tolist() == found[2].geometry.to_wkb().tolist()


def test_what_cannot_be_written_is_refused(tmp_path):
    frame = streamed(None)[0]
    with pytest.raises(SettingError, match="must end in one of"):
        PolygonWriter(tmp_path / "a.kml")
    with PolygonWriter(tmp_path / "a.gpkg") as writer, pytest.raises(SettingError, match="got none for a"):
        writer.finish()
    several = frame.set_geometry([shapely.MultiPolygon([polygon]) for polygon in frame.geometry])
    with PolygonWriter(tmp_path / "a.gpkg") as writer, pytest.raises(SettingError, match="got MultiPolygon"):
        writer.write(several)
    with PolygonWriter(tmp_path / "a.geojson") as writer, pytest.raises(DataError, match="WGS 84"):
        writer.write(frame.set_crs(None, allow_override=True))
    with pytest.raises(SettingError, match="with a CRS"):
        list(stream_polygons(lambda _: (np.zeros((4, 4)), None), Grid(4, 4), LAND, min_area_m2=2.0))
    assert list(tmp_path.iterdir()) == []
