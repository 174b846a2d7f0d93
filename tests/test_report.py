"""Laws of the page: one file, no request, everything escaped, nothing without words."""

import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from satmask import charts, figures
from satmask.errors import SettingError
from satmask.report import Page, Picture, Section, Table, embed, render_page, write_page

EVIL = "<script>alert('x')</script>\" onload=\"x"
VOID = {"meta", "img", "br", "link", "hr"}


class Reader(HTMLParser):
    """Collect tags, and hold that every one opened is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.text.append(data.strip())


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture
def page():
    rgb = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    chart = charts.score_bars({EVIL: 0.5})
    return Page(
        title=f"Run {EVIL}",
        subtitle=EVIL,
        sections=[
            Section(EVIL, f"{EVIL}\n\nSecond.", [Table([EVIL, "IoU"], [[EVIL, 0.71], ["b", None]], EVIL)]),
            Section("Tiles", pictures=[Picture.photo(rgb, EVIL, EVIL)] * 4, columns=4, key=[(EVIL, "#E69F00")]),
            Section(
                "Charts",
                pictures=[
                    Picture(figures.svg_bytes(chart), "chart"),
                    Picture(figures.png_bytes(chart, dpi=60), "chart"),
                ],
            ),
        ],
    )


def test_page_parses_and_its_tags_close(page):
    tags = [tag for tag, _ in read(render_page(page)).tags]
    assert (tags.count("section"), tags.count("table"), tags.count("img")) == (3, 1, 6)
    assert tags.count("h1") == tags.count("title") == 1


def test_page_asks_the_network_for_nothing(page):
    html = render_page(page)
    assert not re.search(r"https?:|url\(|@import|<link|<script|<iframe", html)
    for tag, attributes in read(html).tags:
        assert tag not in {"link", "script", "iframe", "object"}
        assert attributes.get("src", "data:").startswith("data:")


def test_everything_is_escaped(page):
    reader = read(render_page(page))
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert sum(EVIL in text for text in reader.text) == 13
    assert [attributes["alt"] for tag, attributes in reader.tags if tag == "img"][:4] == [EVIL] * 4


def test_page_speaks_to_those_who_cannot_see_it(page):
    tags = read(render_page(page)).tags
    assert dict(tags)["html"] == {"lang": "en"}
    assert all(attributes["alt"] for tag, attributes in tags if tag == "img")
    assert [attributes["scope"] for tag, attributes in tags if tag == "th"] == ["col", "col", "row", "row"]
    ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
    assert ids == {attributes["aria-labelledby"] for tag, attributes in tags if tag == "section"}


def test_numbers_are_set_right_and_gaps_are_dashes(page):
    html = render_page(page)
    assert '<th scope="col" class="number">IoU</th>' in html
    assert '<td class="number">0.710</td>' in html
    assert '<td class="number">–</td>' in html


def test_large_pictures_are_shrunk_and_keep_their_shape():
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (100, 200, 3), dtype=np.uint8), (4000, 2000))
    png = cv2.imencode(".png", image)[1].tobytes()
    file = embed(Picture(png, "noise"))
    assert (file["width"], file["height"]) == (1600, 800)
    assert file["src"].startswith("data:image/webp;base64,")
    assert len(file["src"]) < len(png) / 10


def test_small_pictures_are_kept_to_the_byte():
    import base64

    png = cv2.imencode(".png", np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    file = embed(Picture(png, "black"))
    assert base64.b64decode(file["src"].partition(",")[2]) == png
    assert (file["width"], file["height"]) == (30, 20)


def test_photo_shows_its_image(data):
    rgb = cv2.imread(str(next((data / "buildings" / "val" / "images").glob("*.jpg"))))[..., ::-1].copy()
    back = cv2.imdecode(np.frombuffer(Picture.photo(rgb, "tile").content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    error = np.abs(back.astype(int) - rgb)
    assert error.mean() < 8
    assert error.mean() < np.abs(back[..., ::-1].astype(int) - rgb).mean() / 2


def test_write_page_replaces_whole_files_only(page, tmp_path):
    path = tmp_path / "report.html"
    write_page(page, path)
    good = path.read_text(encoding="utf-8")
    broken = Page("x", sections=[Section("s", pictures=[Picture(b"\x89PNG\r\n\x1a\n", "half a file")])])
    with pytest.raises(SettingError, match="half a file"):
        write_page(broken, path)
    assert path.read_text(encoding="utf-8") == good == render_page(page)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Picture(b"GIF89a", "moving"),
        lambda: Picture(b"<svg></svg>", " "),
        lambda: Table(["a", "b"], [["x"]]),
        lambda: Section("s", key=[("a", "red;background:url(x)")]),
        lambda: Section("s", columns=0),
    ],
)
def test_pages_that_could_not_be_shown_are_refused(make):
    with pytest.raises(SettingError, match=r"must .*got"):
        make()
