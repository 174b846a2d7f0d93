"""Laws of what the page is made of: addresses of tiles, small pictures, charts, and what a view may show."""

from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS

pytest.importorskip("nicegui", reason="The viewer's page must have the extra `view`: pip install 'satmask[view]'.")

from satmask.errors import SettingError
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.viewing.map_view import MapView
from satmask.viewing.page.curve_panel import bar_options, curve_options
from satmask.viewing.page.info_panel import flat
from satmask.viewing.page.session import Session
from satmask.viewing.page.shapes import box_of, geometry_of, meet, parts_of
from satmask.viewing.page.state import View
from satmask.viewing.page.thumbnails import SIDE, thumbnail_of
from satmask.viewing.page.tile_address import read_style, tile_address
from satmask.viewing.styles import TileStyle

SHARES = st.integers(0, 1000).map(lambda value: value / 1000)
STYLES = st.builds(
    TileStyle,
    bands=st.none() | st.tuples(*[st.integers(0, 300)] * 3),
    percent=st.none() | st.tuples(st.integers(0, 49), st.integers(50, 100)),
    hidden=st.lists(st.integers(0, 65534), max_size=9).map(tuple),
    class_id=st.none() | st.integers(0, 65534),
    threshold=st.none() | SHARES,
    grey=st.booleans(),
)


@given(STYLES)
def test_an_address_of_a_tile_says_how_it_is_drawn(style):
    query = urlsplit(tile_address("a1", style)).query
    assert read_style(dict(parse_qsl(query))) == style


@pytest.mark.parametrize("query", [{"url": "x"}, {"bands": "x"}, {"bands": ""}, {"threshold": "-1"}, {"threshold": "1e-3"}, {"hidden": ",".join(["1"] * 257)},
                                   {"class": "0x1"}, {"bands": "1,2"}, {"percent": "98,2"}, {"threshold": "1.5"}, {"hidden": "١"}])  # fmt: skip
def test_other_styles_are_refused(query):
    with pytest.raises(SettingError):
        read_style(query)


def views():
    yield MapView(Grid(3000, 5000, Affine(0.5, 0, 4e5, 0, -0.5, 5e6), CRS(32633)))
    yield MapView(Grid(900, 700))


@pytest.mark.parametrize("view", list(views()), ids=["on Earth", "in pixels"])
@pytest.mark.parametrize("box", [(0, 0, 4, 4), (100, 200, 160, 230), (300, 10, 690, 600), (690, 890, 700, 900)])
def test_a_small_picture_shows_where_a_finding_lies(view, box):
    left, top, right, bottom = box
    middle = ((left + right) / 2, (top + bottom) / 2)
    (west, south), (east, north), point = view.to_map([(left, bottom), (right, top), middle])
    found = thumbnail_of(view, SimpleNamespace(box=((south, west), (north, east)), point=tuple(point)))
    view.check(found.tile)
    zoom, column, row = found.tile
    x, y = view.to_world([point])[0] * 2**zoom - np.array([column, row]) * 256
    for begin, at in ((found.left, x), (found.top, y)):
        assert 0 <= begin <= 256 - SIDE
        # In the middle, unless that lies too near the tile's edge.
        assert abs(at - begin - SIDE / 2) <= 1 or begin in (0, 256 - SIDE)
        assert begin - 1 <= at <= begin + SIDE + 1


def place(*kinds, legend=None, id_="a1"):
    layers = [
        SimpleNamespace(id=f"{id_}{number}", kind=kind, title=kind, bands=("r", "g", "b"))
        for number, kind in enumerate(kinds)
    ]
    return SimpleNamespace(id=id_, layers=tuple(layers), legend=legend)


def session(*places, **view):
    return Session(SimpleNamespace(places=places), View(**view))


@pytest.mark.parametrize(
    ("kinds", "shown"),
    [
        (("image", "classes", "probabilities", "truth", "polygons"), {"image", "classes", "polygons"}),
        (("image", "truth"), {"image", "truth"}),
        (("image",), {"image"}),
    ],
)
def test_at_first_what_matters_is_shown(kinds, shown):
    found = session(place(*kinds))
    assert {layer.kind for layer in found.layers if layer.id in found.shown} == shown


def test_a_view_of_another_folder_shows_what_is_here():
    found = session(
        place("image", "classes", legend=Legend.of(["house"])),
        place="zz",
        layers=(("zz0", 50), ("a10", 40)),
        swipe="zz1",
        bands=(1, 2, 9),
        class_id=77,
    )
    assert found.shown == {"a10": 40}
    assert (found.view.swipe, found.view.bands, found.class_id) == (None, None, 1)


def test_layers_lie_in_the_order_of_the_map_whatever_comes_first():
    found = session(place("polygons", "classes", "image"), layers=())
    for layer in ("a10", "a12", "a11"):
        found.show(layer, 100)
    assert list(found.shown) == ["a12", "a11", "a10"]


def test_listeners_hear_of_changes_only():
    heard = []
    found = session(place("image"))
    found.listen(lambda: heard.append(found.view.threshold))
    found.change(threshold=0.5)
    found.change(threshold=0.5)
    assert heard == [0.5]


def test_the_curve_marks_the_nearest_threshold():
    curve = {"threshold": [0.0, 0.5, 0.9], "precision": [0.2, 0.6, None], "recall": [1.0, 0.7, 0.0]}
    line, mark = curve_options(curve, 0.55)["series"]
    assert line["data"] == [[1.0, 0.2], [0.7, 0.6]]
    assert mark["data"] == [[0.7, 0.6]]
    assert curve_options(curve, 0.95)["series"][1]["data"] == []
    assert len(curve_options(curve, None)["series"]) == 1


def test_the_histogram_has_every_pixel_at_the_middle_of_its_bin():
    outside, inside = bar_options({"edges": [0, 0.5, 1], "outside": [7, 0], "inside": [1, 3]}, 0.3)["series"]
    assert outside["data"] == [[0.25, 7], [0.75, 0.9]]  # an axis of logarithms has no 0
    assert inside["data"] == [[0.25, 1], [0.75, 3]]
    assert outside["markLine"]["data"] == [{"xAxis": 0.3}]


def test_facts_are_told_in_a_row_whatever_their_depth():
    facts = {"polygons": [{"area_m2": 2.0}, {"area_m2": 30000.0}], "column": 3.9, "longitude": 1.2345678, "truth": []}
    assert flat(facts) == [
        ("polygons 1 area m2", "2"),
        ("polygons 2 area m2", "30,000.0"),
        ("column", "3"),
        ("longitude", "1.234568"),
        ("truth", "none"),
    ]


def rings(seed):
    """A square with a hole, and two smaller squares aside."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(-80, 80, 2)
    boxes = [shapely.box(x, y, x + 4, y + 4) - shapely.box(x + 1, y + 1, x + 2, y + 2)]
    return shapely.MultiPolygon(
        [*boxes, shapely.box(x + 6, y, x + 7, y + 1), shapely.box(x + 6, y + 2, x + 6.5, y + 3)]
    )


@pytest.mark.parametrize("seed", range(3))
def test_shapes_come_back_from_the_map_as_they_were(seed):
    shape = rings(seed)
    parts = parts_of(shapely.geometry.mapping(shape))
    assert shapely.geometry.shape(geometry_of(parts)).equals(shape)
    assert shapely.Polygon(parts[0][0]).area == pytest.approx(16)  # the largest first
    assert shapely.geometry.shape(geometry_of(parts[:1])).equals(shape.geoms[0])


@given(st.tuples(*[st.integers(-9, 9)] * 4), st.tuples(*[st.integers(-9, 9)] * 4))
def test_boxes_meet_as_shapely_says(one, other):
    def box(values):
        x, y, width, height = values[0], values[1], abs(values[2]) + 1, abs(values[3]) + 1
        return shapely.box(x, y, x + width, y + height)

    first, second = box(one), box(other)
    assert meet(*(box_of(shapely.geometry.mapping(shape)) for shape in (first, second))) == first.intersects(second)
