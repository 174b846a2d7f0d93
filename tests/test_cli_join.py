"""`satmask join`: tiles in, scenes out, told as a table or as JSON."""

import json

import numpy as np
import pytest
import shapely

from satmask.cli import main
from satmask.datasets import read_dataset
from test_joining import cut


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return (code, *capsys.readouterr())


@pytest.fixture
def tiles(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    cut(pixels, [shapely.box(20, 10, 50, 26)], tmp_path / "tiles")
    return tmp_path / "tiles"


def test_people_get_a_table(tiles, tmp_path, capsys):
    code, out, err = run(capsys, "join", tiles, tmp_path / "out")
    assert code == 0
    head, row, *_ = out.splitlines()
    assert head.split() == ["scene", "size", "tiles", "polygons", "of", "pieces", "gsd"]
    assert row.split()[:8] == ["train/town_z18_0", "64", "×", "64", "4", "1", "of", "2"]
    assert "1 scenes of 4 tiles" in out
    assert "Joining tiles" in err
    assert [sample.name for sample in read_dataset(tmp_path / "out").splits["train"]] == ["town_z18_0"]


def test_machines_get_json(tiles, tmp_path, capsys):
    code, out, err = run(capsys, "join", tiles, tmp_path / "out", "--json", "--quiet")
    (scene,) = json.loads(out)["scenes"]
    assert (code, err) == (0, "")
    assert scene.pop("gsd_m") == pytest.approx(4.72, abs=0.1)  # 256 / 32 times the 0.597 m of zoom 18, near the equator
    assert scene == {
        "name": "town_z18_0",
        "split": "train",
        "height": 64,
        "width": 64,
        "tiles": 4,
        "pieces": 2,
        "polygons": 1,
    }


def test_a_folder_that_holds_something_is_left_alone(tiles, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, _, err = run(capsys, "join", tiles, tmp_path / "out")
    assert code == 2
    assert "must not exist or be an empty folder" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_broken_labels_are_named_and_left_out_on_request(tiles, tmp_path, capsys):
    path = tiles / "annotation.json"
    content = json.loads(path.read_text())
    content["annotations"].append({"id": 99, "image_id": 1, "category_id": 100, "segmentation": [[0, 0, 1]]})
    path.write_text(json.dumps(content))
    code, _, err = run(capsys, "join", tiles, tmp_path / "out")
    assert code == 1
    assert "--skip-invalid" in err
    assert run(capsys, "join", tiles, tmp_path / "out", "--skip-invalid")[0] == 0
