"""Prediction: exact, placed, nodata out where nodata in, and nothing half-written."""

import itertools
import math

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

from satmask.decisions import Decision, Merge
from satmask.engines import open_engine
from satmask.errors import ModelError, SceneError, SettingError
from satmask.fitting import doubts, open_for
from satmask.legend import Legend
from satmask.masks import flatten
from satmask.model_file import BandInfo, ModelInfo, export
from satmask.models import build, measure_reach
from satmask.prediction import (
    HALOS,
    LARGEST,
    check_thresholds,
    choose_window,
    decide,
    predict_array,
    predict_scene,
    walk,
)
from satmask.prediction.tiling import WINDOW_PX, lay_out
from satmask.windows import Window, cover, round_up

LEGEND = Legend.of({100: "building"})
NETWORKS = {
    "unet": {"filters": (4, 6, 8)},
    "cnn": {"down": (6, 8), "up": (8, 6, 4), "activation": "sigmoid"},
    "dilated": {"window": 32},
}


def export_network(folder, name, legend=LEGEND, bands=3, dtype="uint8", **options):
    import keras

    keras.utils.set_random_seed(1)
    options = NETWORKS[name] | {"activation": legend.activation} | options
    network = build(name, bands=bands, classes=len(legend), **options)
    random = np.random.default_rng(2)
    for layer in network.layers:  # as if trained: averages that aren't those of a new network
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.abs(random.normal(1, 0.3, weight.shape)) for weight in layer.get_weights()])
    reach = measure_reach(network)
    info = ModelInfo(
        legend=legend,
        bands=tuple(BandInfo(name=f"band {index + 1}") for index in range(bands)),
        dtype=dtype,
        value_range=((0, 255 if dtype == "uint8" else 2047),) * bands,
        fill=(100.0,) * bands,
        stride=reach.stride,
        halo=reach.halo,
        local=reach.local,
        activation=legend.activation,
        network=name,
    )
    return export(network, folder / f"{name}.onnx", info)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export_network(tmp_path_factory.mktemp("model"), "unet")


@pytest.fixture(scope="module")
def engine(model):
    return open_engine(model)


def write(path, image, **profile):
    image = np.atleast_3d(image)
    settings = {"driver": "GTiff", "height": image.shape[0], "width": image.shape[1], "count": image.shape[2]}
    with rasterio.open(path, "w", **(settings | {"dtype": image.dtype} | profile)) as file:
        file.write(np.moveaxis(image, -1, 0))
    return path


def noise(height, width, bands=3):
    return np.random.default_rng(0).integers(0, 255, (height, width, bands), dtype=np.uint8)


UTM = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 4e6)}


def whole(engine, image):
    """The network over the whole scene at once, filled up to its stride."""
    height, width, _ = image.shape
    stride = engine.info.stride
    padded = np.full((round_up(height, stride), round_up(width, stride), 3), 100, np.float32)
    padded[:height, :width] = image
    return engine.run(padded[None])[0, :height, :width]


@pytest.fixture(scope="module", params=["unet", "cnn", "dilated"])
def each_engine(request, tmp_path_factory):
    return open_engine(export_network(tmp_path_factory.mktemp("model"), request.param))


@pytest.mark.parametrize("shape", [(203, 317), (64, 500), (1, 1), (37, 5)])
def test_windows_equal_the_whole_scene_bit_for_bit(each_engine, tmp_path, shape):
    engine = each_engine
    image = noise(*shape)
    wanted = whole(engine, image)
    margin = round_up(engine.info.halo, engine.info.stride)
    for size in (2 * margin + engine.info.stride, 2 * margin + 5 * engine.info.stride):
        with open_for(engine.info, write(tmp_path / f"{size}.tif", image)) as scene:
            probabilities, valid = predict_array(engine, scene, size=size)
        assert valid.all()
        np.testing.assert_array_equal(probabilities, wanted)


@pytest.mark.parametrize("shape", [(203, 317), (1, 1), (37, 5)])
def test_a_margin_is_the_scene_mirrored_at_its_edges(each_engine, tmp_path, monkeypatch, shape):
    margin = 13
    monkeypatch.setattr(each_engine, "info", each_engine.info.model_copy(update={"margin": margin}))
    stride, image = each_engine.info.stride, noise(*shape)
    more = [round_up(side + 2 * margin, stride) - side - margin for side in shape]
    framed = np.pad(image, ((margin, more[0]), (margin, more[1]), (0, 0)), mode="reflect").astype(np.float32)
    wanted = each_engine.run(framed[None])[0, margin:, margin:][: shape[0], : shape[1]]
    for steps in (1, 5):
        with open_for(each_engine.info, write(tmp_path / f"{steps}.tif", image)) as scene:
            size = 2 * round_up(each_engine.info.halo, stride) + steps * stride
            probabilities, valid = predict_array(each_engine, scene, size=size)
        assert valid.all()
        np.testing.assert_array_equal(probabilities, wanted)


def test_what_lies_within_is_what_the_whole_scene_gives(engine, tmp_path):
    part = Window(40, 90, 30, 60)
    with open_for(engine.info, write(tmp_path / "scene.tif", noise(203, 317))) as scene:
        probabilities, _ = predict_array(engine, scene)
        pieces = list(walk(engine, scene, size=112, within=part))
    assert 0 < len(pieces) < len(cover(203, 317, size=112, halo=engine.info.halo, stride=engine.info.stride))
    assert (
        sum(found.height * found.width for piece in pieces if (found := piece.tile.core.shared_with(part))) == 30 * 60
    )
    for piece in pieces:
        np.testing.assert_array_equal(piece.probabilities, probabilities[piece.tile.core.slices])


def test_flips_and_turns_are_symmetric_and_seamless(each_engine, tmp_path):
    info, image = each_engine.info, noise(75, 131)
    said = []
    for name, seen in (("plain", image), ("turned", np.rot90(image)), ("mirrored", image[:, ::-1])):
        with open_for(info, write(tmp_path / f"{name}.tif", seen)) as scene:
            said.append(predict_array(each_engine, scene, symmetries="all")[0])
    margin = round_up(info.halo, info.stride)
    with open_for(info, tmp_path / "plain.tif") as scene:
        windows = predict_array(each_engine, scene, symmetries="all", size=2 * margin + info.stride)[0]
        plain = predict_array(each_engine, scene)[0]
    for other in (np.rot90(said[1], -1), said[2][:, ::-1], windows):
        np.testing.assert_array_equal(other, said[0])
    assert not np.array_equal(plain, said[0])


def test_real_scene_is_exact_whatever_the_window(engine, data):
    with open_for(engine.info, data / "scenes" / "kampala_ug_z20_1.tif") as scene:
        results = [predict_array(engine, scene, size=size)[0] for size in (80, 160, 1024)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_a_halo_too_small_would_be_seen(engine, tmp_path):
    image = noise(200, 200)
    tiles = cover(200, 200, size=64, halo=0, stride=engine.info.stride)
    wanted = whole(engine, image)
    got = np.empty_like(wanted)
    padded = np.full((208, 208, 3), 100, np.float32)
    padded[:200, :200] = image
    for tile in tiles:
        got[tile.core.slices] = engine.run(padded[tile.read.slices][None])[0][tile.core.seen_from(tile.read).slices]
    assert (got != wanted).any()


def test_workers_change_no_byte(model, tmp_path):
    path = write(tmp_path / "scene.tif", noise(150, 170), **UTM)
    results = []
    for threads in (1, 3):
        other = open_engine(model, threads=threads)
        out = predict_scene(other, path, tmp_path / f"out{threads}", size=96)
        results.append([out.classes.read_bytes(), out.probabilities.read_bytes()])
    assert results[0] == results[1]


def test_nodata_in_is_nodata_out_and_changes_nothing_else(engine, tmp_path):
    image = noise(90, 120) // 2 + 1
    image[20:50, 30:80] = 0
    other = image.copy()
    first = predict_scene(engine, write(tmp_path / "a.tif", image, nodata=0), tmp_path / "out", size=96)
    mask = (image != 0).any(axis=-1)
    other[~mask] = 255
    with rasterio.open(write(tmp_path / "b.tif", other), "r+") as file:
        file.write_mask(mask)
    second = predict_scene(engine, tmp_path / "b.tif", tmp_path / "out", size=96)
    with rasterio.open(first.probabilities) as a, rasterio.open(second.probabilities) as b:
        np.testing.assert_array_equal(a.read(), b.read())
        np.testing.assert_array_equal(np.isnan(a.read(1)), ~mask)
    with rasterio.open(first.classes) as file:
        np.testing.assert_array_equal(file.read(1) == 255, ~mask)
        assert file.nodata == 255


@pytest.mark.parametrize(
    "place",
    [
        UTM,
        {"crs": "EPSG:4326", "transform": Affine(1e-6, 0, 30, 0, -1e-6, 59)},
        {"crs": "EPSG:32633", "transform": Affine(0.4, 0.3, 5e5, 0.3, -0.4, 4e6)},
        {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, 0.5, 4e6)},
        {},
    ],
    ids=["utm", "degrees", "rotated", "south-up", "none"],
)
def test_outputs_lie_where_the_scene_lies(engine, tmp_path, place):
    path = write(tmp_path / "scene.tif", noise(70, 80), **place)
    out = predict_scene(engine, path, tmp_path / "out")
    for written in (out.classes, out.probabilities):
        with rasterio.open(path) as a, rasterio.open(written) as b:
            assert (a.crs, a.transform, a.shape) == (b.crs, b.transform, b.shape)
    assert (out.polygons is None) == (not place)
    if place:
        frame = geopandas.read_file(out.polygons)
        assert frame.crs == place["crs"]
        with rasterio.open(path) as a, rasterio.open(out.classes) as b:
            drawn = rasterio.features.rasterize(frame.geometry, a.shape, transform=a.transform)
            np.testing.assert_array_equal(drawn == 1, b.read(1) == 100)


def test_control_points_are_kept(engine, tmp_path):
    points = [GroundControlPoint(row=r, col=c, x=10 + c, y=50 - r) for r, c in [(0, 0), (0, 60), (60, 0), (60, 60)]]
    path = write(tmp_path / "scene.tif", noise(64, 64))
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    out = predict_scene(engine, path, tmp_path / "out")
    with rasterio.open(out.classes) as file:
        kept, crs = file.gcps
    assert [(p.row, p.col, p.x, p.y) for p in kept] == [(p.row, p.col, p.x, p.y) for p in points]
    assert crs.to_epsg() == 4326


def test_rasters_are_cloud_optimised_with_colours_and_overviews(engine, tmp_path):
    out = predict_scene(engine, write(tmp_path / "scene.tif", noise(600, 700), **UTM), tmp_path / "out")
    with rasterio.open(out.classes) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.colormap(1)[100] == (*LEGEND.classes[0].rgb, 255)
        assert file.overviews(1)
        assert file.tags()["CLASS_100"] == "building"
    with rasterio.open(out.probabilities) as file:
        assert file.descriptions == ("building probability",)
        assert 0 <= np.nanmin(file.read()) <= np.nanmax(file.read()) <= 1


def test_exclusive_classes_take_the_most_probable(tmp_path_factory, tmp_path):
    legend = Legend.of(["ground", "house", "road"], exclusive=True)
    engine = open_engine(export_network(tmp_path_factory.mktemp("model"), "unet", legend))
    out = predict_scene(engine, write(tmp_path / "scene.tif", noise(80, 60), **UTM), tmp_path / "out")
    with rasterio.open(out.probabilities) as p, rasterio.open(out.classes) as c:
        np.testing.assert_array_equal(p.read().argmax(axis=0), c.read(1))
        np.testing.assert_allclose(p.read().sum(axis=0), 1, atol=1e-5)


def test_later_overlapping_classes_lie_on_top():
    legend = Legend.of({1: "field", 4: "tree"})
    probabilities = np.array([[[0.9, 0.9], [0.9, 0.1], [0.1, 0.1], [np.nan, np.nan]]], np.float32)
    assert decide(probabilities, legend, (0.5, 0.5)).tolist() == [[4, 1, 0, 255]]
    assert decide(probabilities, legend, (0.5, 0.95)).tolist() == [[1, 1, 0, 255]]


def test_scenes_that_do_not_fit_are_refused_in_plain_words(engine, data, tmp_path):
    rasters = data / "rasters"
    with pytest.raises(ModelError, match=r"3 bands of the model .* got 1 .*--bands"):
        open_for(engine.info, rasters / "panchromatic_uint16.tif")
    with pytest.raises(ModelError, match=r"8-bit values .* got uint16"):
        open_for(engine.info, rasters / "worldview_vegas_uint16.tif")
    with pytest.raises(SceneError, match="complex64"):
        open_for(engine.info, rasters / "sar_complex64.tif")
    with pytest.raises(SceneError, match="must be a file"):
        open_for(engine.info, tmp_path / "absent.tif")


def test_near_infrared_called_alpha_is_a_band_where_the_model_wants_four(tmp_path_factory, data):
    engine = open_engine(export_network(tmp_path_factory.mktemp("model"), "unet", bands=4))
    path = next((data / "naip" / "val" / "img").glob("*.tif"))
    with open_for(engine.info, path) as scene:
        assert scene.indexes == [1, 2, 3, 4]


def test_bands_are_found_by_name(engine, tmp_path):
    image = noise(40, 40)
    path = write(tmp_path / "scene.tif", image[..., [2, 0, 1]], photometric="MINISBLACK")
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("band 3", "band 1", "band 2")
    with open_for(engine.info, path) as scene:
        probabilities, _ = predict_array(engine, scene)
    np.testing.assert_array_equal(probabilities, whole(engine, image))


def test_a_broken_scene_leaves_nothing_behind(engine, data, tmp_path):
    source = data / "scenes" / "kampala_ug_z20_1.tif"
    broken = tmp_path / "broken.tif"
    broken.write_bytes(source.read_bytes()[:-200_000])
    with pytest.raises(SceneError, match=r"broken\.tif"):
        predict_scene(engine, broken, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_another_scale_or_brightness_is_doubted(engine, data):
    info = engine.info.model_copy(update={"gsd_m": (0.4, 0.6), "value_range": ((0, 40),) * 3, "local": False})
    with open_for(info, data / "scenes" / "kampala_ug_z20_1.tif") as scene:
        said = " ".join(doubts(info, scene))
    assert "pixels of 0.15 m" in said
    assert "in training only 40" in said
    assert "sees a whole window" in said


@pytest.mark.parametrize("shape", [(4096, 4096), (1500, 300), (200, 90), (1, 1)])
@pytest.mark.parametrize(("halo", "stride"), [(22, 16), (94, 16), (309, 32), (700, 32)])
def test_no_window_of_allowed_size_costs_less_than_the_chosen(engine, shape, halo, stride):
    info = engine.info.model_copy(update={"halo": halo, "stride": stride})

    def cost(size):
        tiles = cover(*shape, size=size, halo=halo, stride=stride)
        return -(-len(tiles) // 2) * (tiles[0].read.height * tiles[0].read.width + WINDOW_PX)

    chosen = choose_window(info, shape, workers=2)
    margin = round_up(halo, stride)
    limit = max(LARGEST, HALOS * margin)
    taken = lay_out(info, shape, workers=2).side
    assert math.prod(taken) <= limit**2
    assert max(taken) <= 2 * limit
    sides = range(2 * margin + (256 // stride) * stride, 2 * limit, 8 * stride)  # smaller ones are very many
    allowed = [size for size in itertools.product(sides, sides) if math.prod(size) <= limit**2]
    squares = [size for size in allowed if size[0] == size[1]]
    assert cost(chosen) <= min(map(cost, squares + allowed[:: len(allowed) // 100 + 1]))


def test_without_a_halo_windows_are_few(engine):
    info = engine.info.model_copy(update={"halo": 0, "stride": 16})
    assert choose_window(info, (256, 256), workers=2) == (128, 256)
    assert choose_window(info, (200, 200), workers=1) == (208, 208)
    # Sides that no window divides: single pixels would compute least.
    single = engine.info.model_copy(update={"halo": 0, "stride": 1})
    assert len(lay_out(single, (397, 411), workers=2)) == 2
    assert len(lay_out(single, (5001, 4999), workers=2)) == 16


def test_thresholds_are_checked(engine):
    assert check_thresholds([0.3], engine.info) == (0.3,)
    assert check_thresholds(None, engine.info) == engine.info.thresholds
    with pytest.raises(SettingError, match=r"from 0 to 1, got 1\.5"):
        check_thresholds([1.5], engine.info)


def test_polygons_carry_true_area_and_mean_probability(engine, tmp_path):
    path = write(tmp_path / "scene.tif", noise(64, 64), crs="EPSG:3857", transform=Affine(0.5, 0, 2e6, 0, -0.5, 8.4e6))
    out = predict_scene(engine, path, tmp_path / "out")
    frame = geopandas.read_file(out.polygons)
    with rasterio.open(out.probabilities) as file:
        probability = file.read(1)
    inside = probability >= 0.5
    assert frame["area_px"].sum() == inside.sum()
    weighted = (frame["mean_probability"] * frame["area_px"]).sum() / frame["area_px"].sum()
    assert weighted == pytest.approx(probability[inside].mean(), rel=1e-4)
    # At 60° north web mercator stretches areas by four.
    assert frame["area_m2"].sum() < 0.3 * frame.area.sum()


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory):
    """A network of three classes that overlap."""
    legend = Legend.of(["river", "pond", "house"])
    return open_engine(export_network(tmp_path_factory.mktemp("model"), "unet", legend=legend))


def test_rasters_and_polygons_hold_the_decision(overlapping, tmp_path):
    legend = overlapping.info.legend
    path = write(tmp_path / "scene.tif", noise(90, 121), **UTM)
    with open_for(overlapping.info, path) as scene:
        said, gsd_m = predict_array(overlapping, scene)[0], scene.grid.gsd_m
    limits = tuple(np.quantile(said, 0.5, axis=(0, 1)).tolist())
    for number, (px, m2) in enumerate([((0, 0, 0), (0, 0, 0)), ((30, 0, 9), (0, 20 * gsd_m**2, 0))]):
        decision = Decision(legend, limits, px, m2, (Merge("river", ("pond", "house")),))
        masks = decision.masks(said, gsd_m=gsd_m)
        out = predict_scene(overlapping, path, tmp_path / str(number), decision=decision, size=80)
        with rasterio.open(out.classes) as file:
            np.testing.assert_array_equal(file.read(1), flatten(masks, legend))
        with rasterio.open(out.probabilities) as file:
            assert Decision.from_tags(file.tags(), legend) == decision
        frame = geopandas.read_file(out.polygons)
        assert frame.groupby("class_id")["area_px"].sum().to_dict() == dict(
            zip(legend.ids, masks.sum(axis=(0, 1)).tolist(), strict=True)
        )


def test_exclusive_classes_lose_small_polygons(tmp_path):
    legend = Legend.of(["ground", "house", "road"], exclusive=True)
    engine = open_engine(export_network(tmp_path, "unet", legend=legend))
    path = write(tmp_path / "scene.tif", noise(60, 70), **UTM)
    every, large = (
        geopandas.read_file(predict_scene(engine, path, tmp_path / "out", decision=decision).polygons)
        for decision in (None, Decision(legend, min_area_px=(12, 0, 3)))
    )
    wanted = every[every["area_px"] >= every["class_id"].map({0: 12, 1: 0, 2: 3})]
    assert len(large) < len(every)
    assert large["area_px"].tolist() == wanted["area_px"].tolist()
