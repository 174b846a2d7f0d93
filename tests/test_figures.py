"""Laws of every figure: whole, nothing written over anything else, readable, and the same in SVG."""

import math
from xml.etree import ElementTree as ET

import matplotlib.text
import numpy as np
import pytest
import shapely
from matplotlib.backends.backend_agg import FigureCanvasAgg

from satmask import band_sheets, charts, contact, data_charts, figures, maps, sheets, threshold_charts
from satmask.legend import Legend
from satmask.pictures import Example
from satmask.scoring.thresholds import count_thresholds

DSTL = (
    "buildings", "misc. manmade structures", "road", "track", "trees", "crops", "waterway", "standing water",
    "vehicle large", "vehicle small",
)  # fmt: skip


def legend_of(count):
    return Legend.of([f"{DSTL[at % 10]}{' again' * (at // 10)}" for at in range(count)])


def every_figure(count):
    """Each kind of figure for a number of classes, which is the number of bands, too."""
    random = np.random.default_rng(count)
    legend, names = legend_of(count), list(legend_of(count).names)
    rgb = random.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    masks = random.random((60, 80, count)) < 0.3
    scores = random.normal(0, 1, masks.shape) + np.where(masks, 1, -1) * random.uniform(0.2, 3, count)
    counts = count_thresholds(1 / (1 + np.exp(-1.5 * scores)), masks, legend)
    boxes = [shapely.box(x, x, x + 5, x + 9) for x in range(count)]
    areas = data_charts.ClassAreas(10.0 ** -random.uniform(0, 5, count), 10, [48_347] * count, [1367] * count)
    image = random.integers(0, 3000, (60, 80, count), dtype=np.uint16)
    valid = np.ones((60, 80), bool)
    valid[:9] = False
    tiles = [
        contact.Tile(rgb, masks, valid, None, f"a tile with a rather long name {at}") for at in range(min(count, 7))
    ]
    values = {"train": image.reshape(-1, count), "val": image[:9].reshape(-1, count) * 1.1}
    return {
        "precision and recall": threshold_charts.precision_recall(counts),
        "reliability": threshold_charts.reliability_curve(counts),
        "confusion": charts.confusion_matrix(random.integers(0, 3_000_000, (count, count)), names),
        "scores": charts.score_bars(dict(zip(names, random.random(count), strict=True))),
        "areas": data_charts.class_bars({"train": areas, "val": areas}, legend, title="Areas"),
        "histograms": data_charts.band_histograms(values, names, title="Bands"),
        "overlaid": data_charts.band_histograms(values, names, overlaid=True),
        "bands": band_sheets.band_sheet(image, valid=valid, names=names, wavelengths_nm=range(400, 400 + count)),
        "composite": band_sheets.composite(image, (1, 1, count), names=names, valid=valid, title="An image"),
        "polygons": maps.polygons_over(rgb, boxes, legend.ids, legend, gsd_m=0.31, title="Polygons"),
        "contact": contact.contact_sheets(tiles, legend, title="Tiles")[0],
        "comparison": sheets.comparison_sheet([Example(rgb, masks, masks[::-1], valid, "a row")], legend, title="Rows"),
    }


@pytest.fixture(scope="module", params=[1, 10, 20])
def drawn(request):
    """Each figure with its texts; what is drawn once needs no other layout."""
    return {name: (figure, written(figure)) for name, figure in every_figure(request.param).items()}


def written(figure):
    """Every text that is really drawn, and the outline of its letters in pixels."""
    found = []
    original = matplotlib.text.Text.draw

    def draw(self, renderer, *args, **settings):
        if self.get_visible() and self.get_text().strip():
            found.append(self)
        return original(self, renderer, *args, **settings)

    canvas = FigureCanvasAgg(figure)
    with pytest.MonkeyPatch.context() as patch:
        canvas.draw()
        figure.set_layout_engine("none")
        patch.setattr(matplotlib.text.Text, "draw", draw)
        canvas.draw()
    return [(text, outline(text, canvas.get_renderer())) for text in found]


def outline(text, renderer):
    """The box of a text, turned as the text is; a box of a slanted text that isn't would be far too large."""
    angle = text.get_rotation()
    if angle % 90 == 0:
        return shapely.box(*text.get_window_extent(renderer).extents)
    text.set_rotation(0)
    flat = shapely.box(*text.get_window_extent(renderer).extents)
    text.set_rotation(angle)
    return shapely.affinity.rotate(flat, angle, origin=tuple(text.get_transform().transform(text.get_position())))


def test_no_text_lies_on_another_or_beyond_the_figure(drawn):
    for name, (figure, texts) in drawn.items():
        page = shapely.box(*figure.bbox.extents).buffer(1)
        for text, box in texts:
            assert page.covers(box), (name, text.get_text(), box.bounds)
        boxes = shapely.buffer([box for _, box in texts], -0.5)
        for one, other in shapely.STRtree(boxes).query(boxes, predicate="intersects").T:
            shared = boxes[one].intersection(boxes[other]).area
            touching = shared < 0.02 * min(boxes[one].area, boxes[other].area)
            assert one == other or touching, (name, texts[one][0].get_text(), texts[other][0].get_text())


def test_letters_have_at_least_seven_points_and_figures_fit_on_a_page(drawn):
    for name, (figure, texts) in drawn.items():
        assert min(text.get_fontsize() for text, _ in texts) >= 7, name
        assert figure.get_figwidth() <= figures.SHEET, name


@pytest.mark.parametrize("drawn", [1, 10], indirect=True)  # twenty add nothing but time
def test_svg_is_sound_and_holds_every_text(drawn):
    for name, (figure, texts) in drawn.items():
        parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))  # noqa: S314  # our own file
        tree = ET.fromstring(figures.svg_bytes(figure), parser)  # noqa: S314  # our own file
        # Letters are stored as curves, so that they look alike everywhere, each text with a comment that tells it.
        said = {(node.text or "").strip() for node in tree.iter(ET.Comment)}
        # Those with a rim, such as that of the scale bar, come without the comment.
        lines = {
            line.strip() for text, _ in texts if not text.get_path_effects() for line in text.get_text().split("\n")
        }
        assert lines <= said, name


def test_percent_tells_little_from_nothing_and_much_from_all():
    shares = [0, 1e-6, 1e-4, 0.5, 0.99999, 1]
    told = [figures.percent(share) for share in shares]
    assert len(set(told)) == len(shares)
    for share, text in zip(shares, told, strict=True):
        assert math.isclose(float(text.strip(" %>")), 100 * share, rel_tol=0.01)


def test_shrinking_keeps_the_shape():
    assert figures.at_most(np.zeros((300, 100, 3), np.uint8), 60).shape == (60, 20, 3)
    assert figures.at_most(np.zeros((3000, 1, 3), np.uint8), 60).shape == (60, 1, 3)
