"""Averages of runs: weights are means, normalisation is measured anew, and what doesn't fit is refused."""

import json

import keras
import numpy as np
import pytest

from reportless import reportless
from satmask.cli import main
from satmask.datasets import read_dataset
from satmask.datasets.town import write_tiles
from satmask.engines import open_engine
from satmask.errors import ModelError, SettingError
from satmask.model_file import read_info, rewrite
from satmask.recipe import Recipe
from satmask.training import average_runs, souping, train
from satmask.training.souping import remember

SMALL = ["window=32", "batch=4", "windows_per_epoch=16", "compile=false", "epochs=1"]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp("town"), count=6, size=64, seed=3)


@pytest.fixture(scope="module")
def runs(tiles, tmp_path_factory):
    """Two runs that began alike, and one of another network."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {"quick": ("[4, 6]", 0.02), "slow": ("[4, 6]", 0.001), "other": ("[4, 8]", 0.001)}
    with reportless():
        for name, (filters, rate) in settings.items():
            recipe = Recipe.load(settings=[*SMALL, f"network.filters={filters}", f"learning_rate={rate}"])
            train(read_dataset(tiles), folder / name, recipe, quiet=True)
    return folder


def weights(folder):
    """Weights by path, and those of which batch normalisation remembers something."""
    network = keras.saving.load_model(folder / "model.keras", compile=False)
    own = {weight.path: np.asarray(weight) for weight in network.weights}
    return own, {path for path in own if "moving_" in path}


def test_weights_are_means_and_statistics_are_not(runs, tiles, tmp_path):
    found = average_runs(read_dataset(tiles), [runs / "quick", runs / "slow"], tmp_path / "both", quiet=True)
    (one, moving), (other, _), (mean, _) = (
        weights(folder) for folder in (runs / "quick", runs / "slow", tmp_path / "both")
    )
    assert one.keys() == other.keys() == mean.keys()
    assert moving
    for path in one.keys() - moving:
        np.testing.assert_allclose(
            mean[path], (one[path].astype(float) + other[path]) / 2, rtol=1e-6, atol=1e-9, err_msg=path
        )
    assert any(not np.allclose(mean[path], (one[path] + other[path]) / 2, rtol=1e-3) for path in moving)
    assert list(found.val_iou) == ["quick", "slow", "average"]
    told = read_info(found.run.model).training["averaged"]
    assert [entry["name"] for entry in told] == ["quick", "slow"]


def test_the_average_of_a_run_with_itself_has_its_weights_and_is_not_decided_yet(runs, tiles, tmp_path):
    start = tmp_path / "tuned"
    start.mkdir()
    for name in ("model.keras", "model.onnx", "recipe.json"):
        (start / name).write_bytes((runs / "quick" / name).read_bytes())
    info = read_info(start / "model.onnx")
    rewrite(
        start / "model.onnx",
        info.model_copy(update={"thresholds": (0.3,), "temperatures": (2.0,), "upsample_above_m": 0.3}),
    )
    found = average_runs(read_dataset(tiles), [start, start], tmp_path / "same", quiet=True)
    (one, moving), (same, _) = weights(start), weights(tmp_path / "same")
    assert all(np.array_equal(one[path], same[path]) for path in one.keys() - moving)
    info = read_info(found.run.model)
    assert (info.thresholds, info.temperatures, info.upsample_above_m) == ((0.5,), (1.0,), None)
    assert list(found.val_iou) == ["tuned (1)", "tuned (2)", "average"]


def test_runs_that_see_pixels_as_four_are_averaged_and_judged_so(tiles, tmp_path, monkeypatch):
    recipe = Recipe.load(settings=[*SMALL, "network.filters=[4, 6]", "upsampling=2"])
    with reportless():
        run = train(read_dataset(tiles), tmp_path / "run", recipe, quiet=True)
    shapes = []

    def seeing(network, batches, **told):
        held = list(batches)
        shapes.extend(images.shape for images in held)
        remember(network, held, **told)

    monkeypatch.setattr(souping, "remember", seeing)
    found = average_runs(read_dataset(tiles), [run.folder, run.folder], tmp_path / "same", windows=8, quiet=True)
    assert shapes == [(4, 32, 32, 3)] * 2
    assert found.val_iou["run (1)"] == pytest.approx(run.history[0]["val_iou"], abs=1e-4)
    assert read_info(found.run.model).upsample_above_m == read_info(run.model).upsample_above_m is not None


def test_normalisation_remembers_the_mean_over_batches_and_frozen_layers_nothing_new():
    image = keras.Input((None, None, 3))
    learns, frozen = (keras.layers.BatchNormalization(name=name) for name in ("learns", "frozen"))
    network = keras.Model(image, frozen(learns(image)))
    frozen.trainable = False
    random = np.random.default_rng(0)
    batches = [random.normal(size, 1 + size, (4, 6, 5, 3)).astype("float32") for size in (1, 5, 2)]
    remember(network, iter(batches))
    means = np.mean([batch.mean((0, 1, 2)) for batch in batches], axis=0)
    variances = np.mean([batch.var((0, 1, 2)) for batch in batches], axis=0)
    np.testing.assert_allclose(learns.moving_mean, means, rtol=1e-5)
    np.testing.assert_allclose(learns.moving_variance, variances, rtol=1e-4)
    assert not np.any(frozen.moving_mean)
    assert learns.momentum == frozen.momentum == 0.99


def test_what_does_not_fit_is_refused_and_leaves_nothing(runs, tiles, tmp_path):
    data = read_dataset(tiles)
    with pytest.raises(SettingError, match="2 runs or more"):
        average_runs(data, [runs / "quick"], tmp_path / "out", quiet=True)
    with pytest.raises(ModelError, match=r"same layers, got others in other than in quick"):
        average_runs(data, [runs / "quick", runs / "other"], tmp_path / "out", quiet=True)
    with pytest.raises(ModelError, match="must be a run folder"):
        average_runs(data, [runs / "quick", runs / "none"], tmp_path / "out", quiet=True)
    with pytest.raises(SettingError, match=r"must have its recipe.*Name a run folder first"):
        average_runs(data, ["buildings", "buildings"], tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()
    with pytest.raises(SettingError, match="new or empty"):
        average_runs(data, [runs / "quick", runs / "slow"], runs / "quick", quiet=True)


def test_the_command_writes_a_model_that_predicts(runs, tiles, tmp_path, capsys):
    command = [
        "average",
        str(tiles),
        str(runs / "quick"),
        str(runs / "slow"),
        "--out",
        str(tmp_path / "both"),
        "--quiet",
    ]
    assert main([*command, "--windows", "8", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["val_iou"]) == {"quick", "slow", "average"}
    engine = open_engine(told["model"])
    assert engine.run(np.zeros((1, 32, 32, 3), np.float32)).shape == (1, 32, 32, 1)
    assert (
        main(["calibrate", str(tmp_path / "both"), str(tiles), "--quiet", "--dry-run"]) == 0
    )  # knows what was held out
