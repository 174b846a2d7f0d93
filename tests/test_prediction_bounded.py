"""Prediction of large scenes: memory that doesn't grow with them, windows chosen at once, plans that say what comes."""

import math
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from satmask.engines import open_engine
from satmask.errors import SettingError
from satmask.fitting import open_for
from satmask.prediction import choose_window, predict_array, predict_scene, walk
from satmask.prediction.blending import cell_of, overlapping, taper
from satmask.prediction.planning import Footprint, _room, find_room, parse_bytes, plan_scene
from satmask.prediction.tiling import LARGEST, WINDOW_PX, lay_out
from satmask.prediction.walking import Seeing
from satmask.windows import cover, round_up

UTM = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 4e6)}


def write_sparse(path, side, *, filled=1):
    """A scene of one noisy block in each row of blocks; what isn't written isn't on disk."""
    noise = np.random.default_rng(0).integers(1, 255, (3, 256, 256), dtype=np.uint8)
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "nodata": 0}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True}
    with rasterio.open(path, "w", **profile, **tiles, **UTM) as file:
        for block in range(filled):
            file.write(noise, window=rasterio.windows.Window(256 * block, 256 * block, 256, 256))
    return path


@pytest.fixture(scope="module")
def engine(tmp_path_factory, write_convolutions):
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    return open_engine(write_convolutions(path, ("river", "house"), min_area_px=(9, 9)), threads=1)


@pytest.fixture(scope="module")
def seeing_all(tmp_path_factory, write_convolutions):
    """A network that sees the whole window."""
    return open_engine(write_convolutions(tmp_path_factory.mktemp("model") / "model.onnx", sees_all=True), threads=2)


MEASURE = """
import sys
from satmask.cli import main
code = main(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024, file=sys.stderr)
sys.exit(code)
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory of a process")


def peak(model, scene, *flags):
    """Highest memory of a process that predicts a scene, in bytes; and what it said."""
    command = [sys.executable, "-c", MEASURE, "predict", model, scene, "--out", scene.with_suffix(""), *flags]
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    return int(ended.stderr.splitlines()[-1]), ended.stderr


@on_linux
def test_memory_does_not_grow_with_the_scene(engine, tmp_path):
    flags = ("--window", "512", "--threads", "1", "--threshold", "0.9", "--quiet")
    small, large = (
        peak(engine.path, write_sparse(tmp_path / f"{side}.tif", side, filled=4), *flags)[0] for side in (3072, 6144)
    )
    # The smaller one doesn't quite fill what is bounded: caches and strips. Beyond, 9216² takes 13 MB more than 6144².
    # The probabilities that the larger scene has more are 226 MB.
    assert large - small < 140e6


@settings(max_examples=40)
@given(st.integers(1, 120), st.integers(1, 120), st.sampled_from([1, 4, 16]), st.data())
def test_blended_windows_hold_every_pixel(height, width, stride, data):
    info = FakeInfo(stride=stride, halo=0, local=False)
    size = stride * data.draw(st.integers(2 if stride > 1 else 8, 24))
    tiling = lay_out(info, (height, width), size=size)
    count = np.zeros((height, width), int)
    for step in tiling.steps:
        cell = cell_of(tiling, step.number)
        count[cell.slices] += 1
        held = np.zeros((height, width), bool)
        for other in overlapping(tiling, step.number):
            assert other <= step.number
            held[tiling.steps[other].tile.core.slices] = True
        assert held[cell.slices].all()
    assert (count == 1).all()


class FakeInfo:
    """What a tiling asks of a model."""

    def __init__(self, **said):
        self.stride, self.halo, self.local, self.margin = said["stride"], said["halo"], said["local"], 0
        self.upsampling = 1
        self.legend = ("one",)


def test_a_taper_never_reaches_zero():
    for size in (1, 2, 7, 64):
        for ramp in (0, 1, size // 4, size):
            weights = taper(size, ramp)
            assert (weights > 0).all()
            assert (weights == weights[::-1]).all()


def test_blending_is_the_weighted_mean_of_all_windows(seeing_all, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (100, 130, 3), dtype=np.uint8)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", height=100, width=130, count=3, dtype="uint8", **UTM
    ) as file:
        file.write(np.moveaxis(image, -1, 0))
    sums, total = np.zeros((100, 130)), np.zeros((100, 130))
    tiles = cover(100, 130, size=48, halo=6, stride=1)
    weight = np.outer(
        taper(tiles[0].read.height, tiles[0].read.height // 4), taper(tiles[0].read.width, tiles[0].read.width // 4)
    )
    for tile in tiles:
        said = seeing_all.run(image[tile.read.slices].astype(np.float32)[None])[0, ..., 0]
        sums[tile.read.slices] += said * weight
        total[tile.read.slices] += weight
    with open_for(seeing_all.info, tmp_path / "scene.tif") as scene:
        got = predict_array(seeing_all, scene, size=48)[0][..., 0]
        part = next(iter(walk(seeing_all, scene, size=48, within=tiles[6].core)))
    np.testing.assert_allclose(got, sums / total, atol=1e-6)
    np.testing.assert_array_equal(part.probabilities[..., 0], got[part.tile.core.slices])
    out = predict_scene(seeing_all, tmp_path / "scene.tif", tmp_path / "out", size=48)
    with rasterio.open(out.probabilities) as file:
        np.testing.assert_array_equal(file.read(1), got)


@settings(max_examples=15)
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([2, 16, 32]), st.integers(0, 300), st.integers(1, 4))
def test_costs_are_counted_as_windows_are_cut(height, width, stride, halo, workers):
    info = FakeInfo(stride=stride, halo=halo, local=True)
    margin = round_up(halo, stride)
    chosen = choose_window(info, (height, width), workers=workers)

    def cost(size):
        tiles = cover(height, width, size=size, halo=halo, stride=stride)
        return -(-len(tiles) // workers) * (tiles[0].read.height * tiles[0].read.width + WINDOW_PX)

    sizes = np.random.default_rng(0).integers(5, 60, (6, 2)) * stride + 2 * margin
    limit = max(LARGEST, 6 * margin)
    assert all(cost(chosen) <= cost((int(tall), int(wide))) for tall, wide in sizes if tall * wide <= limit**2)


def test_windows_of_a_huge_scene_are_chosen_at_once():
    begun = time.perf_counter()
    size = choose_window(FakeInfo(stride=1, halo=9, local=True), (100_000, 100_000), workers=8)
    assert 1000**2 <= math.prod(size) <= LARGEST**2
    assert time.perf_counter() - begun < 0.5


def test_a_memory_that_is_named_may_be_used_for_windows_that_repeat_less():
    info, shape = FakeInfo(stride=32, halo=309, local=True), (20_000, 20_000)
    usual, roomy = (choose_window(info, shape, workers=2, largest=largest) for largest in (None, 3840))
    assert math.prod(usual) <= (6 * 320) ** 2 < math.prod(roomy) <= 3840**2
    windows = [lay_out(info, shape, size=size) for size in (usual, roomy)]
    assert windows[1].cost < 0.75 * windows[0].cost


def test_sizes_of_memory_are_read():
    assert [parse_bytes(text) for text in ("2GB", "2g", "1.5 GiB", "800MiB", "1000")] == [
        2 * 10**9, 2 * 10**9, 3 << 29, 800 << 20, 1000
    ]  # fmt: skip
    for text in ("", "GB", "2 GBs", "-1GB", "0", "1i"):
        with pytest.raises(SettingError, match="such as 2GB"):
            parse_bytes(text)


@pytest.mark.parametrize(("memory", "expected"), [(9e9, 2), (2.6e9, 2), (1.4e9, 2), (0.9e9, 1)])
def test_a_memory_is_used_in_the_way_that_is_done_soonest(memory, expected):
    """With a large halo, one large window at a time computes far less than two small ones."""
    engine = SimpleNamespace(info=FakeInfo(stride=32, halo=309, local=True))
    scene = SimpleNamespace(shape=(8192, 8192), name="scene")
    taken = Footprint(base_bytes=150e6, bytes_per_px=250.0, seconds_per_px=1e-6, at_once=2)
    room = _room(engine, scene, taken, int(memory))
    assert (room.at_once, room.memory_bytes <= memory) == (expected, True)

    def work(at_once, largest):
        tiling = lay_out(
            engine.info, scene.shape, size=choose_window(engine.info, scene.shape, workers=at_once, largest=largest)
        )
        return -(-len(tiling) // at_once) * tiling.side[0] * tiling.side[1]

    chosen = work(room.at_once, room.largest)
    for at_once in (1, 2):
        fitting = [side for side in range(672, 3841, 96) if taken.memory(side**2, 4 * side**2, at_once) <= memory]
        assert all(chosen <= 1.01 * work(at_once, side) for side in fitting)


def test_less_memory_means_smaller_windows(engine, tmp_path, monkeypatch):
    # What other tests leave in this process would be measured, too.
    taken = Footprint(base_bytes=150e6, bytes_per_px=80.0, seconds_per_px=1e-6, at_once=1)
    monkeypatch.setattr("satmask.prediction.planning.measure", lambda *_: taken)
    scene = write_sparse(tmp_path / "scene.tif", 2048, filled=8)
    free = plan_scene(engine, scene)
    tight = (free.memory_bytes + plan_scene(engine, scene, size=64).memory_bytes) // 2
    small = plan_scene(engine, scene, memory_bytes=tight)
    assert math.prod(small.window) < math.prod(free.window)
    assert small.memory_bytes <= tight
    with pytest.raises(SettingError, match=r"Give [\d,]+ MB or more"):
        find_room(engine, scene, 10**6, seeing=Seeing())


@on_linux
def test_the_memory_asked_for_is_kept(write_convolutions, tmp_path):
    model = write_convolutions(tmp_path / "model.onnx", layers=3, width=8)
    taken, said = peak(
        model, write_sparse(tmp_path / "scene.tif", 2560, filled=10), "--memory", "900MB", "--threads", "2"
    )
    assert taken < 900e6
    assert "note: windows of" in said
