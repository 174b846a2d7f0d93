"""Laws of legends: what one says is kept by every file, and what files couldn't hold is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmask.datasets import read_legend
from satmask.datasets.legend_file import to_toml
from satmask.errors import DataError, SettingError
from satmask.legend import Legend, LegendClass, palette_colour

CLASSES = st.builds(
    LegendClass,
    id=st.integers(1, 65534),
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    colour=st.from_regex(r"#[0-9A-F]{6}", fullmatch=True),
)
LEGENDS = st.lists(CLASSES, min_size=2, max_size=9, unique_by=(lambda entry: entry.id, lambda entry: entry.name))


@given(LEGENDS, st.booleans())
def test_plain_values_give_the_legend_back(classes, exclusive):
    legend = Legend(tuple(classes), exclusive=exclusive)
    assert Legend.from_dict(json.loads(json.dumps(legend.to_dict()))) == legend


@given(classes=LEGENDS, exclusive=st.booleans())
def test_toml_gives_the_legend_back(tmp_path_factory, classes, exclusive):
    legend = Legend(tuple(classes), exclusive=exclusive)
    path = tmp_path_factory.mktemp("legend") / "legend.toml"
    path.write_text(to_toml(legend), encoding="utf-8")
    assert read_legend(path) == legend


@given(LEGENDS)
def test_channels_are_positions(classes):
    legend = Legend(tuple(classes))
    assert [legend.channel(id_) for id_ in legend.ids] == list(range(len(legend)))
    assert all(np.can_cast(np.min_scalar_type(value), legend.dtype) for value in (*legend.ids, legend.nodata))
    assert legend.nodata not in legend.ids


def test_numbering_starts_where_background_is_a_class():
    assert Legend.of(["a", "b"]).ids == (1, 2)
    assert Legend.of(["a", "b"], exclusive=True).ids == (0, 1)


def test_colours_differ_and_show_in_the_table():
    legend = Legend.of([f"class {number}" for number in range(30)])
    assert len({entry.colour for entry in legend}) == 30
    table = legend.colour_table()
    assert table[3] == (*legend.classes[2].rgb, 255)
    assert table[0][3] == table[255][3] == 0
    assert palette_colour(0) == legend.classes[0].colour


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"classes": []},
        {"classes": 5},
        {"classes": [{"id": 1}]},
        {"classes": [{"id": "x", "name": "a"}]},
        {"classes": [{"id": float("inf"), "name": "a"}]},
        {"classes": [{"id": 65535, "name": "a"}]},
        {"classes": [{"id": -1, "name": "a"}]},
        {"classes": [{"id": 0, "name": "a"}]},
        {"classes": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]},
        {"classes": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]},
        {"classes": [{"id": 1, "name": "a", "colour": "red"}]},
        {"classes": [{"id": 1, "name": "a"}], "exclusive": True},
    ],
)
def test_what_is_no_legend_is_refused_in_one_line(content):
    with pytest.raises(SettingError, match="got") as caught:
        Legend.from_dict(content)
    assert "\n" not in str(caught.value)


def test_an_unknown_id_names_those_known():
    with pytest.raises(SettingError, match="one of 3, 7, got 4"):
        Legend.of({3: "a", 7: "b"}).channel(4)


def test_a_file_of_names_and_colours(tmp_path, data):
    path = tmp_path / "classes.json"
    path.write_text('{"classes": {"0": "unlabelled", "5": "water", "7": "road"}, "rgb": {"road": [1, 2, 255]}}')
    legend = read_legend(path)
    assert (legend.ids, legend.exclusive, legend.classes[1].colour) == ((5, 7), True, "#0102FF")
    assert len(read_legend(data / "mumbai" / "classes.json")) == 6


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"classes": {"x": "a"}}', "[" * 100_000, '{"classes": {"1": "void"}}']
)
def test_broken_files_are_refused(tmp_path, text):
    path = tmp_path / "legend.json"
    path.write_text(text)
    with pytest.raises((DataError, SettingError)):
        read_legend(path)
