"""Laws of polygons: they are the classes again, lie where the pixels lie, and measure what the ground measures."""

import json
import socketserver
import threading
from importlib.util import find_spec

import cv2
import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from pyproj import CRS, Geod
from rasterio.features import rasterize

from satmask.errors import DataError, InstallError, SettingError
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.polygons import find_polygons, read_polygons, true_areas, write_polygons

LAND = Legend.of({0: "other", 1: "house", 7: "water"}, exclusive=True)
UTM = Affine(0.5, 0, 500_000, 0, -0.5, 4_000_000)


def random_classes(seed, shape=(40, 30)):
    coarse = np.random.default_rng(seed).choice([0, 1, 7, 255], size=(shape[0] // 5, shape[1] // 5))
    return np.kron(coarse, np.ones((5, 5))).astype(np.uint8)


@pytest.mark.parametrize("turn", [Affine.identity(), Affine.rotation(30), Affine.scale(1, -1), Affine.shear(10)])
def test_polygons_drawn_on_the_grid_are_the_classes(turn):
    classes, transform = random_classes(1), UTM @ turn
    frame = find_polygons(classes, Grid(40, 30, transform, CRS("EPSG:32633")), LAND)
    drawn = rasterize(
        zip(frame.geometry, frame["class_id"], strict=True), (40, 30), transform=transform, fill=255, dtype="uint8"
    )
    np.testing.assert_array_equal(drawn, classes)
    assert frame.crs == CRS("EPSG:32633")
    assert frame["class_id"].is_monotonic_increasing
    assert set(zip(frame["class_id"], frame["class"], strict=True)) == {(0, "other"), (1, "house"), (7, "water")}
    assert frame["area_px"].sum() == np.count_nonzero(classes != 255)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_mean_probability_is_the_mean_over_each_polygons_pixels(dtype):
    random, classes = np.random.default_rng(2), random_classes(2)
    probabilities = random.random((40, 30, 3)).astype(np.float32)
    if dtype == np.uint8:
        probabilities = np.round(probabilities * 255).astype(np.uint8)
    frame = find_polygons(classes, Grid(40, 30), LAND, probabilities=probabilities)
    for row in frame.itertuples():
        inside = rasterize([row.geometry], (40, 30), dtype="uint8").astype(bool)
        expected = probabilities[inside, LAND.channel(row.class_id)].mean(dtype=np.float64)
        assert row.mean_probability == pytest.approx(expected / (255 if dtype == np.uint8 else 1), rel=1e-9)


def test_overlapping_classes_each_give_their_polygons():
    legend = Legend.of({1: "track", 2: "trees"})
    masks = np.zeros((6, 6, 2), bool)
    masks[1:3, :, 0] = masks[:, 1:4, 1] = True
    frame = find_polygons(masks, Grid(6, 6), legend, probabilities=np.full((6, 6, 2), [0.25, 0.75], np.float32))
    assert frame[["class", "area_px", "mean_probability"]].to_numpy().tolist() == [
        ["track", 12, 0.25],
        ["trees", 18, 0.75],
    ]
    assert frame.geometry.iloc[0].intersection(frame.geometry.iloc[1]).area == 6


@pytest.mark.parametrize(
    ("crs", "transform", "tolerance"),
    [
        ("EPSG:3857", Affine(1.0, 0, 1_100_000, 0, -1.0, 8_400_000), 1e-4),
        ("EPSG:4326", Affine(1e-5, 0, 10, 0, -1e-5, 60), 1e-4),
        ("EPSG:32633", Affine(1.0, 0, 500_000, 0, -1.0, 6_000_000), 1e-4),
    ],
)
def test_areas_are_those_of_an_equal_area_projection(crs, transform, tolerance):
    classes = np.kron([[1, 1, 1], [1, 0, 7], [1, 1, 1]], np.ones((20, 20))).astype(np.uint8)
    frame = find_polygons(classes, Grid(60, 60, transform, CRS(crs)), LAND)
    centre = frame.to_crs("EPSG:4326").geometry.iloc[0].centroid
    flat = frame.to_crs(CRS.from_proj4(f"+proj=laea +lat_0={centre.y} +lon_0={centre.x} +ellps=WGS84"))
    np.testing.assert_allclose(frame["area_m2"], flat.area, rtol=tolerance)
    assert frame.loc[frame["class"] == "house", "area_px"].item() == 7 * 400


def test_area_across_the_antimeridian_and_of_many_parts():
    box, parts = (
        shapely.box(-0.5, 10, 0.5, 11),
        shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(2, 0, 3, 1)]),
    )
    moved = shapely.transform(box, lambda points: points + np.array([180, 0]))
    areas = true_areas(np.array([box, moved, parts]), CRS("EPSG:4326"))
    assert areas[0] == pytest.approx(areas[1], rel=1e-9)
    assert areas[2] == pytest.approx(abs(Geod(ellps="WGS84").geometry_area_perimeter(parts)[0]), rel=1e-9)


def test_small_polygons_are_left_out_by_class():
    classes = np.zeros((4, 4), np.uint8)
    classes[0, 0], classes[2, :2], classes[3, 3] = 1, 1, 7
    grid = Grid(4, 4, Affine(10, 0, 500_000, 0, -10, 4_000_000), CRS("EPSG:32633"))
    assert len(find_polygons(classes, grid, LAND)) == 4
    assert find_polygons(classes, grid, LAND, min_area_m2={1: 150})["class_id"].tolist() == [0, 1, 7]
    assert find_polygons(classes, grid, LAND, min_area_m2=150)["class_id"].tolist() == [0, 1]
    assert find_polygons(classes, Grid(4, 4), LAND, min_area_px=2)["class_id"].tolist() == [0, 1]


def test_without_a_crs_areas_are_pixels():
    frame = find_polygons(random_classes(3), Grid(40, 30), LAND)
    assert frame.crs is None
    assert frame["area_m2"].isna().all()
    np.testing.assert_array_equal(frame.area, frame["area_px"])
    with pytest.raises(SettingError, match="with a CRS"):
        find_polygons(random_classes(3), Grid(40, 30), LAND, min_area_m2={1: 5})
    with pytest.raises(SettingError, match="must have the shape"):
        find_polygons(random_classes(3), Grid(41, 30), LAND)


def found(*, empty=False):
    classes = np.full((40, 30), 255, np.uint8) if empty else random_classes(4)
    grid = Grid(40, 30, UTM @ Affine.rotation(5), CRS("EPSG:32633"))
    return find_polygons(classes, grid, LAND, probabilities=np.full((40, 30, 3), 0.5, np.float32))


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".shp"])
@pytest.mark.parametrize("empty", [False, True])
def test_files_give_the_polygons_back(tmp_path, suffix, empty):
    frame = found(empty=empty)
    path = write_polygons(frame, tmp_path / f"deep/north.east{suffix}")
    back = read_polygons(path)
    assert back.crs == frame.crs
    assert list(back.columns) == list(frame.columns)
    info = pyogrio.read_info(path)
    assert [np.dtype(kind).kind for kind in info["dtypes"]] == ["i", "O", "f", "i", "f", "f", "f"]
    assert info["geometry_type"] == "Polygon"
    columns = ["class_id", "area_px", "mean_probability"]
    assert sorted(back[columns].to_numpy().tolist()) == sorted(frame[columns].to_numpy().tolist())
    assert back.geometry.union_all().symmetric_difference(frame.geometry.union_all()).area < 1e-3


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".shp"])
def test_polygons_without_a_place_stay_without_one(tmp_path, suffix):
    frame = find_polygons(random_classes(4), Grid(40, 30), LAND)
    back = read_polygons(write_polygons(frame, tmp_path / f"tile{suffix}"))
    assert back.crs is None
    assert back["area_m2"].isna().all()
    assert back.total_bounds.tolist() == frame.total_bounds.tolist()


def test_geojson_lies_in_wgs_84(tmp_path):
    frame = found()
    back = read_polygons(write_polygons(frame, tmp_path / "a.geojson"))
    assert back.crs == CRS("EPSG:4326")
    assert all(polygon.exterior.is_ccw for polygon in back.geometry)
    np.testing.assert_allclose(back.to_crs(frame.crs).total_bounds, frame.total_bounds, atol=0.02)
    with pytest.raises(DataError, match="GeoJSON must lie in WGS 84"):
        write_polygons(find_polygons(random_classes(4), Grid(40, 30), LAND), tmp_path / "b.geojson")
    assert not (tmp_path / "b.geojson").exists()


def test_a_failed_write_keeps_what_was_there(tmp_path, monkeypatch):
    path = write_polygons(found(), tmp_path / "a.gpkg", layer="land")
    assert len(read_polygons(path, layer="land")) == len(found())

    def fail(*_, **__):
        msg = "disk full"
        raise OSError(msg)

    monkeypatch.setattr(geopandas.GeoDataFrame, "to_file", fail)
    with pytest.raises(OSError, match="disk full"):
        write_polygons(found(empty=True), path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.gpkg"]
    assert len(read_polygons(path)) == len(found())


def test_parquet_is_written_where_pyarrow_is(tmp_path):
    if find_spec("pyarrow") is None:
        with pytest.raises(InstallError, match="pip install pyarrow"):
            write_polygons(found(), tmp_path / "a.parquet")
    else:
        back = read_polygons(write_polygons(found(), tmp_path / "a.parquet"))
        assert back.geometry.geom_equals(found().geometry).all()


def test_files_that_are_no_polygons_are_refused(tmp_path):
    (tmp_path / "a.gpkg").write_text("no")
    with pytest.raises(DataError, match=r"must be a vector file.*a\.gpkg"):
        read_polygons(tmp_path / "a.gpkg")
    source = write_polygons(found(), tmp_path / "secret.gpkg")
    (tmp_path / "v.gpkg").write_text(
        f'<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource>{source}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
    )
    with pytest.raises(DataError, match="points elsewhere"):
        read_polygons(tmp_path / "v.gpkg")
    with pytest.raises(DataError, match="must exist"):
        read_polygons(tmp_path / "b.gpkg")
    with pytest.raises(SettingError, match="must end in one of"):
        write_polygons(found(), tmp_path / "a.kml")


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".shp"])
def test_probabilities_of_polygons_are_numbers_in_files(tmp_path, suffix):
    said = np.random.default_rng(2).random((12, 15, 1)).astype(np.float32)
    masks = said > 0.4
    grid = Grid(12, 15, Affine(0.5, 0, 600_000, 0, -0.5, 5_000_000), CRS("EPSG:32633"))
    frame = find_polygons(masks, grid, Legend.of(["house"]), probabilities=said)
    back = read_polygons(write_polygons(frame, tmp_path / f"houses{suffix}"))
    assert len(back) > 3
    for name in ("mean_probability", "min_probability", "score"):
        assert back[name].dtype == np.float64
        assert sorted(back[name]) == pytest.approx(sorted(frame[name]))  # FlatGeobuf orders rows by place
    labels = cv2.connectedComponents(masks[..., 0].astype(np.uint8), connectivity=4)[1]
    least = sorted(float(said[labels == number].min()) for number in range(1, labels.max() + 1))
    assert sorted(back["min_probability"]) == pytest.approx(least)
    assert (back["min_probability"] <= back["score"]).all()
    assert (back["score"] == back["mean_probability"]).all()


@pytest.mark.parametrize(
    "crs",
    [
        {"type": "link", "properties": {"href": "ADDRESS"}},
        {"type": "url", "properties": {"url": "ADDRESS"}},
        {"type": "LINK", "properties": {"href": "ADDRESS", "type": "proj4"}},
    ],
)
@pytest.mark.parametrize("spelling", ["plain", "escaped", "twice", "single quotes"])
def test_a_crs_somewhere_else_is_never_fetched(tmp_path, crs, spelling):
    # GDAL asks the network for what such a GeoJSON names as its CRS.
    asked = []
    with socketserver.TCPServer(("127.0.0.1", 0), lambda *_: asked.append(1)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        ring = [[[0, 0], [1, 0], [1, 1], [0, 0]]]
        feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": ring}}
        text = json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]})
        text = text.replace("ADDRESS", f"http://127.0.0.1:{server.server_address[1]}/crs")
        if spelling == "escaped":
            text = text.replace('"crs"', '"\\u0063rs"')
        if spelling == "twice":
            text = text.replace(
                '"features"', '"crs": {"type": "name", "properties": {"name": "EPSG:4326"}}, "features"'
            )
        if spelling == "single quotes":
            text = text.replace('"', "'")
        path = tmp_path / "a.geojson"
        path.write_text(text)
        with pytest.raises(DataError, match="must hold its polygons itself"):
            read_polygons(path)
        server.shutdown()
    assert not asked
