"""Rules: classes by index and size, written as data, used as a network is."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from satmask.assembly import Assembly, Member
from satmask.bands.indices import compute_index
from satmask.cli import main
from satmask.datasets.dstl import read_dstl
from satmask.datasets.town.dstl import write_dstl
from satmask.decisions import Decision, Merge, Shape
from satmask.engines import open_engine
from satmask.errors import ModelError
from satmask.fitting import doubts, open_for
from satmask.legend import Legend
from satmask.prediction import predict_array
from satmask.rules import Condition, read_rule
from satmask.windows import Window

WATER = Path(__file__).parent.parent / "recipes" / "dstl-water.toml"
RULE = """
[bands]
green = "green"
nir1 = "nir"
[[condition]]
index = "ndwi"
above = 0.2
[[class]]
id = 7
name = "river"
large_px = 30
[[class]]
id = 8
name = "pond"
min_area_px = 4
[[merge]]
where = "river"
clears = ["pond"]
"""


@pytest.fixture
def rule(tmp_path):
    (tmp_path / "rule.toml").write_text(RULE)
    return tmp_path / "rule.toml"


@pytest.fixture
def scene(tmp_path):
    """A scene of three bands with blotches of water, and its pixels."""
    random = np.random.default_rng(1)
    wet = np.kron(random.random((12, 15)) < 0.4, np.ones((4, 4), bool))
    pixels = random.integers(100, 900, (48, 60, 3), dtype=np.uint16)
    pixels[..., 1] = np.where(wet, 800, 200)
    pixels[..., 2] = np.where(wet, 200, 700)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", height=48, width=60, count=3, dtype="uint16"
    ) as file:
        file.write(np.moveaxis(pixels, -1, 0))
        file.descriptions = ("red", "green", "nir")
    return tmp_path / "scene.tif", pixels


def test_probabilities_are_the_index_and_any_window_is_exact(rule, scene):
    engine = open_engine(rule)
    with open_for(engine.info, scene[0]) as opened:
        whole, valid = predict_array(engine, opened)
        parts, _ = predict_array(engine, opened, size=32)
        assert not doubts(engine.info, opened)
    wanted = compute_index("ndwi", {"green": scene[1][..., 1], "nir": scene[1][..., 2]}) >= np.float32(0.2)
    assert valid.all()
    assert np.array_equal(whole, np.repeat(wanted[..., None], 2, axis=-1))
    assert np.array_equal(parts, whole)


def test_large_water_becomes_river_in_the_rasters(rule, scene, tmp_path):
    assert main(["predict", str(rule), str(scene[0]), "--out", str(tmp_path / "p"), "-q"]) == 0
    engine = open_engine(rule)
    with open_for(engine.info, scene[0]) as opened:
        masks = engine.info.decision.masks(predict_array(engine, opened)[0])
    with rasterio.open(tmp_path / "p" / "scene.classes.tif") as file:
        classes = file.read(1)
    assert np.array_equal(classes == 7, masks[..., 0])
    assert np.array_equal(classes == 8, masks[..., 1])
    assert set(np.unique(classes)) == {0, 7, 8}


def test_a_rule_is_a_member_of_an_assembly(rule, scene, tmp_path):
    legend = Legend.of({7: "river", 8: "pond"})
    assembly = Assembly(legend=legend, members=(Member(file="rule.toml", classes=("river", "pond")),))
    engine = open_engine(assembly.save(tmp_path / "assembly.json"))
    shapes, merges = (Shape("river", large_px=30),), (Merge("river", ("pond",)),)
    assert engine.info.decision == Decision(legend, min_area_px=(0, 4), merges=merges, shapes=shapes)
    alone = open_engine(rule)
    with open_for(engine.info, scene[0]) as one, open_for(alone.info, scene[0]) as other:
        assert np.array_equal(predict_array(engine, one)[0], predict_array(alone, other)[0])


def test_conditions_climb_where_they_are_soft():
    values = np.array([-0.2, 0.0, 0.1, 0.2, 0.4, np.nan], np.float32)
    np.testing.assert_allclose(Condition(index="ndwi", above=0.1, soft=0.1).probability(values), [0, 0, 0.5, 1, 1, 0])
    np.testing.assert_allclose(Condition(index="ndvi", below=0.1).probability(values), [1, 1, 1, 0, 0, 0])
    both = Condition(index="ndvi", above=0.0, below=0.2, soft=0.2)
    np.testing.assert_allclose(both.probability(values), [0, 0.5, 0.75, 0.5, 0, 0], atol=1e-6)


def test_the_weakest_condition_counts(tmp_path):
    more = '[[condition]]\nindex = "ndvi"\nbelow = 0.1\nsoft = 0.1\n[[class]]'
    (tmp_path / "rule.toml").write_text(
        RULE.replace("[[class]]", more, 1).replace('green = "green"', 'green = "green"\nred = "red"')
    )
    rule = read_rule(tmp_path / "rule.toml")
    values = np.random.default_rng(3).uniform(1, 100, (50, 3)).astype(np.float32)
    named = {band: values[:, place] for place, band in enumerate(rule.bands)}
    each = [condition.probability(compute_index(condition.index, named)) for condition in rule.conditions]
    assert np.array_equal(rule.probability(values), np.minimum(*each))
    assert len({*np.argmin(each, axis=0)}) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("above = 0.2", "", "must have above or below"),
        ('"ndwi"', '"wetness"', "Index must be one of"),
        ('green = "green"', "", "bands must be green, nir1, got nir1"),
        ("large_px = 30", "larger = 30", "got 'larger'"),
        ('clears = ["pond"]', 'clears = ["lake"]', "got 'lake'"),
        ("id = 8", "id = 7", "an id of its own"),
        ("[[condition]]", "[[conditions]]", "conditions"),
        ("[bands]", "[bands", "must be TOML"),
    ],
)
def test_rules_that_cannot_be_used_are_refused(tmp_path, old, new, message):
    (tmp_path / "rule.toml").write_text(RULE.replace(old, new))
    with pytest.raises(ModelError, match=message):
        read_rule(tmp_path / "rule.toml")


def test_the_shipped_rule_finds_synthetic_water(tmp_path):
    write_dstl(tmp_path, images=4, labelled=4, size=(300, 320), seed=5, shift=0)
    samples, _, _ = read_dstl(tmp_path)
    engine = open_engine(WATER)
    both = either = 0
    for sample in samples:
        with open_for(engine.info, sample.image) as opened:
            masks = engine.info.decision.masks(predict_array(engine, opened)[0])
        truth = sample.labels.read(Window(0, 0, *sample.shape)).classes[..., 6:8].any(axis=-1)
        both += int((masks.any(axis=-1) & truth).sum())
        either += int((masks.any(axis=-1) | truth).sum())
    assert either > 2000
    assert both / either > 0.6
