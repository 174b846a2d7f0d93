"""The shelf: what lies in a folder and nothing else, whatever is asked for and whatever the files name."""

import json
import os
import socketserver
import threading
from contextlib import suppress
from functools import partial

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from satmask.datasets import read_dataset
from satmask.errors import DataError, SatmaskError, SettingError
from satmask.grid import Grid
from satmask.polygons import find_polygons, write_polygons
from satmask.viewing.files import DEEPEST, NotFoundError, walk
from satmask.viewing.judging import Judge
from satmask.viewing.pointing import describe, features
from satmask.viewing.shelf import open_shelf
from satmask.viewing.tiles import render_tile
from satmask.windows import Window
from viewed import LEGEND, blobs, tiles_of, write_mask, write_prediction, write_raster

pytest.importorskip("rio_tiler", reason="Map tiles need rio-tiler: pip install 'satmask[view]'.")
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
PHOTO = np.full((64, 64, 3), 90, np.uint8)


def kinds(place):
    return [layer.kind for layer in place.layers]


def look_at_everything(shelf):
    """Ask for all that can be asked for; errors are those of satmask."""
    for place in shelf.places:
        with suppress(SatmaskError):
            place.layers  # noqa: B018  # files are opened when they are asked for
        if "content" in vars(place):
            asks = [partial(describe, place, *middle(place)), Judge(place).counts, Judge(place).worst]
            for layer in place.layers:
                asks += [partial(render_tile, place, layer, tile) for tile in tiles_of(place.view, place.view.min_zoom)]
                asks.append(partial(features, place, layer))
            for ask in asks:
                with suppress(SatmaskError):
                    ask()


def middle(place):
    """A point inside a place, in map coordinates."""
    return place.view.to_map(np.array([[32, 32]]))[0]


# -- what lies there ---------------------------------------------------------------------------------------------------


def test_a_prediction_goes_with_its_scene_and_truth(tmp_path):
    classes = write_prediction(tmp_path, "town", blobs((64, 64)))
    write_mask(tmp_path / "town_mask.tif", classes)
    write_raster(tmp_path / "other.tif", PHOTO)
    other, town = open_shelf(tmp_path).places
    assert kinds(other) == ["image"]
    assert kinds(town) == ["image", "classes", "probabilities", "truth", "uncertainty", "error"]
    assert town.legend.names == LEGEND.names


def test_scenes_and_truth_may_be_named(tmp_path):
    classes = write_prediction(tmp_path / "out", "town", blobs((64, 64)))
    (tmp_path / "scenes").mkdir()
    (tmp_path / "out" / "town.tif").rename(tmp_path / "scenes" / "town.tif")
    write_mask(tmp_path / "truth" / "town.tif", classes)
    (alone,) = open_shelf(tmp_path / "out").places
    assert kinds(alone) == ["classes", "probabilities", "uncertainty"]
    (town,) = open_shelf(tmp_path / "out", scenes=[tmp_path / "scenes"], truth=tmp_path / "truth").places
    assert kinds(town) == ["image", "classes", "probabilities", "truth", "uncertainty", "error"]
    assert alone.id == town.id


def test_a_scene_that_lies_beside_its_labels_is_not_its_own_truth(tmp_path):
    write_prediction(tmp_path / "out", "town", blobs((64, 64)))
    (tmp_path / "data").mkdir()
    (tmp_path / "out" / "town.tif").rename(tmp_path / "data" / "town.tif")
    (bare,) = open_shelf(tmp_path / "out", scenes=[tmp_path / "data"], truth=tmp_path / "data").places
    assert bare.first("truth") is None
    whole = shapely.box(*bare.grid.bounds)
    frame = geopandas.GeoDataFrame({"class": ["house"]}, geometry=[whole], crs=bare.grid.crs)
    write_polygons(frame, tmp_path / "data" / "buildings.gpkg")
    (town,) = open_shelf(tmp_path / "out", scenes=[tmp_path / "data"], truth=tmp_path / "data").places
    assert town.first("truth").file.path.name == "buildings.gpkg"


def test_ids_say_nothing_and_stay(tmp_path):
    write_prediction(tmp_path, "secret", blobs((64, 64)))
    first, again = (open_shelf(tmp_path).places[0] for _ in range(2))
    ids = [first.id, *(layer.id for layer in first.layers)]
    assert ids == [again.id, *(layer.id for layer in again.layers)]
    assert len(set(ids)) == len(ids)
    assert all(set(id_) <= set("0123456789abcdef") for id_ in ids)


def test_truth_is_what_training_reads(data):
    for name in ("scenes", "naip/val", "buildings/val"):
        samples = {sample.image.stem: sample for sample in read_dataset(data / name).splits["train"]}
        for place in open_shelf(data / name).places[:5]:
            labels, expected = place.first("truth").labels, samples[place.files.stem].labels
            assert labels.legend.names == expected.legend.names
            window = Window(0, 0, *place.grid.shape)
            np.testing.assert_array_equal(labels.read(window).classes, expected.read(window).classes)


def test_labels_of_one_scene_are_its_own(tmp_path):
    for name in ("town", "town_2", "village"):
        write_raster(tmp_path / f"{name}.tif", PHOTO, crs=None)
    ids = np.zeros((64, 64), np.uint8)
    ids[10:20, 10:20] = 1
    write_mask(tmp_path / "town_mask.tif", np.where(ids, 2, 0), crs=None)
    write_polygons(find_polygons(ids, Grid(64, 64), LEGEND), tmp_path / "town.labels.gpkg")
    samples = {sample.name: sample for sample in read_dataset(tmp_path, legend=LEGEND).splits["train"]}
    places = {place.name: place for place in open_shelf(tmp_path, legend=LEGEND).places}
    assert set(samples) == {"town"}
    assert {name for name, place in places.items() if place.first("truth")} == {"town"}
    for labels in (samples["town"].labels, places["town"].first("truth").labels):
        np.testing.assert_array_equal(labels.read(Window(0, 0, 64, 64)).classes[..., 0], ids)


def test_labels_of_its_own_come_before_those_of_several(tmp_path):
    ids = np.zeros((64, 64), np.uint8)
    ids[10:20, 10:20] = 1
    write_raster(tmp_path / "town.tif", PHOTO, crs=None)
    write_polygons(find_polygons(ids, Grid(64, 64), LEGEND), tmp_path / "town.labels.gpkg")
    for name in ("town.gpkg", "to.gpkg"):
        write_polygons(find_polygons(1 - ids, Grid(64, 64), LEGEND), tmp_path / name)
    (sample,) = read_dataset(tmp_path, legend=LEGEND).splits["train"]
    (place,) = open_shelf(tmp_path, legend=LEGEND).places
    for labels in (sample.labels, place.first("truth").labels):
        np.testing.assert_array_equal(labels.read(Window(0, 0, 64, 64)).classes[..., 0], ids)


def test_rasters_on_another_grid_are_told_of(tmp_path):
    write_prediction(tmp_path, "town", blobs((64, 64)))
    write_raster(tmp_path / "town.tif", np.full((32, 32, 3), 90, np.uint8))
    (town,) = open_shelf(tmp_path).places
    assert kinds(town) == ["image"]
    assert "share the scene's grid" in town.problems[0]


def test_a_broken_file_costs_nothing_else(tmp_path):
    write_raster(tmp_path / "a.tif", PHOTO)
    (tmp_path / "b.tif").write_bytes(b"no raster")
    first, second = open_shelf(tmp_path).places
    assert kinds(first) == ["image"]
    with pytest.raises(SettingError, match="Scene must be"):
        second.layers  # noqa: B018  # files are opened when they are asked for
    with pytest.raises(NotFoundError):
        open_shelf(tmp_path).layer(second.id + "0" * 8)


# -- paths -------------------------------------------------------------------------------------------------------------

SECRET = "secret.tif"  # noqa: S105  # a file
SPELLINGS = [
    "..", "../secret.tif", "../../secret.tif", "..\\secret.tif", "....//secret.tif", "..;/secret.tif", "./../secret.tif",
    "%2e%2e/secret.tif", "%2e%2e%2fsecret.tif", "%252e%252e%252fsecret.tif", "..%c0%afsecret.tif", "..%ef%bc%8fsecret.tif",
    "..\u2215secret.tif", "\uff0e\uff0e/secret.tif", "..\u2044secret.tif", "town.tif/../../secret.tif", "town.tif\0.png", "\0",
    "/etc/passwd", "//etc/passwd", "/etc/passwd%00.tif", "/proc/self/environ", "/proc/self/cwd/../secret.tif", "/dev/zero",
    "/dev/stdin", "~/secret.tif", "~root/.ssh/id_rsa", "C:\\secret.tif", "\\\\host\\share\\secret.tif", "\\\\?\\C:\\secret.tif",
    "file:///etc/passwd", "file://localhost/etc/passwd", "file:secret.tif", "http://127.0.0.1/x.tif", "https://example.org/x.tif",
    "ftp://example.org/x.tif", "s3://bucket/x.tif", "gs://bucket/x.tif", "az://bucket/x.tif", "gopher://127.0.0.1/", "data:,x",
    "/vsicurl/http://127.0.0.1/x.tif", "/vsicurl_streaming/http://127.0.0.1/x.tif", "/vsis3/bucket/x.tif", "/vsigs/bucket/x.tif",
    "/vsiaz/x", "/vsizip/../secret.zip/secret.tif", "/vsitar/x.tar/x.tif", "/vsigzip/x.gz", "/vsimem/x.tif", "/vsistdin/",
    "/vsisubfile/0_100,../secret.tif", "/vsisparse/x.xml", "/vsicrypt/key=x,file=../secret.tif", "vrt://../secret.tif",
    "GTIFF_DIR:1:../secret.tif", "GTIFF_RAW:../secret.tif", "HDF5:../x.h5://x", "NETCDF:../x.nc:x", "WMS:http://127.0.0.1/",
    "<VRTDataset/>", "<GDAL_WMS/>", "<OGRVRTDataSource/>", '{"type":"gdal_virtual_file_system"}', "MVT:http://127.0.0.1/", "PG:host=x",
    "town", "town.tif", "town.", "TOWN.TIF", "", " ", "*", "'; DROP TABLE", "<script>", "${x}", "{{x}}", "0" * 12, "f" * 20, "x" * 10**5,
]  # fmt: skip


@pytest.mark.parametrize("name", [*SPELLINGS, None, 0, -1, True, b"town.tif", ("town",), 1.5])
def test_what_isnt_on_the_shelf_is_not_found(tmp_path, name):
    write_raster(tmp_path / SECRET, PHOTO)
    write_raster(tmp_path / "shown" / "town.tif", PHOTO)
    shelf = open_shelf(tmp_path / "shown")
    (town,) = shelf.places
    for ask in (shelf.place, shelf.layer, town.layer):
        with pytest.raises(NotFoundError) as refused:
            ask(name)
        assert str(refused.value) == "Name must be of something that is shown, got another."


LINKS = {
    "file": lambda inside, outside: (inside / "a.tif").symlink_to(outside / SECRET),
    "relative": lambda inside, _: (inside / "a.tif").symlink_to("../outside/secret.tif"),
    "chain": lambda inside, outside: [
        (inside / ".b.tif").symlink_to(outside / SECRET),
        (inside / "a.tif").symlink_to(inside / ".b.tif"),
    ],
    "folder": lambda inside, outside: (inside / "a").symlink_to(outside, target_is_directory=True),
    "loop": lambda inside, _: (inside / "a").symlink_to(inside, target_is_directory=True),
    "to itself": lambda inside, _: (inside / "a.tif").symlink_to(inside / "a.tif"),
    "dangling": lambda inside, outside: (inside / "a.tif").symlink_to(outside / "none.tif"),
    "to a device": lambda inside, _: (inside / "a.tif").symlink_to("/dev/zero"),
    "a pipe": lambda inside, _: os.mkfifo(inside / "a.tif"),
    "a folder called so": lambda inside, _: (inside / "a.tif").mkdir(),
    "mask": lambda inside, outside: (inside / "town_mask.tif").symlink_to(outside / SECRET),
    "classes": lambda inside, outside: (inside / "town.classes.tif").symlink_to(outside / SECRET),
    "vector": lambda inside, outside: (inside / "town.gpkg").symlink_to(outside / "secret.gpkg"),
    "labels": lambda inside, outside: (inside / "town.labels.gpkg").symlink_to(outside / "secret.gpkg"),
    "legend": lambda inside, outside: (inside / "legend.toml").symlink_to(outside / "legend.toml"),
    "hidden": lambda inside, _: write_raster(inside / ".a.tif", PHOTO),
}


@pytest.mark.parametrize("link", LINKS)
def test_links_that_lead_out_are_not_on_the_shelf(tmp_path, link):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    write_raster(inside / "town.tif", PHOTO)
    write_raster(outside / SECRET, np.ones((64, 64, 1), np.uint8))
    write_polygons(find_polygons(np.ones((64, 64), np.uint8), Grid(64, 64), LEGEND), outside / "secret.gpkg")
    (outside / "legend.toml").write_text("no legend")
    LINKS[link](inside, outside)
    (town,) = open_shelf(inside).places
    assert (town.name, kinds(town), town.problems) == ("town", ["image"], ())


def test_a_link_to_another_file_of_the_folder_is_shown(tmp_path):
    write_raster(tmp_path / "a.tif", PHOTO)
    (tmp_path / "b.tif").symlink_to(tmp_path / "a.tif")
    assert [place.name for place in open_shelf(tmp_path).places] == ["a", "b"]


@pytest.mark.parametrize("exchanged", ["file", "folder", "pipe", "gone"])
@pytest.mark.parametrize("when", ["before it is opened", "while it is open"])
def test_a_file_that_is_exchanged_is_not_found(tmp_path, exchanged, when):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    write_raster(inside / "part" / "town.tif", PHOTO)
    write_raster(inside / "part" / "town_mask.tif", np.ones((64, 64, 1), np.uint8))
    write_raster(outside / "town.tif", PHOTO)
    (town,) = open_shelf(inside).places
    layers = town.layers
    if when == "while it is open":
        look_at_everything(open_shelf(inside))
        describe(town, *middle(town))
    file = inside / "part" / "town.tif"
    if exchanged == "folder":
        (inside / "part").rename(tmp_path / "moved")
        (inside / "part").symlink_to(outside, target_is_directory=True)
    else:
        file.unlink()
        if exchanged == "file":
            file.symlink_to(outside / "town.tif")
        if exchanged == "pipe":
            os.mkfifo(file)
    image, tile = layers[0], tiles_of(town.view, town.view.native_zoom)[0]
    for ask in (image.stamp, partial(render_tile, town, image, tile), partial(describe, town, *middle(town))):
        with pytest.raises(NotFoundError):
            ask()


def test_a_file_that_is_exchanged_while_it_is_being_opened_is_not_found(tmp_path):
    write_raster(tmp_path / "inside" / "town.tif", PHOTO)
    other = write_raster(tmp_path / "other.tif", PHOTO)
    (file,) = walk(tmp_path / "inside")
    opened, closed = [], []

    def opener(path):
        opened.append(path)
        other.rename(path)
        return path

    with pytest.raises(NotFoundError):
        file.open(opener, closed.append)
    assert opened == closed


def test_folders_are_walked_so_deep_and_no_deeper(tmp_path):
    deep = tmp_path
    for level in range(DEEPEST + 3):
        write_raster(deep / f"{level}.tif", PHOTO)
        deep /= "a"
    assert len(open_shelf(tmp_path).places) == DEEPEST + 1


# -- what files name ---------------------------------------------------------------------------------------------------

VRT = """<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename relativeToVRT="0">NAME</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""
OGR = "<OGRVRTDataSource><OGRVRTLayer name='x'><SrcDataSource>NAME</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
WMS = "<GDAL_WMS><Service name='TMS'><ServerUrl>NAME</ServerUrl></Service><DataWindow/></GDAL_WMS>"
LINK = json.dumps(
    {"type": "FeatureCollection", "crs": {"type": "link", "properties": {"href": "NAME"}}, "features": []}
)
COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "NAME", "width": 64, "height": 64}],
        "annotations": [],
        "categories": [{"id": 1, "name": "house"}],
    }
)
STAC = json.dumps({"type": "Feature", "stac_version": "1.0.0", "id": "x", "assets": {"a": {"href": "NAME"}}})
TRAPS = {
    **{f"VRT as {name}": (name, VRT) for name in ("a.vrt", "a.tif", "a.png", "a.jpg", "a.jp2", "a.webp", "town_mask.tif", "town.classes.tif", "town.tif.ovr", "town.tif.msk", "town.tif.aux.xml", "town.ovr")},
    **{f"OGR VRT as {name}": (name, OGR) for name in ("a.vrt", "town.gpkg", "town.geojson", "town.fgb", "town.shp", "town.parquet", "town.labels.gpkg", "town.kml")},
    **{f"WMS as {name}": (name, WMS) for name in ("a.tif", "a.xml", "a.wms", "a.png")},
    **{f"GeoJSON's CRS as {name}": (name, LINK) for name in ("town.geojson", "town.labels.geojson", "town.gpkg", "a.json")},
    **{f"list as {name}": (name, text) for name, text in {"annotation.json": COCO, "items.json": STAC, "scenes.txt": "NAME", "a.stack.json": STAC, "catalog.json": STAC, "legend.toml": "NAME", "classes.json": '"NAME"', "recipe.json": '{"data": "NAME"}'}.items()},
    "sidecar": ("town.tif.aux.xml", "<PAMDataset><Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>NAME</MDI></Metadata></PAMDataset>"),
}  # fmt: skip


@pytest.fixture(scope="module")
def listener():
    """A server that notes who asks."""
    asked = []
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), lambda *_: asked.append(1)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()


@pytest.mark.parametrize("spelling", ["/vsicurl/http://127.0.0.1:PORT/x.tif", "http://127.0.0.1:PORT/x.tif"])
@pytest.mark.parametrize("trap", TRAPS)
def test_what_a_file_names_is_never_asked_for(tmp_path, listener, trap, spelling):
    port, asked = listener
    write_raster(tmp_path / "town.tif", PHOTO)
    name, text = TRAPS[trap]
    (tmp_path / name).write_text(text.replace("NAME", spelling.replace("PORT", str(port))))
    look_at_everything(open_shelf(tmp_path))
    look_at_everything(open_shelf(tmp_path, scenes=[tmp_path], truth=tmp_path))
    assert not asked


@pytest.mark.parametrize("what", ["overviews", "geolocation", "geolocation and a CRS"])
@pytest.mark.parametrize("named", ["town", "town_mask", "town.classes", "town.probabilities"])
def test_what_a_tiff_names_is_never_asked_for(tmp_path, listener, what, named):
    port, asked = listener
    address = f"/vsicurl/http://127.0.0.1:{port}/x.tif"
    write_raster(tmp_path / "town.tif", np.full((600, 600, 3), 90, np.uint8))
    crs = None if what == "geolocation" else "EPSG:32633"
    path = write_raster(
        tmp_path / f"{named}.tif", np.ones((600, 600, 1), np.float32 if "prob" in named else np.uint8), crs=crs
    )
    with rasterio.open(path, "r+") as file:
        if what == "overviews":
            file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=address)
        else:
            if crs:
                file.transform = Affine.identity()
            places = {"X_DATASET": address, "Y_DATASET": address, "X_BAND": "1", "Y_BAND": "1", "SRS": "EPSG:4326"}
            steps = {"PIXEL_OFFSET": "0", "LINE_OFFSET": "0", "PIXEL_STEP": "1", "LINE_STEP": "1"}
            file.update_tags(ns="GEOLOCATION", **places, **steps)
    look_at_everything(open_shelf(tmp_path))
    assert not asked


@pytest.mark.parametrize("named", ["../outside/secret.tif", "ABSOLUTE", "../outside/../outside/secret.tif"])
@pytest.mark.parametrize(
    "trap", ["VRT as a.vrt", "VRT as a.tif", "VRT as town_mask.tif", "list as annotation.json", "OGR VRT as town.gpkg"]
)
def test_what_a_file_names_elsewhere_is_never_shown(tmp_path, trap, named):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    write_raster(outside / SECRET, PHOTO)
    write_raster(inside / "images" / "town.tif", PHOTO)
    name, text = TRAPS[trap]
    (inside / name).write_text(text.replace("NAME", named.replace("ABSOLUTE", str(outside / SECRET))))
    (outside / SECRET).chmod(0o000)
    for place in open_shelf(inside).places:
        if place.name == "images/town":
            assert kinds(place)[:1] == ["image"]
        else:
            with pytest.raises(SatmaskError):
                place.layers  # noqa: B018  # files are opened when they are asked for


# -- one raster, runs, and what is large -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["town.tif", "town.classes.tif", "town.probabilities.tif"])
def test_a_single_raster_stands_for_those_of_its_name(tmp_path, name):
    classes = write_prediction(tmp_path, "town", blobs((64, 64)))
    write_mask(tmp_path / "town_mask.tif", classes)
    for other in ("town_2.tif", "below/town.tif"):
        write_raster(tmp_path / other, PHOTO)
    (town,) = open_shelf(tmp_path / name).places
    assert kinds(town) == ["image", "classes", "probabilities", "truth", "uncertainty", "error"]


def test_a_runs_pictures_are_no_scenes(tmp_path):
    write_raster(tmp_path / "run" / "augmented.png", PHOTO, crs=None, driver="PNG")
    write_raster(tmp_path / "run" / "val" / "town.tif", PHOTO)
    (tmp_path / "run" / "recipe.json").write_text("{}")
    (tmp_path / "run" / "history.csv").write_text("epoch,loss\n1,0.5\n")
    shelf = open_shelf(tmp_path)
    assert [run.folder for run in shelf.runs] == [tmp_path / "run"]
    assert [place.name for place in shelf.places] == ["run/val/town"]


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingError, match="must exist"):
        open_shelf(tmp_path / "nothing")


def test_a_polygon_file_that_fills_memory_is_refused(tmp_path, monkeypatch):
    from satmask.viewing import outlines

    write_prediction(tmp_path, "town", blobs((64, 64)))
    write_polygons(find_polygons(np.ones((64, 64), np.uint8), Grid(64, 64), LEGEND), tmp_path / "town.gpkg")
    (town,) = open_shelf(tmp_path).places
    monkeypatch.setattr(outlines, "LARGEST", 1000)
    with pytest.raises(DataError, match="at most"):
        features(town, town.first("polygons"))


@pytest.mark.parametrize("limit", ["LARGEST", "MOST"])
def test_too_many_objects_are_refused_in_words(tmp_path, monkeypatch, limit):
    from satmask.viewing import findings

    classes = write_prediction(tmp_path, "town", blobs((64, 64)))
    write_mask(tmp_path / "town_mask.tif", classes)
    monkeypatch.setattr(findings, limit, 1)
    with pytest.raises(DataError, match="must"):
        Judge(open_shelf(tmp_path).places[0]).worst()
