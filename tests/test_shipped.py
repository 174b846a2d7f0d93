"""The models that ship: whole, small, described, one network in two files, and good where they weren't trained."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from satmask import open_engine
from satmask.catalogue import card_text, find_named, read_catalogue, settle
from satmask.cli import main
from satmask.fitting import open_for
from satmask.prediction import predict_array

DOCS = Path(__file__).parent.parent / "docs" / "models"
LARGEST = 8_000_000  # bytes: what a package index and a slow line take without a thought


@pytest.fixture(params=["buildings"])
def entry(request, monkeypatch):
    monkeypatch.delenv("SATMASK_MODELS", raising=False)
    return read_catalogue()[request.param]


def test_files_are_whole_and_small(entry):
    for part, name in ((entry.model, "model.onnx"), (entry.network, "model.keras")):
        path = settle(entry, part, name)
        assert path.stat().st_size == part.size_bytes <= LARGEST


def test_the_file_says_what_the_catalogue_and_the_card_say(entry, capsys):
    info = open_engine(find_named(Path(entry.name)), threads=1).info
    assert info.legend.names == entry.classes
    assert info.dtype == "uint8"
    assert info.local
    assert info.training["card"] == card_text((DOCS / f"{entry.name}.md").read_text(encoding="utf-8"))
    assert main(["models", "--card", entry.name]) == 0
    assert capsys.readouterr().out == info.training["card"]


def test_both_files_hold_one_network(entry):
    import keras

    engine = open_engine(find_named(Path(entry.name)), threads=1)
    network = keras.saving.load_model(find_named(Path(entry.name), network=True), compile=False, safe_mode=True)
    images = np.random.default_rng(0).integers(0, 256, (1, 2 * engine.info.stride, 96, 3)).astype(np.float32)
    # Sixteen bits of a weight are good for three digits.
    said = engine.info.scaling.apply(np.asarray(network(images)))
    np.testing.assert_allclose(engine.run(images), said, atol=5e-3)


def test_buildings_are_found_where_nothing_was_trained(data, tmp_path, capsys):
    scene = data / "scenes" / "catanduanes_ph_z20_0.tif"
    assert main(["predict", "buildings", str(scene), "--out", str(tmp_path), "--quiet"]) == 0
    capsys.readouterr()
    truth = data / "scenes" / "catanduanes_ph_z20_0_mask.tif"
    assert main(["score", str(tmp_path / "catanduanes_ph_z20_0.classes.tif"), str(truth), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["pixels"]["pooled"]["iou"] > 0.6


def test_coarse_pixels_are_seen_as_four_which_finds_more(data):
    """Aerial images of 0.6 m, another continent and another sensor; finer pixels are seen as they are."""
    engine = open_engine(find_named(Path("buildings")), threads=2)
    assert [engine.info.at(gsd_m).upsampling for gsd_m in (0.07, 0.15, 0.3, 0.6)] == [1, 1, 2, 2]
    counts = np.zeros((2, 2))
    for image in sorted((data / "naip" / "val" / "img").glob("*.tif"))[::3]:
        with rasterio.open(image.parent.with_name("mask") / image.name.replace("tile", "mask")) as file:
            truth = file.read(1) == 1
        with open_for(engine.info, image, bands=(1, 2, 3)) as scene:
            for at, settings in enumerate(({"upsampling": 1}, {})):
                said = predict_array(engine, scene, **settings)[0][..., 0] >= np.float32(engine.info.thresholds[0])
                counts[at] += (said & truth).sum(), (said | truth).sum()
    plain, seen = counts[:, 0] / counts[:, 1]
    assert seen > plain + 0.05
    assert seen > 0.45
