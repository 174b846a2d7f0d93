"""Assemblies: each class says what its member says, whatever bands and strides the members have."""

import json

import numpy as np
import pytest
import rasterio

from satmask.assembly import Assembly, AssemblyEngine, Member
from satmask.decisions import Merge
from satmask.engines import open_engine
from satmask.errors import ModelError
from satmask.fitting import open_for
from satmask.legend import Legend
from satmask.prediction import predict_array, predict_scene

LEGEND = Legend.of({5: "tree", 7: "river", 8: "pond"})


@pytest.fixture
def folder(tmp_path, write_model):
    """An assembly of two models that share a band."""
    write_model(tmp_path / "plants" / "model.onnx", ["red", "nir"], {5: "tree"}, seed=1, stride=4, thresholds=(0.3,))
    water = {8: "pond", 7: "river", 9: "sea"}
    merges = (Merge("river", ("pond", "sea")),)
    write_model(tmp_path / "water" / "model.onnx", ["nir", "green"], water, seed=2, stride=6, halo=5,
                min_area_px=(0, 9, 0), thresholds=(0.5, 0.7, 0.1), merges=merges)  # fmt: skip
    members = (
        Member(file="water/model.onnx", classes=("river", "pond")),
        Member(file="plants/model.onnx", classes=("tree",)),
    )
    Assembly(legend=LEGEND, members=members, merges=(Merge("pond", ("tree",)),)).save(tmp_path / "assembly.json")
    return tmp_path


def test_saved_and_loaded_is_the_same(folder):
    assembly = Assembly.load(folder / "assembly.json")
    assert Assembly.load(assembly.save(folder / "again.json")) == assembly
    assert assembly.legend == LEGEND


def test_each_class_says_what_its_member_says(folder):
    engine = open_engine(folder / "assembly.json")
    images = np.random.default_rng(0).uniform(0, 255, (2, 12, 24, 3)).astype(np.float32)
    assert [band.name for band in engine.info.bands] == ["nir", "green", "red"]
    said = engine.run(images)
    plants = open_engine(folder / "plants" / "model.onnx").run(images[..., [2, 0]])
    water = open_engine(folder / "water" / "model.onnx").run(images[..., [0, 1]])
    np.testing.assert_array_equal(said, np.stack([plants[..., 0], water[..., 1], water[..., 0]], axis=-1))


def test_it_says_of_itself_what_its_members_say(folder):
    info = open_engine(folder / "assembly.json").info
    assert isinstance(open_engine(folder / "assembly.json"), AssemblyEngine)
    assert (info.stride, info.halo, info.network) == (12, 5, "assembly")
    assert info.thresholds == (0.3, 0.7, 0.5)
    assert info.min_area_px == (0, 9, 0)
    assert info.merges == (Merge("river", ("pond",)), Merge("pond", ("tree",)))


def test_a_rule_s_shapes_come_along_and_its_nodata_does_not(folder):
    rule = """
        [bands]
        green = "green"
        nir1 = "nir"
        [[condition]]
        index = "ndwi"
        above = 0.1
        [[class]]
        id = 8
        name = "pond"
        large_px = 400
        [[class]]
        id = 9
        name = "sea"
        large_px = 90000
    """
    (folder / "rule.toml").write_text(rule)
    members = Member(file="rule.toml", classes=("pond",)), Member(file="water/model.onnx", classes=("river",))
    legend = Legend.of({7: "river", 8: "pond"})
    info = open_engine(Assembly(legend=legend, members=members).save(folder / "both.json")).info
    assert [(shape.name, shape.large_px) for shape in info.shapes] == [("pond", 400)]
    assert {band.name: fill for band, fill in zip(info.bands, info.fill, strict=True)} == {"green": 100, "nir": 100}


def test_a_scene_is_predicted_by_all_members(folder):
    values = np.random.default_rng(3).integers(0, 255, (3, 50, 61)).astype(np.uint8)
    with rasterio.open(folder / "s.tif", "w", driver="GTiff", height=50, width=61, count=3, dtype="uint8") as file:
        file.write(values)
        file.descriptions = ("red", "green", "nir")
    engine = open_engine(folder / "assembly.json")
    with open_for(engine.info, folder / "s.tif") as scene:
        assert scene.bands == ("nir", "green", "red")
        probabilities, _ = predict_array(engine, scene, size=36)
    alone = open_engine(folder / "plants" / "model.onnx")
    with open_for(alone.info, folder / "s.tif") as scene:
        np.testing.assert_array_equal(predict_array(alone, scene)[0][..., 0], probabilities[..., 0])
    written = predict_scene(engine, folder / "s.tif", folder / "out")
    with rasterio.open(written.probabilities) as file:
        np.testing.assert_array_equal(file.read(), np.moveaxis(probabilities, -1, 0))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"members": []}, "members"),
        ({"schema_version": 2}, "schema_version"),
        ({"members": [{"file": "a.onnx", "classes": ["river", "pond"]}]}, "once"),
        ({"members": [{"file": "../a.onnx", "classes": ["tree", "river", "pond"]}]}, "must lie in the folder"),
        ({"members": [{"file": "/a.onnx", "classes": ["tree", "river", "pond"]}]}, "must lie in the folder"),
        ({"members": [{"file": "b.json", "classes": ["tree", "river", "pond"]}]}, "another assembly"),
        ({"members": [{"file": "plants/model.onnx", "classes": ["tree", "river", "pond"]}]}, "got no 'pond'"),
        ({"merges": [{"where": "pond", "clears": ["sea"]}]}, "sea"),
    ],
)
def test_assemblies_that_don_t_fit_are_refused(folder, change, reason):
    path = folder / "assembly.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=reason):
        open_engine(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 99_999, "{}"])
def test_damaged_assemblies_are_refused(tmp_path, text):
    path = tmp_path / "assembly.json"
    path.write_text(text)
    with pytest.raises(ModelError, match="Assembly must be"):
        Assembly.load(path)
