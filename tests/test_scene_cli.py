"""`satmask predict` on many scenes, and on scenes that a model can't read as they are."""

import json

import numpy as np
import pytest
import rasterio
from affine import Affine

from satmask.cli import main
from satmask.cli.predict_table import MOST, summary
from satmask.permissions import VARIABLE, allowed

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture
def model(write_model, tmp_path, monkeypatch):
    """A model of 8 bits and pixels of a metre."""
    monkeypatch.setenv(VARIABLE, "")
    return write_model(tmp_path / "m" / "m.onnx", ["r", "g", "b"], ["x"], gsd_m=(1, 1))


def write(path, *, dtype=np.uint8, high=250):
    values = np.random.default_rng(0).integers(1, high, (3, 40, 60)).astype(dtype)
    settings = {"driver": "GTiff", "height": 40, "width": 60, "count": 3, "dtype": values.dtype, "crs": "EPSG:32633"}
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(path, "w", transform=Affine(0.5, 0, 5e5, 0, -0.5, 4e6), **settings) as file:
        file.write(values)
    return path


def predict(capsys, model, *arguments):
    code = main(["predict", str(model), *map(str, arguments), "--no-polygons"])
    return code, *capsys.readouterr()


def test_a_list_is_predicted_and_summed_up(model, tmp_path, capsys):
    for name in ("a", "b"):
        write(tmp_path / "tiles" / f"{name}.tif")
    (tmp_path / "list.txt").write_text("tiles/*.tif\nhttps://127.0.0.1:9/c.tif\ntiles/none.tif\n")
    code, out, err = predict(capsys, model, tmp_path / "list.txt", "--out", tmp_path / "out")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["a.tif", "b.tif"]
    table = [line.split()[:2] for line in err.splitlines() if "  done" in line or "  failed" in line]
    assert table == [["a.tif", "done"], ["b.tif", "done"], ["list.txt,", "line"], ["none.tif", "failed"], ["2", "of"]]
    assert "--allow-remote lets it" in err
    assert err.endswith("error: 2 of 4 scenes predicted; 2 failed.\n")


def test_what_fails_is_in_the_json(model, tmp_path, capsys):
    write(tmp_path / "tiles" / "a.tif")
    item = {"type": "Feature", "id": "far", "assets": {"data": {"href": "s3://bucket/a.tif", "type": "image/tiff"}}}
    (tmp_path / "item.json").write_text(json.dumps(item))
    arguments = (tmp_path / "tiles" / "*.tif", tmp_path / "item.json", "--out", tmp_path / "out", "--json", "-q")
    code, out, _ = predict(capsys, model, *arguments)
    said = json.loads(out)
    assert (code, len(said["scenes"])) == (1, 1)
    assert said["failed"][0]["scene"] == "far"
    assert "--allow-remote" in said["failed"][0]["reason"]


def test_scenes_are_resampled_and_stretched_by_flags(model, tmp_path, capsys):
    path = write(tmp_path / "a" / "a.tif", dtype=np.uint16, high=5000)
    out = tmp_path / "out"
    code, _, err = predict(capsys, model, path, "--out", out)
    assert (code, "--stretch 2,98" in err) == (1, True)
    flags = ("--stretch", "2,98", "--resample-to-gsd", "model")
    code, _, err = predict(capsys, model, path, "--out", out, *flags)
    assert (code, "warning" in err) == (0, False)
    with rasterio.open(out / "a.classes.tif") as file:
        assert file.shape == (20, 30)
        assert file.transform == Affine(1, 0, 5e5, 0, -1, 4e6)
        assert file.tags()["STRETCH_PERCENTILES"] == "2,98"
    assert predict(capsys, model, path, "--out", out, "--dry-run", *flags)[1].startswith("a.tif  0.00 MP (20 × 30)")


@pytest.mark.parametrize(
    "flags",
    [
        ("--stretch", "2"),
        ("--stretch", "98,2"),
        ("--resample-to-gsd", "x"),
        ("--resample-to-gsd", "0"),
        ("--asset", "a"),
    ],
)
def test_settings_that_mean_nothing_are_misuse(model, tmp_path, capsys, flags):
    code, _, err = predict(capsys, model, write(tmp_path / "a" / "a.tif"), "--out", tmp_path / "out", *flags)
    assert (code, len(err.splitlines())) == (2, 1)


def test_what_is_allowed_is_allowed_everywhere(model, tmp_path, capsys):
    path = write(tmp_path / "a" / "a.tif")
    assert predict(capsys, model, path, "--out", tmp_path / "out", "--allow-outside", "--allow-huge")[0] == 0
    assert [allowed(what) for what in ("huge", "outside", "remote")] == [True, True, False]


def test_a_table_of_many_lists_what_failed():
    done = [{"scene": f"{number}.tif", "megapixels": 1.5, "objects": 2, "polygons": "x"} for number in range(MOST)]
    rows = summary(done, [{"scene": "bad.tif", "reason": "torn"}])
    assert rows[1:] == [
        ["bad.tif", "failed", "", "", "torn"],
        [f"{MOST} of {MOST + 1}", "done", f"{1.5 * MOST:.2f}", "100", ""],
    ]
