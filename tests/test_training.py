"""Training: what a run writes, and that a killed one goes on exactly."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from reportless import reportless
from satmask.datasets import read_dataset
from satmask.datasets.town import draw_town, write_scene, write_tiles
from satmask.engines import open_engine
from satmask.errors import DataError, SettingError
from satmask.fitting import open_for
from satmask.model_file import read_info
from satmask.prediction import predict_array
from satmask.recipe import Recipe
from satmask.run import COLUMNS, Run, best_epoch, plateau_rate
from satmask.scene import Scene
from satmask.training import public_options, train
from satmask.windows import Window

# Noise and dropout of the dilated network are drawn anew in every step: the hardest to repeat.
SMALL = [
    "network.name=dilated",
    "network.filters=[4, 4, 8]",
    "window=32",
    "batch=4",
    "windows_per_epoch=16",
    "compile=false",
]
THREE = [*SMALL, "epochs=3"]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return write_tiles(tmp_path_factory.mktemp("town"), count=6, size=64, seed=3)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two places of eleven-bit scenes with eight bands, and their vectors."""
    folder = tmp_path_factory.mktemp("scenes")
    for seed, name in enumerate(("north", "south")):
        write_scene(draw_town(96, 128, seed=seed, bands=8), folder, name)
    return folder


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    settings = [
        "network.filters=[4, 6]",
        "window=48",
        "batch=4",
        "windows_per_epoch=8",
        "epochs=2",
        "sampling=balanced",
    ]
    recipe = Recipe.load(settings=[*settings, "compile=false"])
    return train(read_dataset(scenes), tmp_path_factory.mktemp("runs") / "run", recipe, quiet=True)


def test_a_run_holds_everything(run):
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {"model.onnx", "model.keras", "recipe.json", "history.csv", "train.log", "augmented.png"}
    assert names >= {"report.html", "scores.json", "tensorboard", "checkpoints"}
    assert not [name for name in names if name.startswith(".")]
    assert [tuple(row) for row in run.history] == [COLUMNS] * 2
    assert Recipe.model_validate_json(run.recipe.read_text()).network.options == {"filters": [4, 6]}


def test_the_model_file_knows_the_data(run, scenes):
    info = read_info(run.model)
    assert [band.name for band in info.bands][:3] == ["coastal", "blue", "green"]
    assert info.legend == read_dataset(scenes).legend
    assert {"building", "road", "tree"} <= set(info.legend.names)
    assert (info.dtype, info.activation) == ("uint16", "sigmoid")
    assert info.gsd_m == pytest.approx((0.5, 0.5), rel=0.01)
    with Scene(scenes / "north.tif") as scene:
        values = scene.raw(Window(0, 0, 96, 128)).reshape(-1, 8)
    held_out = {"north", "south"} - {
        sample.name for sample in read_dataset(scenes).with_validation(0.2)[0].splits["val"]
    }
    if held_out == {"north"}:
        np.testing.assert_array_equal(info.value_range, np.stack([values.min(axis=0), values.max(axis=0)], axis=1))


def test_saved_and_loaded_says_the_same(run, scenes):
    import keras

    network = keras.saving.load_model(run.folder / "model.keras", compile=False)
    engine = open_engine(run.model)
    with open_for(engine.info, scenes / "south.tif") as scene:
        exact, _ = predict_array(engine, scene)
        image = scene.read(Window(0, 0, *scene.shape)).values[None].astype(np.float32)
    np.testing.assert_allclose(np.asarray(network(image, training=False))[0], exact, atol=1e-4)


def test_a_place_is_never_on_both_sides(scenes):
    data, how = read_dataset(scenes).with_validation(0.5)
    assert {sample.place for sample in data.splits["train"]}.isdisjoint(sample.place for sample in data.splits["val"])
    assert "held out 1 of 2 images" in how


def losses(run):
    return [{key: row[key] for key in ("loss", "iou", "val_loss", "val_iou", "learning_rate")} for row in run.history]


SCRIPT = """
import sys
from satmask.datasets import read_dataset
from satmask.recipe import Recipe
from satmask.training import public_options, train
train(read_dataset(sys.argv[1]), sys.argv[2], Recipe.load(settings=sys.argv[3:]), resume=True, quiet=True)
"""


@pytest.fixture(scope="module")
def straight(tiles, tmp_path_factory):
    """A run that nothing stops."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    with reportless():
        return train(read_dataset(tiles), folder, Recipe.load(settings=THREE), quiet=True)


def test_killed_and_resumed_has_the_losses_of_one_that_was_not(tiles, straight, tmp_path):
    broken = Run(tmp_path / "broken")
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tiles), str(broken.folder), *THREE]
    process = subprocess.Popen(command, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not broken.checkpoints and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert broken.checkpoints, "the first epoch was never kept"
    assert not broken.model.exists(), "killed too late to show anything"
    with reportless():
        again = train(read_dataset(tiles), broken.folder, Recipe.load(settings=THREE), resume=True, quiet=True)
    assert losses(again) == losses(straight)


def test_an_epoch_whose_state_was_not_kept_is_done_again(tiles, straight, tmp_path, monkeypatch):
    write_history = Run.write_history

    def stop_between(self, history):
        write_history(self, history)
        if len(history) == 2:
            raise KeyboardInterrupt  # the history of epoch 2 is there, its state is not

    monkeypatch.setattr(Run, "write_history", stop_between)
    with pytest.raises(KeyboardInterrupt):
        train(read_dataset(tiles), tmp_path / "broken", Recipe.load(settings=THREE), quiet=True)
    monkeypatch.undo()
    assert len(Run(tmp_path / "broken").history) == 2
    with reportless():
        again = train(read_dataset(tiles), tmp_path / "broken", resume=True, quiet=True)
    assert losses(again) == losses(straight)


def test_folders_and_recipes_are_not_mixed_up(run, scenes):
    with pytest.raises(SettingError, match=r"new or empty.*--resume"):
        train(read_dataset(scenes), run.folder, quiet=True)
    recipe = Recipe.model_validate_json(run.recipe.read_text()).model_copy(update={"epochs": 9})
    with pytest.raises(SettingError, match="another epochs"):
        train(read_dataset(scenes), run.folder, recipe, resume=True, quiet=True)


def test_a_finished_run_is_left_as_it_is(run, scenes):
    before = losses(run)
    again = train(read_dataset(scenes), run.folder, resume=True, quiet=True)
    assert losses(again) == before


def test_broken_data_is_refused_before_anything_is_written(tiles, tmp_path):
    import shutil

    folder = tmp_path / "tiles"
    shutil.copytree(tiles, folder)
    tile = next((folder / "train" / "images").iterdir())
    tile.write_bytes(tile.read_bytes()[:900])
    with pytest.raises(DataError, match=rf"{tile.stem}.*--skip-invalid"):
        train(read_dataset(folder), tmp_path / "run", Recipe.load(settings=SMALL), quiet=True)
    assert not (tmp_path / "run").exists()


def test_softmax_over_real_tiles_of_four_bands(data, tmp_path):
    """NAIP: six exclusive classes; near infrared that its files call alpha is a band like the others."""
    dataset = read_dataset(data / "naip")
    part = {name: samples[:6] for name, samples in dataset.splits.items()}
    small = type(dataset)(dataset.root, dataset.layout, dataset.legend, part)
    settings = ["network.filters=[4, 6]", "window=64", "batch=2", "windows_per_epoch=4", "epochs=1", "compile=false"]
    with reportless():
        run = train(small, tmp_path / "run", Recipe.load(settings=[*settings, "loss.name=focal"]), quiet=True)
    info = read_info(run.model)
    assert (len(info.bands), info.activation, info.legend.exclusive) == (4, "softmax", True)


@pytest.mark.parametrize(
    "wrong", ["network.filters=[1.5]", "loss.name=nonsense", "network.widths=3", "network.name=vit"]
)
def test_a_wrong_recipe_is_refused_before_anything_is_written(tiles, tmp_path, wrong):
    with pytest.raises(SettingError):
        train(read_dataset(tiles), tmp_path / "run", Recipe.load(settings=[wrong]), quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_explodes_is_not_kept(tiles, tmp_path):
    recipe = Recipe.load(settings=[*SMALL, "epochs=2", "learning_rate=1e30", "schedule.name=constant"])
    with pytest.raises(SettingError, match=r"finite.*Lower learning_rate, now 1e\+30"):
        train(read_dataset(tiles), tmp_path / "run", recipe, quiet=True)
    assert not Run(tmp_path / "run").checkpoints


def test_model_files_do_not_tell_where_weights_lay():
    recipe = Recipe.load(settings=["network.name=encoder", "network.weights=/home/someone/secret/mobilenet.npz"])
    assert public_options(recipe) == {"weights": "mobilenet.npz"}


def test_the_rate_falls_where_validation_stays_flat():
    recipe = Recipe.load(
        settings=["schedule.name=plateau", "schedule.patience=2", "schedule.factor=0.5", "learning_rate=1"]
    )
    scores = [0.1, 0.2, 0.2, 0.2, 0.3, 0.3, 0.3]
    history = [{"val_iou": score} for score in scores]
    rates = [plateau_rate(recipe, history[:epoch]) for epoch in range(len(history) + 1)]
    assert rates == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert best_epoch(history) == 5


def test_short_runs_can_trust_their_averages():
    import keras

    from satmask.models import build
    from satmask.training import quick_momentum, set_momentum

    assert [quick_momentum(steps) for steps in (10, 50, 5000)] == [0.8, 0.9, 0.99]
    network = build("unet", bands=3, classes=1, filters=(4, 8))
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    norms[0].momentum = 0.5
    set_momentum(network, 0.9)
    assert [layer.momentum for layer in norms] == [0.5] + [0.9] * (len(norms) - 1)
