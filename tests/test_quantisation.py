"""Laws of quantised models: close to float32, exact in windows, the same bytes twice, and nothing written where refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from satmask import Legend, LegendClass, models, open_engine, read_dataset
from satmask.cli import main
from satmask.datasets.town import write_tiles
from satmask.errors import DataError, ModelError, SettingError
from satmask.model_file import KEY, ModelInfo, check, export, read_info, rewrite, write
from satmask.models import measure_reach
from satmask.quantisation import (
    METHODS,
    Outcome,
    Terms,
    Trial,
    fold,
    layers,
    measure_ranges,
    quantise,
    quantise_file,
    store_halves,
)
from satmask.timing import interleave
from satmask.windows import cover

NETWORKS = {
    "unet": {"filters": (4, 8, 8)},
    "cnn": {"filters": (4, 8, 8)},
    "dilated": {"filters": (4, 4, 8, 8), "window": 32},
}
ENGINES = ["onnxruntime", "openvino"]
EASY = Terms(max_loss=100, min_gain=0, engine="onnxruntime", windows=1, side=32, rounds=1)


def make_model(folder, name, **settings):
    """A model file whose normalisations and biases do something, and whose probabilities differ from pixel to pixel."""
    keras.utils.set_random_seed(0)  # some draws of kernels say next to nothing
    network = models.build(name, bands=3, classes=1, activation="sigmoid", **NETWORKS[name])
    random = np.random.default_rng(0)
    spread = {"gamma": (0.7, 1.3), "moving_variance": (0.5, 1.5), "beta": (-0.3, 0.3), "moving_mean": (-0.3, 0.3)}
    spread["bias"] = (-0.3, 0.3)
    kept = network.get_weights()
    network.set_weights(
        [
            random.uniform(*spread[weight.name], weight.shape) if weight.name in spread else value
            for weight, value in zip(network.weights, kept, strict=True)
        ]
    )
    reach = measure_reach(network)
    info = ModelInfo(
        legend=Legend([LegendClass(100, "building", "#E69F00")], exclusive=False),
        bands=[{"name": name} for name in ("red", "green", "blue")],
        dtype="uint8",
        value_range=[(0, 255)] * 3,
        fill=[0] * 3,
        stride=reach.stride,
        halo=reach.halo,
        activation="sigmoid",
        network=name,
        **settings,
    )
    return export(network, folder / "model.onnx", info)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Time on small windows: how long they take isn't what is tested."""
    monkeypatch.setattr("satmask.quantisation.trial.SCENE", (64, 64))


@pytest.fixture(scope="module", params=NETWORKS)
def pair(request, tmp_path_factory):
    """A model file, its quantised copy, and the images that it was calibrated on."""
    path = make_model(tmp_path_factory.mktemp(request.param), request.param)
    images, graph = draw_images(4, 96, 96), fold(path)
    whole = quantise(graph, measure_ranges(graph, images))
    return path, write(whole, path.with_name("int8.onnx"), check(path)), images


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """Labelled tiles of a synthetic town, and a model file."""
    folder = tmp_path_factory.mktemp("town")
    return write_tiles(folder / "tiles", count=4, size=96), make_model(folder, "unet")


def draw_images(*shape):
    return np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.float32)


def open_or_skip(path, name):
    if name == "openvino":
        pytest.importorskip("openvino")
    return open_engine(path, engine=name, threads=1)


def check_windows(engine):
    """Windows of two sizes against the whole image, bit for bit."""
    info, image = engine.info, draw_images(240, 304)
    whole, found = engine.run(image[None])[0], np.full((240, 304, 1), np.nan, np.float32)
    assert len(np.unique(whole)) > 100
    margin = -(-info.halo // info.stride) * info.stride
    for size in (2 * margin + info.stride, 2 * margin + 3 * info.stride):
        for tile in cover(240, 304, size=size, halo=info.halo, stride=info.stride):
            said = engine.run(image[tile.read.slices][None])[0]
            found[tile.core.slices] = said[tile.core.seen_from(tile.read).slices]
        np.testing.assert_array_equal(found, whole)


def skip_where_sums_overflow(path):
    """Without VNNI both engines add pairs of products in 16 bits; this network's don't fit, and `quantize` would refuse it."""
    flags = Path("/proc/cpuinfo")
    if check(path).network == "cnn" and flags.is_file() and "vnni" not in flags.read_text():
        pytest.skip("Processor has no VNNI: eight-bit sums of the Xception-style network overflow.")


@pytest.mark.parametrize("name", ENGINES)
def test_probabilities_stay_close_to_those_of_float32(pair, name):
    path, int8, images = pair
    skip_where_sums_overflow(path)
    before, after = open_engine(path, threads=1).run(images), open_or_skip(int8, name).run(images)
    assert before.std() > 0.02
    assert 0 < np.abs(after - before).mean() < 0.1 * before.std()


def test_fused_for_openvino_windows_are_exact_and_probabilities_closer(pair):
    path, int8, images = pair
    graph = fold(path)
    fused = quantise(graph, measure_ranges(graph, images), fused=True)
    there = write(fused, path.with_name("fused.onnx"), check(path))
    elus = sum(node.op_type == "Elu" for node in fused.graph.node)
    saved = [n.op_type for n in onnx.load(int8).graph.node].count("QuantizeLinear")
    assert saved - [n.op_type for n in fused.graph.node].count("QuantizeLinear") == max(elus - 1, 0)
    truth = open_engine(path, threads=1).run(images)
    distances = [np.abs(open_or_skip(file, "openvino").run(images) - truth).mean() for file in (there, int8)]
    assert distances[0] <= distances[1] * 1.05
    check_windows(open_or_skip(there, "openvino"))


@pytest.mark.parametrize("name", ENGINES)
def test_windowed_equals_whole_bit_for_bit(pair, name):
    check_windows(open_or_skip(pair[1], name))


def test_batch_and_threads_change_no_byte(pair):
    images = draw_images(3, 64, 96)
    together = open_engine(pair[1], engine="onnxruntime", threads=2).run(images)
    alone = open_engine(pair[1], engine="onnxruntime", threads=1)
    np.testing.assert_array_equal(together, np.concatenate([alone.run(image[None]) for image in images]))


def test_all_layers_but_the_first_take_whole_numbers(pair):
    graph = onnx.load(pair[1]).graph
    maker = {name: node.op_type for node in graph.node for name in node.output}
    kinds = [
        [maker.get(name) for name in node.input[:2]] for node in graph.node if node.op_type in ("Conv", "ConvTranspose")
    ]
    assert "DequantizeLinear" not in kinds[0]
    assert kinds[1:] == [["DequantizeLinear"] * 2] * (len(kinds) - 1)
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert list(stored.values()).count(onnx.TensorProto.INT8) >= len(kinds) - 1


def test_scores_are_not_rounded(pair):
    """With 256 scores there would be no more than 256 probabilities."""
    assert len(np.unique(open_engine(pair[1]).run(draw_images(2, 128, 128)))) > 256


@pytest.mark.parametrize("method", METHODS)
def test_calibration_is_the_same_twice(pair, method):
    path, _, images = pair
    texts = []
    for _ in range(2):
        graph = fold(path)
        found = quantise(graph, measure_ranges(graph, images, method=method))
        texts.append(found.SerializeToString(deterministic=True))
    assert texts[0] == texts[1]


def test_folding_changes_nothing_and_leaves_no_normalisation(pair):
    path, _, images = pair
    graph = fold(path)
    folded = open_engine(write(graph, path.with_name("folded.onnx"), check(path))).run(images)
    np.testing.assert_allclose(folded, open_engine(path).run(images), atol=1e-5)
    convolutions = {name for node in graph.graph.node if node.op_type == "Conv" for name in node.output}
    scaled = [n for n in graph.graph.node if n.op_type in ("Mul", "BatchNormalization") and n.input[0] in convolutions]
    assert not scaled


def test_percentiles_cut_what_extremes_keep(pair):
    graph = fold(pair[0])
    wide, narrow = (measure_ranges(graph, pair[2], method=method) for method in ("minmax", "percentile"))
    assert all(wide[name][0] <= low <= 0 <= high <= wide[name][1] for name, (low, high) in narrow.items())
    assert sum(wide[name] != ends for name, ends in narrow.items()) > len(wide) // 2


def test_values_that_are_not_finite_are_refused(pair):
    with pytest.raises(ModelError, match="must be finite to be quantised"):
        measure_ranges(fold(pair[0]), [np.full((64, 64, 3), np.inf, np.float32)])


def test_layers_can_stay_in_float32_but_not_all(pair):
    graph = fold(pair[0])
    ranges, names = measure_ranges(graph, pair[2]), layers(graph)
    whole = [int(t.data_type == onnx.TensorProto.INT8) for t in quantise(graph, ranges).graph.initializer]
    fewer = quantise(graph, ranges, floats=names[1:3])
    assert sum(int(t.data_type == onnx.TensorProto.INT8) for t in fewer.graph.initializer) <= sum(whole) - 2
    with pytest.raises(ModelError, match="must have a layer to be quantised"):
        quantise(graph, ranges, floats=names)


def test_halves_take_half_and_say_the_same(pair):
    path, _, images = pair
    graph = fold(path)
    halves = write(store_halves(graph), path.with_name("half.onnx"), check(path))
    said, truth = open_engine(halves).run(images), open_engine(path).run(images)
    assert 0 < np.abs(said - truth).max() < 5e-3
    floats = [t for t in onnx.load(halves).graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    assert sum(np.prod(t.dims) for t in floats) < 0.1 * sum(np.prod(t.dims) for t in graph.graph.initializer)


def test_weights_too_large_for_halves_stay(tmp_path):
    values = np.full((4, 8), 1e6, np.float32)
    tensor = onnx.numpy_helper.from_array(values, "w")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [], [tensor]))
    assert store_halves(model).graph.initializer[0].data_type == onnx.TensorProto.FLOAT


def test_the_file_says_what_was_done_and_keeps_the_rest(town, tmp_path):
    data, path = town
    dataset = read_dataset(data)
    out = tmp_path / "int8.onnx"
    outcome = quantise_file(path, out, training=dataset.splits["train"], validation=dataset.splits["val"], terms=EASY)
    info, before = check(out), check(path)
    assert not outcome.verdict()
    assert info.training["quantisation"] == outcome.to_dict() | {}
    assert info.model_copy(update={"training": before.training}) == before
    keys = [{entry.key for entry in onnx.load(file).metadata_props} for file in (path, out)]
    assert keys[0] == keys[1]
    assert KEY in keys[1]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["int8.onnx", "int8.stac.json"]


@pytest.mark.parametrize("change", [{"max_loss": 0.0}, {"min_gain": 1e6}])
def test_where_it_is_refused_no_file_is_left(town, tmp_path, monkeypatch, change):
    data, path = town
    dataset = read_dataset(data)
    # A network that was never trained may gain by rounding: the loss is made.
    found = iter([0.5, *[0.4] * 9])
    monkeypatch.setattr("satmask.quantisation.trial._Work._judge", lambda *_: next(found))
    terms = replace(EASY, **change)
    outcome = quantise_file(
        path, tmp_path / "q.onnx", training=dataset.splits["train"], validation=dataset.splits["val"], terms=terms
    )
    assert ("lose at most 0 points" in outcome.verdict()) == ("max_loss" in change)
    assert outcome.verdict()
    assert not list(tmp_path.iterdir())
    counts = [len(trial.floats) for trial in outcome.trials]
    assert counts == ([0, 1, 2, 4, 8] if "max_loss" in change else [0])


def test_leaving_layers_in_float_brings_probabilities_closer(town, tmp_path, monkeypatch):
    data, path = town
    dataset = read_dataset(data)
    found = iter([0.5, *[0.4] * 9])
    monkeypatch.setattr("satmask.quantisation.trial._Work._judge", lambda *_: next(found))
    settings = {"training": dataset.splits["train"], "validation": dataset.splits["val"]}
    trials = quantise_file(path, tmp_path / "q.onnx", **settings, terms=replace(EASY, max_loss=0)).trials
    assert trials[-1].distance < trials[0].distance
    assert set(trials[1].floats) < set(trials[-1].floats)


def test_what_cannot_be_asked_for_is_refused(town, tmp_path):
    _, path = town
    with pytest.raises(SettingError, match="Terms must have"):
        Terms(weights="int4")
    with pytest.raises(SettingError, match="must be a file of its own"):
        quantise_file(path, path, training=[1], validation=[1])
    with pytest.raises(DataError, match=r"images to calibrate and to judge on, got 0 and 1"):
        quantise_file(path, tmp_path / "q.onnx", training=[], validation=[1])


def test_verdict_names_a_gain_that_would_do():
    trial = Trial("minmax", (), 0.0, 0.7)
    told = {"images": 1, "validation_images": 1, "engine": "onnxruntime", "window": 64, "sizes": (4, 1)}
    outcome = Outcome(Terms(), 0.701, (trial,), seconds=(1.99, 1.0), **told)
    assert outcome.loss == pytest.approx(0.1)
    assert "got 1.99 ×" in outcome.verdict()
    assert "--min-gain 1.9 " in outcome.verdict()
    assert not replace(outcome, terms=Terms(min_gain=1.9)).verdict()
    assert "lose at most 0.3" in replace(outcome, iou=0.8).verdict()
    assert "lose at most 0.3" in replace(outcome, iou=float("nan")).verdict()


def test_the_command_from_end_to_end(town, tmp_path, capsys):
    data, path = town
    out = tmp_path / "small.onnx"
    flags = ["--engine", "onnxruntime", "--windows", "2", "--rounds", "1", "--max-loss", "100", "--quiet"]
    start = ["quantize", str(path), "--calibrate", str(data), "--out", str(out), *flags]
    assert main([*start, "--min-gain", "1e9"]) == 1
    assert capsys.readouterr().err.count("error: Quantised model must be 1e+09 × as fast") == 1
    assert not list(tmp_path.iterdir())
    assert main([*start, "--min-gain", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] == str(out)
    assert told["bytes_after"] == pytest.approx(out.stat().st_size, rel=0.2)
    scene = next((data / "val" / "images").iterdir())
    assert main(["predict", str(out), str(scene), "--out", str(tmp_path / "p"), "--quiet", "--no-polygons"]) == 0
    assert main(["quantize", str(path), "--calibrate", str(data), "--weights", "int3"]) == 2


@pytest.mark.parametrize(
    ("weights", "made_for", "wanted"),
    [("int8", "openvino", "openvino"), ("int8", "onnxruntime", "onnxruntime"), ("float16", "openvino", "onnxruntime")],
)
def test_files_of_eight_bits_run_where_they_were_made_for(town, tmp_path, weights, made_for, wanted):
    pytest.importorskip("openvino")
    _, path = town
    info = read_info(path)
    told = info.training | {"quantisation": {"weights": weights, "engine": made_for}}
    copy = rewrite(shutil.copy(path, tmp_path / "q.onnx"), info.model_copy(update={"training": told}))
    assert open_engine(copy).name == wanted
    assert open_engine(copy, engine="onnxruntime").name == "onnxruntime"


def test_halves_by_the_command(town, tmp_path, capsys):
    data, path = town
    out = tmp_path / "half.onnx"
    flags = ["--weights", "float16", "--engine", "onnxruntime", "--rounds", "1", "--quiet", "--json"]
    assert main(["quantize", str(path), "--calibrate", str(data), "--out", str(out), *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert abs(told["loss_points"]) < 0.3
    assert told["bytes_after"] == pytest.approx(out.stat().st_size, rel=0.2)


def test_cases_are_timed_in_turn():
    calls = []
    timings = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert all(len(timing.seconds) == 3 and timing.median >= 0 for timing in timings.values())
