"""Laws of the charts of a data set: bars are as long as areas are large, histograms are NumPy's."""

import numpy as np
import pytest

from satmask import data_charts
from satmask.data_charts import ClassAreas, band_histograms, class_bars
from satmask.errors import SettingError
from satmask.legend import Legend

LEGEND = Legend.of(["road", "tree", "car"])


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_bars_are_as_long_as_the_classes_share():
    splits = {
        "train": ClassAreas([30, 50, 0], 200, [3, 12_011, 0], [1, 7, 0]),
        "val": ClassAreas([10, 10, 5], 50, [1, 2, 3], [1, 1, 1]),
    }
    figure = class_bars(splits, LEGEND)
    assert np.allclose([bar.get_width() for bar in figure.axes[0].patches], [0.15, 0.25, 0, 0.2, 0.2, 0.1])
    assert figure.axes[0].get_xscale() == "linear"
    rows = texts(figure)
    assert rows[:9] == ["15.0 %", "25.0 %", "0 %", "3", "12,011", "0", "1", "7", "0"]
    assert rows[-3:] == ["share", "objects", "images"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["train", "val"]


def test_bars_have_the_colours_of_the_legend_and_pale_ones_after_the_first():
    from matplotlib.colors import to_hex

    splits = {"train": ClassAreas([1, 1, 1], 3), "val": ClassAreas([1, 1, 1], 3)}
    colours = [to_hex(bar.get_facecolor()).upper() for bar in class_bars(splits, LEGEND).axes[0].patches]
    assert colours[:3] == [entry.colour for entry in LEGEND]
    assert min(int(colour[1:], 16) for colour in colours[3:]) > 0x666666


@pytest.mark.parametrize(("smallest", "scale"), [(0.11, "linear"), (0.09, "log"), (0, "linear")])
def test_the_scale_is_logarithmic_from_a_thousand_times_on(smallest, scale):
    figure = class_bars({"train": ClassAreas([100, 50, smallest], 1000)}, LEGEND)
    assert figure.axes[0].get_xscale() == scale
    assert ("logarithmic" in figure.axes[0].get_xlabel()) == (scale == "log")
    assert class_bars({"train": ClassAreas([1, 2, 3], 9)}, LEGEND, log=True).axes[0].get_xscale() == "log"


def test_without_labels_every_share_is_nothing():
    assert class_bars({"train": ClassAreas([0, 0, 0], 0)}, LEGEND).axes[0].patches[0].get_width() == 0


def steps(axis):
    return [patch.get_data() for patch in axis.patches if not patch.get_fill()]


def test_histograms_are_those_of_numpy():
    random = np.random.default_rng(7)
    values = {"train": random.normal(0, 1, (5000, 3)), "val": random.normal(1, 2, (3000, 3))}
    figure = band_histograms(values, ["a", "b", "c"])
    for band in range(3):
        for part, found in zip(values.values(), steps(figure.axes[band]), strict=True):
            inside = np.clip(part[:, band], found.edges[0], found.edges[-1])
            expected = np.histogram(inside, found.edges)[0] / len(part) * 100
            assert np.allclose(found.values, expected)
            assert found.values.sum() == pytest.approx(100)
            assert found.values.max() < figure.axes[band].get_ylim()[1]


def test_nodata_is_left_out_and_its_share_said():
    values = np.arange(1000.0)[:, None].repeat(2, axis=1)
    values[:250, 1] = np.nan
    figure = band_histograms({"train": values, "val": values[250:]}, ["a", "b"], nodata={"val": 0.031}, title="Bands")
    assert figure.get_suptitle() == "Bands\nnodata: 25.0 % of train, 3.1 % of val"
    assert [found.values.sum() for found in steps(figure.axes[1])] == pytest.approx([100, 100])


@pytest.mark.parametrize("top", [5, 700, 2047, 65535])
def test_bins_of_integers_hold_equally_many_values(top):
    values = np.arange(top + 1, dtype=np.uint16)
    edges = data_charts.bin_edges([values], 64)
    assert len(edges) <= 68
    inner = np.histogram(values, edges)[0][1:-2]
    assert np.ptp(inner) == 0 if len(inner) else True
    assert data_charts.spread(values, edges).sum() == pytest.approx(1)


def test_8_bits_are_shown_from_0_to_255():
    edges = data_charts.bin_edges([np.array([7, 9], np.uint8)], 64)
    assert (edges[0], edges[-1]) == (-0.5, 255.5)


def test_overlaid_bands_have_the_colours_of_their_names():
    values = np.random.default_rng(1).integers(0, 255, (500, 4), dtype=np.uint8)
    figure = band_histograms({"train": values}, ["red", "nir", "green", "blue"], overlaid=True)
    handles = figure.legends[0].legend_handles
    lines = [patch.get_edgecolor() for patch in figure.axes[0].patches]
    assert [handle.get_facecolor() for handle in handles] == lines
    assert len(set(lines)) == 4


@pytest.mark.parametrize(
    "draw",
    [
        lambda: class_bars({}, LEGEND),
        lambda: class_bars({"train": ClassAreas([1, 2], 3)}, LEGEND),
        lambda: class_bars({"train": ClassAreas([1, 2, 3], 6, [1])}, LEGEND),
        lambda: band_histograms({}, ["a"]),
        lambda: band_histograms({"train": np.zeros((5, 2))}, ["a"]),
    ],
)
def test_what_does_not_fit_is_refused(draw):
    with pytest.raises(SettingError, match=r"must .*got"):
        draw()
