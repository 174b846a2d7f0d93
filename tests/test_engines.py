"""Laws of running: windows equal the whole, and batches, threads and window sizes change no byte."""

from pathlib import Path

import numpy as np
import pytest

from satmask import models
from satmask.engines import ENGINES, Engine, open_engine
from satmask.errors import ModelError, SettingError
from satmask.legend import Legend
from satmask.model_file import ModelInfo, export, read_info
from satmask.models import measure_reach, save_keras
from satmask.windows import cover, round_up

NETWORKS = {
    "unet": {"filters": (4, 5, 6, 7, 8)},
    "cnn": {"filters": (4, 5, 6, 8)},
    "dilated": {"filters": (4, 4, 6, 8), "window": 128},
}


def randomise(network):
    """Give every weight a value of its own: at the start normalisation does nothing and biases are 0."""
    random = np.random.default_rng(0)
    spread = {"gamma": (0.5, 1.5), "moving_variance": (0.5, 1.5), "beta": (-0.3, 0.3), "moving_mean": (-0.3, 0.3)}
    spread["bias"] = (-0.3, 0.3)
    network.set_weights([random.uniform(*spread[w.name], w.shape) if w.name in spread else w for w in network.weights])
    return network


@pytest.fixture(scope="module", params=NETWORKS)
def path(request, tmp_path_factory):
    """A model file of each network, with its halo measured."""
    network = randomise(
        models.build(request.param, bands=3, classes=2, activation="sigmoid", **NETWORKS[request.param])
    )
    reach = measure_reach(network)
    info = ModelInfo(
        legend=Legend.of(["a", "b"]),
        bands=[{"name": name} for name in ("red", "green", "blue")],
        dtype="uint8",
        value_range=[(0, 255)] * 3,
        fill=[0] * 3,
        stride=reach.stride,
        halo=reach.halo,
        local=reach.local,
        activation="sigmoid",
        network=request.param,
    )
    path = export(network, tmp_path_factory.mktemp(request.param) / "model.onnx", info)
    save_keras(network, path.with_suffix(".keras"))
    return path


def draw_images(*shape):
    return np.random.default_rng(1).uniform(0, 255, (*shape, 3)).astype(np.float32)


def run_windowed(engine, image, *, size, halo=None):
    """Run window by window and keep the cores, padding to the stride as prediction does."""
    height, width, stride = *image.shape[:2], engine.info.stride
    padded = np.zeros((round_up(height, stride), round_up(width, stride), 3), np.float32)
    padded[:height, :width] = image
    out = np.full((height, width, 2), np.nan, np.float32)
    tiles = cover(height, width, size=size, halo=engine.info.halo if halo is None else halo, stride=stride)
    for tile in tiles:
        out[tile.core.slices] = engine.run(padded[tile.read.slices][None])[0][tile.core.seen_from(tile.read).slices]
    return out, engine.run(padded[None])[0, :height, :width], len(tiles)


@pytest.mark.parametrize("sides", [(203, 317), (1, 1)])
def test_windowed_equals_whole_bit_for_bit(path, sides):
    engine = open_engine(path, threads=2)
    for size in (240, 288):
        windowed, whole, count = run_windowed(engine, draw_images(*sides), size=size)
        assert count > 1 or max(sides) < size
        np.testing.assert_array_equal(windowed, whole)


def test_without_a_halo_windows_differ(path):
    windowed, whole, _ = run_windowed(open_engine(path), draw_images(203, 317), size=96, halo=0)
    assert np.abs(windowed - whole).max() > 1e-3


def test_batch_size_and_threads_change_no_byte(path):
    images = draw_images(3, 64, 96)
    together = open_engine(path, threads=2).run(images)
    alone = open_engine(path, threads=1)
    np.testing.assert_array_equal(together, np.concatenate([alone.run(image[None]) for image in images]))
    assert alone.run(images[:0]).shape == (0, 64, 96, 2)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is told by Linux's /proc")
def test_an_engine_that_rested_holds_less_and_says_the_same(path):
    def held_mb():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    engine, image = open_engine(path, threads=1), draw_images(1, 1024, 1024)
    first = engine.run(image)
    before = held_mb()
    engine.rest()
    assert held_mb() < before - 20
    np.testing.assert_array_equal(engine.run(image), first)


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "auto"])
def test_engines_agree(path, name):
    if name == "openvino":
        pytest.importorskip("openvino")
    images = draw_images(2, 48, 80)
    engine = open_engine(path, engine=name, threads=1)
    assert engine.name == name
    np.testing.assert_allclose(engine.run(images), open_engine(path).run(images), atol=1e-5)


@pytest.mark.parametrize("writeable", [True, False])
def test_probabilities_stay_within_0_and_1_however_the_sigmoid_rounds(path, writeable):
    class Sure(Engine):
        """What ONNX Runtime says of 17.844, and what other arithmetic might."""

        def _run(self, images):
            said = np.array([1.0000001, -1e-9, np.nan, 0.25], np.float32).reshape(1, 2, 2, 1)
            said.flags.writeable = writeable
            return said

    engine = Sure(read_info(path).model_copy(update={"stride": 1}))
    np.testing.assert_array_equal(engine.run(draw_images(1, 2, 2)).ravel(), [1, 0, np.nan, 0.25])


def test_wrong_shapes_and_names_are_refused(path):
    engine = open_engine(path)
    with pytest.raises(SettingError, match=r"Images must be \(batch, height, width, 3\)"):
        engine.run(np.zeros((1, 16, 16, 4), np.float32))
    with pytest.raises(SettingError, match="Engine must be one of"):
        open_engine(path, engine="abacus")
    with pytest.raises(SettingError, match="Threads must be at least 1"):
        open_engine(path, threads=0)


def test_keras_engine_says_what_it_misses(path, tmp_path):
    lonely = tmp_path / "model.onnx"
    lonely.write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match=r"must find model\.keras beside"):
        open_engine(lonely, engine="keras")
    lonely.with_suffix(".keras").write_text("no network")
    with pytest.raises(ModelError, match="Keras model must be readable"):
        open_engine(lonely, engine="keras")
