"""Laws of contact sheets: every tile once, whole, with its outlines; what is unknown looks unknown."""

import numpy as np
import pytest

from satmask.contact import Tile, contact_sheets, shortened
from satmask.errors import SettingError
from satmask.legend import Legend

BUILDING = Legend.of({100: "building"})


@pytest.fixture
def random():
    return np.random.default_rng(3)


def shown(figure):
    """The picture of each tile on a page."""
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]


def empty(image):
    return np.zeros((*image.shape[:2], 1), bool)


def test_every_tile_is_shown_once_and_in_order(random):
    tiles = []
    for at in range(23):
        image = random.integers(0, 255, (*random.integers(20, 90, 2), 3), dtype=np.uint8)
        tiles.append(Tile(image, empty(image), title=f"tile {at}"))
    pages = contact_sheets(tiles, BUILDING, per_page=8, title="All")
    titles = [[axis.get_title() for axis in page.axes if axis.images] for page in pages]
    assert [title.split("\n")[0] for page in titles for title in page] == [tile.title for tile in tiles]
    assert max(map(len, titles)) <= 8
    assert [page.get_suptitle() for page in pages] == ["All (1 of 3)", "All (2 of 3)", "All (3 of 3)"]
    height, width = tiles[4].image.shape[:2]
    assert titles[0][4] == f"tile 4\n{width} × {height} px"


def test_pages_are_no_longer_than_a4():
    tall = [Tile(np.zeros((300, 100, 3), np.uint8))] * 30
    pages = contact_sheets(tall, BUILDING, columns=2, per_page=100, title="Tall")
    assert len(pages) > 1
    assert max(page.get_figheight() for page in pages) < 11


def test_8_bit_tiles_are_shown_as_they_are(random):
    image = random.integers(0, 255, (480, 300, 3), dtype=np.uint8)
    (page,) = contact_sheets([Tile(image, empty(image))], BUILDING)
    assert np.array_equal(shown(page)[0], image)


def test_a_darker_tile_of_16_bits_looks_darker(random):
    bright = random.integers(100, 900, (64, 64, 8), dtype=np.uint16)
    (page,) = contact_sheets([Tile(image, empty(image)) for image in (bright, bright // 2)], BUILDING)
    first, second = shown(page)
    assert second.mean() < 0.65 * first.mean()


def test_outlines_lie_on_the_rim_of_the_labels():
    image = np.full((480, 480, 3), 90, np.uint8)
    mask = empty(image)
    mask[100:200, 120:300] = True
    (page,) = contact_sheets([Tile(image, mask)], BUILDING)
    picture = shown(page)[0]
    for row, column in ((100, 200), (199, 200), (150, 120), (150, 299)):
        assert tuple(picture[row, column]) == BUILDING.classes[0].rgb
    assert tuple(picture[50, 50]) == (90, 90, 90)


def test_unlabelled_is_hatched_and_nodata_a_checkerboard(random):
    image = random.integers(60, 200, (480, 480, 3), dtype=np.uint8)
    labelled, valid = np.ones((2, 480, 480), bool)
    labelled[:, :100] = False
    valid[300:] = False
    (page,) = contact_sheets([Tile(image, empty(image), labelled, valid)], BUILDING)
    picture = shown(page)[0]
    assert set(np.unique(picture[300:])) == {204, 232}
    assert np.array_equal(picture[:300, 100:], image[:300, 100:])
    assert (picture[:300, :100] != image[:300, :100]).any(axis=-1).mean() > 0.9
    assert [text.get_text() for text in page.legends[0].texts] == ["building", "unlabelled", "nodata"]


def test_a_tile_without_labels_is_hatched_all_over_but_still_seen():
    image = np.zeros((480, 480), np.uint16)
    image[:240] = 1000
    (page,) = contact_sheets([Tile(image)], BUILDING)
    picture = shown(page)[0]
    assert picture[:240].mean() > picture[240:].mean() + 40
    assert len(np.unique(picture[:240])) > 1


@pytest.mark.parametrize("letters", [5, 20, 21, 34])
def test_a_shortened_name_keeps_both_ends(letters):
    name = "zanzibar_tz-OAM-1277168-1083840-21"
    short = shortened(name, letters)
    assert len(short) == letters
    front, _, back = short.partition("…")
    assert name.startswith(front)
    assert name.endswith(back)


@pytest.mark.parametrize(
    ("tiles", "settings"), [(0, {}), (1, {"columns": 0}), (1, {"columns": 7}), (1, {"per_page": 0})]
)
def test_nothing_to_draw_is_said(tiles, settings):
    with pytest.raises(SettingError, match=r"must .*got"):
        contact_sheets([Tile(np.zeros((4, 4, 3), np.uint8))] * tiles, BUILDING, **settings)
