"""Flips and turns at prediction: the scene's mirror image gets the mirror image of its probabilities, bit for bit."""

import numpy as np
import pytest
import rasterio

from satmask.engines import Engine
from satmask.errors import SettingError
from satmask.fitting import open_for
from satmask.legend import Legend
from satmask.model_file import BandInfo, ModelInfo
from satmask.prediction import predict_array
from satmask.symmetry import place, run, ways
from satmask.windows import Window, cover

LEGEND = Legend.of({100: "building"})
THREE = Legend.of(["ground", "house", "road"], exclusive=True)


class Blocks(Engine):
    """A network with a stride of 4 and a halo of 8 that knows left from right, up from down, and its blocks' corners."""

    name = "blocks"

    def _run(self, images):
        left, up = np.roll(images, 5, axis=2), np.roll(images, 3, axis=1)
        left[:, :, :5], up[:, :3] = 0, 0
        shape = (len(images), images.shape[1] // 4, 4, images.shape[2] // 4, 4, images.shape[3])
        blocks = np.broadcast_to((images + left).reshape(shape).max(axis=(2, 4), keepdims=True), shape)
        mixed = images + 2 * left + 3 * up + blocks.reshape(images.shape)
        values = mixed[..., :1] * np.arange(1, 1 + len(self.info.legend), dtype=np.float32) / 2000
        if self.info.legend.exclusive:
            values = values / values.sum(axis=-1, keepdims=True)
        return np.clip(values, 0, 1).astype(np.float32)


def blocks(legend=LEGEND):
    return Blocks(
        ModelInfo(
            legend=legend, bands=(BandInfo(name="grey"),), dtype="uint8", value_range=((0, 255),), fill=(7.0,),
            stride=4, halo=8, activation=legend.activation, network="blocks",
        )
    )  # fmt: skip


def write(path, values):
    bands = values[..., None] if values.ndim == 2 else values
    with rasterio.open(
        path, "w", driver="GTiff", height=bands.shape[0], width=bands.shape[1], count=bands.shape[2], dtype=bands.dtype
    ) as file:
        file.write(np.moveaxis(bands, -1, 0))
    return path


def predict(engine, path, **settings):
    with open_for(engine.info, path) as scene:
        return predict_array(engine, scene, **settings)[0]


def noise(*shape):
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("mean", ["geometric", "arithmetic"])
@pytest.mark.parametrize("legend", [LEGEND, THREE], ids=["sigmoid", "softmax"])
@pytest.mark.parametrize("shape", [(40, 52), (41, 67), (3, 90), (1, 1)])
def test_a_mirrored_scene_gets_mirrored_probabilities(tmp_path, shape, legend, mean):
    engine, image = blocks(legend), noise(*shape)
    plain = predict(engine, write(tmp_path / "plain.tif", image), symmetries="all", mean=mean, size=24)
    for number, way in enumerate(ways("all")):
        seen = predict(
            engine, write(tmp_path / f"{number}.tif", way.apply(image)), symmetries="all", mean=mean, size=28
        )
        assert np.array_equal(way.undo(seen), plain)


@pytest.mark.parametrize("symmetries", ["flips", "all"])
@pytest.mark.parametrize("shape", [(64, 64), (61, 90), (90, 33), (24, 200)])
def test_windows_equal_the_whole_in_every_way(tmp_path, shape, symmetries):
    engine, path = blocks(), write(tmp_path / "scene.tif", noise(*shape))
    whole = predict(engine, path, symmetries=symmetries, size=256)
    for size in (20, 24, 44):
        assert np.array_equal(predict(engine, path, symmetries=symmetries, size=size), whole)


@pytest.mark.parametrize("shape", [(64, 64), (61, 90), (5, 33), (24, 203)])
@pytest.mark.parametrize(("halo", "stride"), [(8, 4), (5, 4), (0, 1), (17, 16)])
def test_each_way_shows_the_core_its_halo_on_the_strides_of_the_scene_as_seen(shape, halo, stride):
    for tile in cover(*shape, size=2 * -(-halo // stride) * stride + 2 * stride, halo=halo, stride=stride):
        for way in ways("flips"):
            window = place(tile, way, shape, halo=halo, stride=stride)
            for flipped, length, core, start, side in (
                (way.rows, shape[0], (tile.core.row, tile.core.height), window.row, window.height),
                (way.columns, shape[1], (tile.core.column, tile.core.width), window.column, window.width),
            ):
                first = length - core[0] - core[1] if flipped else core[0]
                begin = length - start - side if flipped else start
                end, padded = begin + side, -(-length // stride) * stride
                assert begin % stride == side % stride == 0
                assert begin <= max(first // stride * stride - halo, 0)
                assert min(-(-(first + core[1]) // stride) * stride + halo, padded) <= end <= padded


def test_a_network_that_knows_no_direction_says_the_same():
    image = noise(8, 8)[..., None].astype(np.float32)
    places = [(way, Window(0, 0, 8, 8)) for way in ways("all")]
    for mean in ("geometric", "arithmetic"):
        said = run(lambda x: x / 255, lambda _: image, places, Window(0, 0, 8, 8), mean=mean)
        np.testing.assert_allclose(said, image / 255, rtol=1e-6, atol=1e-12)


def test_means_are_what_their_names_say():
    said = iter([[[0.9, 0.0]], [[0.4, 1.0]], [[0.5, 1.0]], [[0.7, 0.5]]])
    places = [(way, Window(0, 0, 1, 1)) for way in ways("flips")]
    values = [np.array(values, np.float32)[None, None] for values in said]
    for mean, wanted in (("geometric", [(0.9 * 0.4 * 0.5 * 0.7) ** 0.25, 0]), ("arithmetic", [0.625, 0.625])):
        answers = iter(values)
        found = run(lambda _, a=answers: next(a), lambda _: np.zeros((1, 1, 1)), places, Window(0, 0, 1, 1), mean=mean)
        np.testing.assert_allclose(found[0, 0], wanted, rtol=1e-6)


def test_exclusive_classes_still_add_up(tmp_path):
    said = predict(blocks(THREE), write(tmp_path / "scene.tif", noise(30, 41)), symmetries="all")
    np.testing.assert_allclose(said.sum(axis=-1), 1, rtol=1e-6)


def test_unknown_symmetries_are_refused():
    with pytest.raises(SettingError, match="none, flips or all, got 'turns'"):
        ways("turns")
