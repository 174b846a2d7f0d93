"""Laws of the command line: the library's bytes, one clear line for what goes wrong, and an answer at once."""

import json
import os
import shutil
import subprocess
import sys

import geopandas
import numpy as np
import pytest
import rasterio
from PIL import Image

import satmask
import satmask.polygon_writer
from help_time import most_s, used_s
from satmask.cli import main, options
from satmask.datasets import read_dataset, town
from satmask.legend import Legend
from satmask.masks import rasterise
from satmask.model_file import ModelInfo, export
from satmask.models import build, measure_reach
from satmask.rasters import legend_tags, read_legend_tags
from satmask.scoring.labels import score_labels
from satmask.windows import Window

VERBS = ("demo", "train", "predict", "polygons", "score", "submit")
BUILDING = Legend.of({100: "building"})


def make_model(path, legend=BUILDING):
    """A model file of a tiny untrained network whose normalisation is shaken, so that classes vary."""
    network = build(
        "unet", bands=3, classes=len(legend), filters=(2, 3), activation=legend.activation, scale=1 / 64, offset=-2
    )
    random = np.random.default_rng(5)
    # All of it from one seed: Keras draws its own start anew each time.
    network.set_weights(
        [np.ones(w.shape) if "variance" in w.name else random.normal(0, 0.4, w.shape) for w in network.weights]
    )
    reach = measure_reach(network)
    info = ModelInfo(
        legend=legend,
        bands=[{"name": name} for name in ("red", "green", "blue")],
        dtype="uint8",
        value_range=[(0, 255)] * 3,
        fill=[90] * 3,
        stride=reach.stride,
        halo=reach.halo,
        local=reach.local,
        activation=legend.activation,
        network="unet",
    )
    return export(network, path, info)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("run") / "model.onnx")


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    return town.write_scene(town.draw_town(96, 128, seed=3), tmp_path_factory.mktemp("town"), "town")


@pytest.fixture(scope="session")
def tiles(tmp_path_factory):
    return town.write_tiles(tmp_path_factory.mktemp("tiles"), count=5, size=64)


@pytest.fixture(scope="session")
def predicted(model, scene, tmp_path_factory):
    """The town as the command line predicts it."""
    out = tmp_path_factory.mktemp("predicted")
    assert main(["predict", str(model), str(scene), "--out", str(out), "--window", "48", "--quiet"]) == 0
    return out


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments):
    """Run the command line: exit code, stdout, stderr."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def run_process(*arguments, **settings):
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "satmask", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **settings)


def bytes_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".tif"}


# -- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), *((verb,) for verb in VERBS)])
def test_help_comes_at_once(arguments):
    used, result = used_s([sys.executable, "-m", "satmask", *arguments, "--help"])
    assert result.returncode == 0
    assert "Usage: satmask" in result.stdout
    assert used < most_s()


@pytest.mark.parametrize("verb", VERBS)
def test_help_loads_nothing_heavy(verb):
    code = (
        "import sys, satmask, satmask.cli\n"
        f"assert satmask.cli.main([{verb!r}, '--help']) == 0\n"
        "heavy = {'numpy', 'keras', 'tensorflow', 'rasterio', 'geopandas', 'onnxruntime', 'cv2', 'rich'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_public_names_are_found_and_predicting_loads_no_keras(model, scene, tmp_path):
    code = (
        "import sys, satmask\n"
        "for name in satmask.__all__:\n"
        "    assert name == 'train' or getattr(satmask, name), name\n"
        "from satmask.cli import main\n"
        "assert main(['predict', *sys.argv[1:]]) == 0\n"
        "sys.exit(', '.join({'keras', 'tensorflow'} & set(sys.modules)) or 0)"
    )
    arguments = [sys.executable, "-c", code, str(model), str(scene), "--out", str(tmp_path), "--quiet"]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_names_that_are_not_there_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        satmask.nonsense  # noqa: B018  # the access is what is tested


def test_training_without_keras_says_what_to_install(tmp_path, tiles):
    code = (
        "import sys; sys.modules['keras'] = None\n"
        "from satmask.cli import main; sys.exit(main(['train', *sys.argv[1:]]))"
    )
    arguments = [sys.executable, "-c", code, str(tiles), "--out", str(tmp_path / "run")]
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("satmask: error: Training must have Keras")
    assert "pip install 'satmask[train]'" in result.stderr
    assert result.stderr.count("\n") == 1


# -- doors -----------------------------------------------------------------------------------------------------------


def test_command_line_and_library_give_the_same_bytes(model, scene, predicted, tmp_path):
    satmask.predict_scene(satmask.open_engine(model, threads=1), scene, tmp_path, size=64)
    assert bytes_in(tmp_path) == bytes_in(predicted)
    assert len(bytes_in(predicted)) == 2
    here, there = (geopandas.read_file(folder / "town.gpkg") for folder in (tmp_path, predicted))
    assert here.equals(there)
    assert len(here) > 0


def test_polygons_of_rasters_are_those_of_predict(predicted, tmp_path, capsys):
    want = geopandas.read_file(predicted / "town.gpkg")
    for kind in ("classes", "probabilities"):
        code, out, _ = run(
            capsys, "polygons", predicted / f"town.{kind}.tif", "--out", tmp_path / f"{kind}.gpkg", "--json"
        )
        assert code == 0
        assert json.loads(out)["classes"] == {"building": len(want)}
    from_ids, from_floats = (geopandas.read_file(tmp_path / f"{kind}.gpkg") for kind in ("classes", "probabilities"))
    assert from_floats.equals(want)
    told = ["mean_probability", "min_probability", "score"]
    assert from_ids.drop(columns=told).equals(want.drop(columns=told))
    assert from_ids[told].isna().all(axis=None)


def test_polygons_of_exclusive_probabilities_are_those_of_the_classes(scene, tmp_path, capsys):
    legend = Legend.of(["other", "roof", "road"], exclusive=True)
    model = make_model(tmp_path / "model.onnx", legend)
    assert run(capsys, "predict", tmp_path, scene, "--out", tmp_path / "p")[0] == 0
    assert read_legend_tags(tmp_path / "p" / "town.classes.tif") == legend
    code, _, _ = run(capsys, "polygons", tmp_path / "p" / "town.probabilities.tif", "--out", tmp_path / "x.fgb")
    assert (code, model.name) == (0, "model.onnx")
    want, got = geopandas.read_file(tmp_path / "p" / "town.gpkg"), geopandas.read_file(tmp_path / "x.fgb")
    assert sorted(got.area_px) == sorted(want.area_px)
    assert set(got["class_id"]) == set(want["class_id"])


def test_polygons_take_names_from_a_legend_file(tmp_path, capsys):
    (tmp_path / "legend.toml").write_text('[[classes]]\nid = 3\nname = "pond"\n')
    write_raster(tmp_path / "ids.tif", np.eye(4, dtype=np.uint8) * 3)
    arguments = ("polygons", tmp_path / "ids.tif", "--out", tmp_path / "a.geojson")
    assert "class 3  4\n" in run(capsys, "polygons", tmp_path / "ids.tif", "--out", tmp_path / "a.gpkg")[1]
    assert (
        "pond  4\n"
        in run(capsys, *arguments[:2], "--out", tmp_path / "b.gpkg", "--legend", tmp_path / "legend.toml")[1]
    )


# -- predict ---------------------------------------------------------------------------------------------------------


def test_a_bad_scene_costs_no_other(model, scene, tmp_path, capsys):
    folder = tmp_path / "scenes"
    folder.mkdir()
    shutil.copy(scene, folder / "a.tif")
    shutil.copy(scene, folder / "c.tif")
    (folder / "b.tif").write_bytes(scene.read_bytes()[:3000])
    code, out, err = run(capsys, "predict", model, folder, "--out", tmp_path / "out")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["a.tif", "c.tif"]
    assert "b.tif" in err
    assert err.endswith("satmask: error: 2 of 3 scenes predicted; 1 failed.\n")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}.{what}" for name in "ac" for what in ("classes.tif", "probabilities.tif", "gpkg")
    }


def test_prediction_as_json_names_files_and_failures(model, scene, tmp_path, capsys):
    code, out, _ = run(capsys, "predict", model, scene, tmp_path / "none.tif", "--out", tmp_path, "--json", "-q")
    result = json.loads(out)
    assert code == 1
    assert result["scenes"][0]["classes"] == str(tmp_path / "town.classes.tif")
    assert result["scenes"][0]["megapixels"] == pytest.approx(96 * 128 / 1e6)
    assert result["failed"][0]["scene"] == str(tmp_path / "none.tif")


def test_scenes_of_one_name_are_refused_before_anything_is_written(model, scene, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    twin = shutil.copy(scene, tmp_path / "other" / scene.name)
    code, _, err = run(capsys, "predict", model, scene, twin, "--out", tmp_path / "out")
    assert code == 2
    assert err.startswith("satmask: error: Scenes must have names of their own")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("victim", ["town.classes.tif", "town.gpkg"])
def test_nothing_is_written_over_what_was_there(model, scene, tmp_path, capsys, victim):
    here = shutil.copy(scene, tmp_path / "town.tif")
    shutil.copy(scene, tmp_path / victim)
    scenes = [here, *tmp_path.glob("*.classes.tif")]
    code, _, err = run(capsys, "predict", model, *scenes, "--out", tmp_path)
    assert (code, "must not lie over" in err) == (2, True)
    assert (tmp_path / victim).read_bytes() == scene.read_bytes()


def test_predicting_twice_into_one_folder_gives_the_same(model, scene, tmp_path, capsys):
    shutil.copy(scene, tmp_path)
    first = run(capsys, "predict", model, tmp_path, "--out", tmp_path)
    kept = bytes_in(tmp_path)
    assert run(capsys, "predict", model, tmp_path, "--out", tmp_path) == first
    assert bytes_in(tmp_path) == kept


def test_doubts_are_told(model, tmp_path, capsys):
    write_raster(tmp_path / "dark.tif", np.full((32, 32, 3), 7, np.uint8))
    code, _, err = run(capsys, "predict", model, tmp_path / "dark.tif", "--out", tmp_path, "--no-probabilities")
    assert code == 0
    assert "satmask: warning: Band 'red' of dark.tif is dark" in err
    assert not (tmp_path / "dark.probabilities.tif").exists()


def test_thresholds_and_bands_reach_prediction(model, scene, tmp_path, capsys):
    settings = ("--threshold", "1", "--bands", "3,2,1", "--no-polygons")
    assert run(capsys, "predict", model, scene, "--out", tmp_path, *settings)[0] == 0
    swapped = satmask.predict_array(
        satmask.open_engine(model), satmask.Scene(scene, bands=[3, 2, 1])
    )[0]  # fmt: skip
    assert np.array_equal(read(tmp_path / "town.probabilities.tif"), swapped[..., 0])
    assert not read(tmp_path / "town.classes.tif").any()
    assert not (tmp_path / "town.gpkg").exists()


# -- score and submit ------------------------------------------------------------------------------------------------


def test_scores_of_a_vector_file_are_those_of_its_raster(predicted, tmp_path, capsys):
    grid = satmask.Scene(predicted / "town.classes.tif").grid
    frame = geopandas.GeoDataFrame(geometry=[box_at(grid, 10, 10, 60, 50), box_at(grid, 80, 5, 120, 90)], crs=grid.crs)
    frame.to_crs(4326).to_file(tmp_path / "truth.geojson")
    drawn = rasterise([pixel_box(10, 10, 60, 50), pixel_box(80, 5, 120, 90)], *grid.shape)
    write_raster(tmp_path / "truth.tif", drawn * np.uint8(255), grid)
    said = read(predicted / "town.classes.tif")
    want = np.sum((said == 100) & (drawn == 1)) / np.sum((said == 100) | (drawn == 1))
    for truth in ("truth.geojson", "truth.tif"):
        code, out, err = run(capsys, "score", predicted / "town.classes.tif", tmp_path / truth, "--json")
        assert code == 0
        assert json.loads(out)["pixels"]["classes"][0]["iou"] == pytest.approx(want, abs=1e-12)
    assert "note: 255 in the truth is taken for 100" in err


def test_tiles_are_scored_by_pixels_and_by_objects(model, tiles, tmp_path, capsys):
    truth = tiles / "train"
    assert run(capsys, "predict", model, tiles / "train", "--out", tmp_path / "p", "-q")[0] == 0
    code, out, _ = run(capsys, "score", tmp_path / "p", truth, "--json")
    scores = json.loads(out)
    assert code == 0
    samples = read_dataset(truth).splits["train"]
    parts = [score_labels(tmp_path / "p" / f"{sample.name}.classes.tif", sample.labels) for sample in samples]
    assert scores["pixels"]["matrix"] == sum(part.matrix for part in parts).tolist()
    # The result file, scored by itself, says the same.
    annotation = truth / "annotation.json"
    code, text, _ = run(capsys, "submit", tmp_path / "p", "--out", tmp_path / "r.json", "--truth", annotation, "--json")
    assert (code, json.loads(text)["tiles"]) == (0, len(samples))
    code, out, _ = run(capsys, "score", tmp_path / "r.json", annotation, "--json")
    assert json.loads(out)["crowdai"] == scores["crowdai"]
    assert json.loads(text)["detections"] == len(json.loads((tmp_path / "r.json").read_text()))


def test_a_perfect_prediction_of_masks_scores_1(tiles, tmp_path, capsys):
    for folder in ("p", "t"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((20, 30), np.uint8)
    mask[3:9, 4:20] = 1
    write_raster(tmp_path / "p" / "a.classes.tif", mask * np.uint8(100), tags=legend_tags(BUILDING))
    Image.fromarray(mask * np.uint8(255)).save(tmp_path / "t" / "a_mask.png")
    assert run(capsys, "score", tmp_path / "p", tiles, "--map", "255=100")[0] == 2
    code, out, err = run(capsys, "score", tmp_path / "p", tmp_path / "t")
    assert (code, err.count("note:")) == (0, 1)
    head, row, _ = out.splitlines()
    assert head.split()[:5] == ["class", "IoU", "precision", "recall", "F1"]
    assert row.split()[:5] == ["building", *["1.0000"] * 4]
    explicit = run(capsys, "score", tmp_path / "p", tmp_path / "t", "--map", "255=100")
    assert explicit == (0, out, "")


def test_labels_are_scored_on_their_own_grid_only(predicted, tiles):
    sample = read_dataset(tiles).splits["train"][0]
    grid = satmask.Scene(sample.image).grid
    with pytest.raises(satmask.DataError, match="must lie on the grid of its labels"):
        score_labels(predicted / "town.classes.tif", sample.labels, grid=grid)


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["predict"], 2, "Missing argument"),
        (["train", "nowhere", "--out", "x", "--set", "epoch=3"], 2, "Did you mean 'epochs'?"),
        (["train", "nowhere", "--out", "x"], 1, "Data set must be a folder, got 'nowhere'."),
        (["predict", "no.onnx", "no.tif", "--out", "x"], 1, "Model file must be readable"),
        (["predict", "no.onnx", "no.tif", "--out", "x", "--threshold", "a"], 2, "--threshold must be numbers"),
        (["polygons", "no.tif", "--out", "x.gpkg"], 1, "Scene must be a file, got 'no.tif'."),
        (["score", "no.tif", "no.tif"], 2, "does not exist"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(arguments, code, text, capsys, empty_folder):
    got, out, err = run(capsys, *arguments)
    assert (got, out) == (code, "")
    assert err.startswith("satmask: error: ")
    assert text in err
    assert err.count("\n") == 1
    assert not list(empty_folder.iterdir())


def test_surprises_are_one_line_unless_debugging(monkeypatch, predicted, tmp_path, capsys):
    def explode(*_, **__):
        msg = "kaboom\nand more"
        raise RuntimeError(msg)

    monkeypatch.setattr(satmask.polygon_writer, "stream_polygons", explode)
    arguments = ("polygons", predicted / "town.classes.tif", "--out", tmp_path / "x.gpkg")
    code, _, err = run(capsys, *arguments)
    assert (code, err) == (1, "satmask: error: unexpected RuntimeError: kaboom. SATMASK_DEBUG=1 shows where.\n")
    monkeypatch.setenv("SATMASK_DEBUG", "1")
    with pytest.raises(RuntimeError, match="kaboom"):
        run(capsys, *arguments)


def test_interrupting_exits_with_130(monkeypatch, predicted, tmp_path, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(satmask.polygon_writer, "stream_polygons", interrupt)
    code, _, err = run(capsys, "polygons", predicted / "town.classes.tif", "--out", tmp_path / "x.gpkg")
    assert (code, err) == (130, "satmask: interrupted\n")


def test_a_reader_that_leaves_early_is_no_error(predicted):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "satmask", "score", *[str(predicted / "town.classes.tif")] * 2]
    with os.fdopen(writing, "wb") as gone:
        result = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, check=False, timeout=60)
    assert result.stderr == b""


def test_flags_are_read_or_refused():
    assert options.band_list("3, nir,1") == (3, "nir", 1)
    assert options.mapping(["255=1"]) == {255: 1}
    with pytest.raises(satmask.SettingError, match="--map must look like 255=1, got '255'"):
        options.mapping(["255"])


# -- training --------------------------------------------------------------------------------------------------------


def test_reading_windows_needs_no_crs(scene):
    """PROJ crashes in the threads in which TensorFlow asks for batches."""
    with satmask.Scene(scene) as opened:
        opened.read(Window(0, 0, 8, 8))
        assert "grid" not in vars(opened)
        assert opened.grid.crs is not None


def test_training_from_the_command_line(tmp_path, capsys):
    for seed, name in enumerate(("a_1", "b_1")):
        town.write_scene(town.draw_town(32, 48, seed=seed), tmp_path / "data", name)
    small = ["window=16", "windows_per_epoch=2", "batch=2", "epochs=1", "compile=false", "network.filters=[2,3]"]
    arguments = [argument for setting in small for argument in ("--set", setting)]
    code, out, err = run(capsys, "train", tmp_path / "data", "--out", tmp_path / "run", *arguments, "--json", "--quiet")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["best_epoch"] == told["epochs"] == 1
    assert satmask.read_info(told["model"]).training["val_iou"] == round(told["val_iou"], 4)
    # A run folder stands for its model; a run isn't written over, and goes on with its own recipe only.
    assert run(capsys, "predict", told["run"], tmp_path / "data" / "a_1.tif", "--out", tmp_path / "p", "-q")[0] == 0
    again = ("train", tmp_path / "data", "--out", tmp_path / "run")
    assert "Pass --resume to go on with it." in run(capsys, *again)[2]
    assert run(capsys, *again, "--resume", "--set", "epochs=2")[0] == 2


def test_demo_prints_what_the_library_says(monkeypatch, tmp_path, capsys):
    def run_demo(out, *, quiet=False):
        return {"lines": [f"look into {out}", "IoU 0.5"], "quiet": quiet}

    monkeypatch.setattr("satmask.demo.run_demo", run_demo)
    assert run(capsys, "demo", "--out", tmp_path) == (0, f"look into {tmp_path}\nIoU 0.5\n", "")
    assert json.loads(run(capsys, "demo", "--out", tmp_path, "-q", "--json")[1])["quiet"] is True


@pytest.mark.slow  # imports TensorFlow once more
def test_tensorflow_is_calm_and_its_failures_are_shown():
    code = (
        "from satmask.cli.output import calm_tensorflow\n"
        "with calm_tensorflow():\n    import satmask.training\n"
        "import os; os.write(2, b'ours')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr == "ours"


def test_what_an_import_wrote_is_shown_if_it_fails():
    code = (
        "import os\nfrom satmask.cli.output import calm_tensorflow\n"
        "with calm_tensorflow():\n    os.write(2, b'kept quiet')\n"
        "with calm_tensorflow():\n    os.write(2, b'told'); raise SystemExit(3)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (3, "told")


def write_raster(path, values, grid=None, tags=None):
    """Write `(height, width)` or `(height, width, bands)`, on a grid if given."""
    bands = np.moveaxis(np.atleast_3d(values), -1, 0)
    count, height, width = bands.shape
    place = {"crs": grid.crs.to_wkt(), "transform": grid.transform} if grid else {}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=bands.dtype, **place
    ) as file:
        file.write(bands)
        file.update_tags(**(tags or {}))


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def pixel_box(west, north, east, south):
    from shapely.geometry import box

    return box(west, north, east, south)


def box_at(grid, *corners):
    from satmask.polygons import place

    return place(np.array([pixel_box(*corners)]), grid)[0]


def test_overlapping_classes_are_scored_from_probabilities(scene, tmp_path, capsys):
    """A class raster shows one class a pixel; the oracle thresholds every class by itself."""
    from sklearn.metrics import jaccard_score

    legend = Legend.of({3: "tree", 1: "building"})
    trained = make_model(tmp_path / "model.onnx", legend)
    out = tmp_path / "out"
    code, *_ = run(capsys, "predict", trained, scene, "--out", out, "--threshold", "0.55,0.486", "--quiet")
    assert code == 0
    code, text, _ = run(capsys, "score", out / "town.classes.tif", scene.with_suffix(".gpkg"), "--json")
    found = json.loads(text)["pixels"]["classes"]
    drawn = town.draw_town(96, 128, seed=3)
    with rasterio.open(out / "town.probabilities.tif") as file:
        probabilities = file.read()
    for band, (id_, limit) in enumerate([(3, 0.55), (1, 0.486)]):
        said = probabilities[band] >= np.float32(limit)
        wanted = jaccard_score(drawn.truth(id_).ravel(), said.ravel())
        entry = next(entry for entry in found if entry["id"] == id_)
        assert entry["iou"] == pytest.approx(wanted)
    with rasterio.open(out / "town.classes.tif") as file:
        uppermost = file.read(1)
    # Else the class raster would have told as much.
    assert ((uppermost == 3) != (probabilities[0] >= np.float32(0.55))).any()


def test_groups_add_up_to_the_whole(model, tiles, tmp_path, capsys):
    run(capsys, "predict", model, tiles / "train", "--out", tmp_path, "--quiet")
    code, text, _ = run(capsys, "score", tmp_path, tiles / "train", "--by", r"(\d)$", "--json")
    found = json.loads(text)
    assert code == 0
    assert len(found["groups"]) == len(found["parts"]) > 1
    sums = sum(np.asarray(group["pixels"]["matrix"]) for group in found["groups"].values())
    np.testing.assert_array_equal(sums, found["pixels"]["matrix"])
    for key in ("tiles", "truths", "detections"):
        assert sum(group["crowdai"][key] for group in found["groups"].values()) == found["crowdai"][key]
    code, text, _ = run(capsys, "score", tmp_path, tiles / "train", "--by", "(")
    assert code == 2
