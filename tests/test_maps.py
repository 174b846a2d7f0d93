"""Laws of polygons over an image: whatever lies on top, nothing is hidden."""

import io

import numpy as np
import pytest
import shapely
from matplotlib.image import imread

from satmask.errors import SettingError
from satmask.figures import png_bytes
from satmask.legend import Legend
from satmask.maps import polygons_over

LEGEND = Legend.of({1: "car", 2: "field"}, colours={1: "#FF0000", 2: "#0000FF"})
FIELD, CAR = shapely.box(10, 10, 90, 90), shapely.box(40, 40, 60, 60)


def pixels_of(figure, points):
    """Colours at places of the image, 0 to 255, as they come out on paper."""
    picture = imread(io.BytesIO(png_bytes(figure, dpi=100)))[..., :3]
    places = figure.axes[0].transData.transform(points)
    return [np.rint(255 * picture[len(picture) - 1 - int(y), int(x)]).astype(int).tolist() for x, y in places]


def drawn(**settings):
    return polygons_over(np.full((100, 100, 3), 255, np.uint8), [CAR, FIELD], [1, 2], LEGEND, **settings)


def test_small_polygons_lie_above_large_ones_unless_told_otherwise():
    assert pixels_of(drawn(alpha=1), [(50, 50), (20, 20), (5, 5)]) == [[255, 0, 0], [0, 0, 255], [255, 255, 255]]
    assert pixels_of(drawn(alpha=1, order=[1, 2]), [(50, 50)]) == [[0, 0, 255]]
    assert pixels_of(drawn(alpha=1, order=[2]), [(50, 50)]) == [[0, 0, 255]]


def test_fills_mix_where_classes_overlap():
    (both, field) = pixels_of(drawn(alpha=0.5), [(50, 50), (20, 20)])
    assert np.allclose(field, [127.5, 127.5, 255], atol=1)
    assert np.allclose(both, [191, 64, 127.5], atol=2)  # red half over blue half over white
    assert pixels_of(drawn(alpha=0), [(50, 50)]) == [[255, 255, 255]]


def test_a_covered_class_keeps_its_outline():
    top, *_ = pixels_of(drawn(alpha=1, order=[1, 2]), [(50, 40)])
    assert top[0] > top[2] + 100


def test_holes_stay_open():
    ring = FIELD.difference(CAR)
    figure = polygons_over(np.full((100, 100, 3), 255, np.uint8), [ring], [2], LEGEND, alpha=1)
    assert pixels_of(figure, [(50, 50), (20, 20)]) == [[255, 255, 255], [0, 0, 255]]


def test_the_key_counts_measures_and_shares_out():
    texts = [text.get_text() for text in drawn(gsd_m=0.5).legends[0].texts]
    assert texts == ["car: 1 · 100 m² · 4.0 %", "field: 1 · 1,600 m² · 64.0 %"]


@pytest.mark.parametrize(
    ("ids", "settings"), [([1], {}), ([1, 3], {}), ([1, 2], {"order": [7]}), ([1, 2], {"alpha": 1.5})]
)
def test_what_does_not_fit_is_refused(ids, settings):
    with pytest.raises(SettingError, match=r"must .*got"):
        polygons_over(np.zeros((9, 9, 3), np.uint8), [CAR, FIELD], ids, LEGEND, **settings)
