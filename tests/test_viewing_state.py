"""Laws of the address: it says the whole view, and what it says wrongly is as if it weren't there."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmask.viewing.page.state import View

IDS = st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)
PERCENT = st.integers(0, 200).map(lambda value: value / 2)
VIEWS = st.builds(
    View,
    place=st.none() | IDS,
    at=st.none()
    | st.tuples(
        *[st.integers(-(10**8), 10**8).map(lambda value: value / 1e6)] * 2,
        st.integers(0, 60).map(lambda value: value / 2),
    ),
    layers=st.none() | st.lists(st.tuples(IDS, st.integers(0, 100)), max_size=5).map(tuple),
    swipe=st.none() | IDS,
    hidden=st.lists(st.integers(0, 65534), max_size=5, unique=True).map(tuple),
    class_id=st.none() | st.integers(0, 65534),
    threshold=st.none() | st.integers(0, 100).map(lambda value: value / 100),
    bands=st.none() | st.tuples(*[st.integers(1, 300)] * 3),
    percent=st.none() | st.tuples(PERCENT, PERCENT).filter(lambda pair: pair[0] < pair[1]),
)


def read(query):
    return View.read(dict(parse_qsl(query, keep_blank_values=True)))


@given(VIEWS)
def test_an_address_gives_the_view_it_was_made_of(view):
    assert read(view.query) == view


@pytest.mark.parametrize("query", [
    "at=1,2", "at=nan,0,1", "at=inf,0,1", "at=1e99,0,1", "at=a,b,c", "place=../x", "place=A", "place=" + "a" * 65, "threshold=2",
    "threshold=-1", "threshold=x", "threshold=nan", "bands=0,1,2", "bands=1,2", "percent=98,2", "percent=5,5", "percent=-1,50",
    "class=-1", "class=x", "swipe=<script>", "hidden=<script>", "hidden=-1", "place=%00", "nothing=1", "",
])  # fmt: skip
def test_what_is_wrong_is_left_out(query):
    assert read(query) == View()


def test_of_layers_what_is_wrong_is_left_out():
    assert read("layers=a.50,<b>.10,c,d.999,e.-1").layers == (("a", 50), ("d", 100))


def test_long_lists_are_cut():
    assert len(read("layers=" + ",".join(["a.1"] * 500)).layers) == 32
    assert len(read("hidden=" + ",".join(map(str, range(500)))).hidden) == 256


@given(
    st.dictionaries(
        st.sampled_from(["place", "at", "layers", "swipe", "hidden", "class", "threshold", "bands", "percent"]),
        st.text(),
    )
)
def test_no_address_is_an_error(parts):
    assert isinstance(View.read(parts), View)
