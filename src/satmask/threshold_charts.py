"""Charts of probabilities against truth: precision and recall by threshold, and reliability. Counts in, figures out."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from satmask.errors import SettingError
from satmask.figures import BEST, CHART, GRID, INK, SMALL, TEXT, TINY, blank, dress, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from satmask.scoring.thresholds import Reliability, ThresholdCounts, ThresholdCurve

MARKED = tuple(range(100, 1000, 100))  # positions of the thresholds 0.1 to 0.9
_Box = tuple[float, float, float, float]  # left, low, right, high
CASING = "#3b4148"  # rim of marks, so that pale colours of a legend show on white


def precision_recall(counts: ThresholdCounts, *, title: str = "") -> Figure:
    """Draw precision against recall of each class, with thresholds along the curve and the one of the best F1.

    Thin grey lines join points of the same F1.

    Args:
        counts: Probabilities against truth, in fine bins.
        title: Title of the figure.

    Returns:
        A figure for `figures.save`, `png_bytes` or `svg_bytes`; one panel a class.
    """
    names, colours = counts.legend.names, [entry.colour for entry in counts.legend]
    figure = blank(CHART, _rows(names) * _side(names) * 1.12, title=title)
    axes = figure.subplots(_rows(names), _columns(names), squeeze=False).ravel()
    for channel, axis in enumerate(axes):
        if channel >= len(names):
            axis.set_visible(False)
            continue
        curve = counts.curve(channel)
        heading = f"average precision {_number(curve.average_precision)}"
        _frame(axis, names[channel], heading, single=len(names) == 1)
        _equal_f1(axis)
        _draw_curve(axis, curve, colours[channel])
        _label(axes, channel, len(names), x="Recall", y="Precision")
    note = "Dots: thresholds 0.1 to 0.9. Diamond: best F1. Grey lines: equal F1."
    figure.supxlabel(note, fontsize=TINY + 0.5, color=INK)
    figure.draw_without_rendering()  # how large panels are is known only now
    for channel, axis in enumerate(axes[: len(names)]):
        _note_thresholds(axis, counts.curve(channel))
    return figure


def reliability_curve(counts: ThresholdCounts, *, bins: int = 10, title: str = "") -> Figure:
    """Draw how often each class is there against how probable the network says it is, and how many pixels say so.

    On the diagonal, of all pixels that are said to be a building with 80 %, 80 % are. The expected calibration error
    in the heading is the mean distance from there, each bin weighted by its pixels; see `Reliability`.

    Args:
        counts: Probabilities against truth, in fine bins.
        bins: Bins of equal width; 1,000 must be a multiple of it.
        title: Title of the figure.

    Returns:
        A figure for `figures.save`, `png_bytes` or `svg_bytes`; one panel a class, with the pixels a bin in a strip
        below, on a logarithmic scale.

    Raises:
        SettingError: If 1,000 isn't a multiple of `bins`.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", 2017, https://arxiv.org/abs/1706.04599
    """
    names, colours = counts.legend.names, [entry.colour for entry in counts.legend]
    found = [counts.reliability(channel, bins=bins) for channel in range(len(names))]
    figure = blank(CHART, _rows(names) * _side(names) * 1.42, title=title)
    ratios = [3.4, 1] * _rows(names)
    axes = figure.subplots(2 * _rows(names), _columns(names), squeeze=False, gridspec_kw={"height_ratios": ratios})
    upper, lower = axes[::2].ravel(), axes[1::2].ravel()
    for channel in range(len(upper)):
        if channel >= len(names):
            upper[channel].set_visible(False)
            lower[channel].set_visible(False)
            continue
        heading = f"calibration error {_number(found[channel].calibration_error)}"
        _frame(upper[channel], names[channel], heading, single=len(names) == 1)
        _draw_reliability(upper[channel], found[channel], colours[channel])
        _draw_pixels(
            lower[channel], found[channel], colours[channel], top=max(float(each.weight.max()) for each in found)
        )
        _label(upper, channel, len(names), y="Share that is so")
        _label(lower, channel, len(names), x="Probability", y="Pixels")
    return figure


def reliability_change(before: ThresholdCounts, after: ThresholdCounts, *, bins: int = 10, title: str = "") -> Figure:
    """Draw how reliable probabilities were, dashed and grey, and how reliable they became.

    Args:
        before: Probabilities against truth as they were.
        after: The same pixels with other probabilities.
        bins: Bins of equal width; 1,000 must be a multiple of it.
        title: Title of the figure.

    Returns:
        A figure as that of `reliability_curve`; the strip below shows the pixels as they became.

    Raises:
        SettingError: If the legends differ, or 1,000 isn't a multiple of `bins`.
    """
    if before.legend != after.legend:
        msg = f"Reliability must be of the same classes to be compared, got {before.legend.names} and {after.legend.names}."
        raise SettingError(msg)
    figure = reliability_curve(after, bins=bins, title=title)
    panels = [axis for axis in figure.axes if axis.get_visible() and axis.get_yscale() == "linear"]
    for channel, axis in enumerate(panels):
        was, became = (counts.reliability(channel, bins=bins) for counts in (before, after))
        some = was.weight > 0
        axis.plot(
            was.confidence[some], was.frequency[some], color=BEST, linewidth=1.4, linestyle=(0, (2, 1.5)), zorder=2.5,
            marker="o", markersize=4, markerfacecolor="white", markeredgecolor=BEST, clip_on=False,
        )  # fmt: skip
        heading = axis.texts[0]
        what = "calibration error" if len(panels) == 1 else "error"
        heading.set_text(f"{what} {_number(was.calibration_error)}, now {_number(became.calibration_error)}")
    figure.supxlabel("Dashed: before.", fontsize=TINY + 0.5, color=INK)
    return figure


def _columns(names: Sequence[str]) -> int:
    return 1 if len(names) == 1 else 2


def _rows(names: Sequence[str]) -> int:
    return -(-len(names) // _columns(names))


def _side(names: Sequence[str]) -> float:
    """Side of a panel in inches."""
    return 3.3 if len(names) == 1 else 2.0


def _label(axes: Any, at: int, count: int, *, x: str = "", y: str = "") -> None:
    """Name the axes of the outer panels: the left ones, and those with none below."""
    columns = 1 if count == 1 else 2
    if x and at + columns >= count:
        axes[at].set_xlabel(x, fontsize=TEXT, color=INK)
    if y and at % columns == 0:
        axes[at].set_ylabel(y, fontsize=TEXT, color=INK)


def _frame(axis: Axes, name: str, heading: str, *, single: bool) -> None:
    """A square from 0 to 1 under the class's name and its number."""
    ticks = np.linspace(0, 1, 6 if single else 3)
    axis.set(xlim=(0, 1), ylim=(0, 1), xticks=ticks, yticks=ticks)
    dress(axis, "")
    lines = wrapped(name, 40 if single else 20)
    axis.set_title(lines, fontsize=TEXT if single else SMALL, color=INK, loc="left", fontweight="bold", pad=16)
    axis.annotate(
        heading, (0, 1), xytext=(0, 5), xycoords="axes fraction", textcoords="offset points",
        fontsize=SMALL if single else TINY + 0.5, color=INK,
    )  # fmt: skip


def _equal_f1(axis: Axes) -> None:
    """Lines along which F1 is the same: precision = F1 · recall / (2 · recall − F1)."""
    for f1 in (0.2, 0.4, 0.6, 0.8):
        recall = np.linspace(f1 / 2 + 1e-3, 1, 200)
        precision = f1 * recall / (2 * recall - f1)
        shown = precision <= 1
        axis.plot(recall[shown], precision[shown], color=GRID, linewidth=0.8, zorder=1)


def _draw_curve(axis: Axes, curve: ThresholdCurve, colour: str) -> None:
    """The curve, its marked thresholds, and the best F1."""
    if math.isnan(curve.average_precision):
        axis.text(0.5, 0.5, "no pixels in truth", ha="center", va="center", fontsize=SMALL, color=INK)
        return
    axis.plot(curve.recall, curve.precision, color=CASING, linewidth=2.6, zorder=2, solid_capstyle="round")
    axis.plot(curve.recall, curve.precision, color=colour, linewidth=1.7, zorder=3, solid_capstyle="round")
    marks: dict[str, Any] = {"color": "white", "markeredgecolor": CASING, "zorder": 4, "clip_on": False}
    at = list(MARKED)
    axis.plot(curve.recall[at], curve.precision[at], linestyle="none", marker="o", markersize=3.6, **marks)
    best = curve.recall[curve.best], curve.precision[curve.best]
    axis.plot(*best, marker="D", markersize=7, color=colour, markeredgecolor=INK, zorder=5, clip_on=False)


def _note_thresholds(axis: Axes, curve: ThresholdCurve) -> None:
    """Write the best F1 beside its mark, and as many thresholds beside theirs as find room."""
    if math.isnan(curve.average_precision):
        return
    extent, dpi = axis.get_window_extent(), axis.get_figure(root=True).dpi  # type: ignore[union-attr]  # it has one
    size = np.array([extent.width, extent.height]) * 72 / dpi  # in points
    line = np.stack([curve.recall, curve.precision], axis=1) * size
    line = line[~np.isnan(line).any(axis=1)]
    best = np.array([curve.recall[curve.best], curve.precision[curve.best]]) * size
    taken: list[_Box] = [(*(best - 6), *(best + 6))]
    _note(
        axis,
        f"F1 {curve.f1[curve.best]:.3f} at {curve.thresholds[curve.best]:.3g}",
        best,
        (taken, line, size),
        must=True,
    )
    last = best
    for at in MARKED:
        spot = np.array([curve.recall[at], curve.precision[at]]) * size
        if np.linalg.norm(spot - last) > 14:  # never true of NaN; closer ones would be taken for one another
            last = spot
            _note(axis, f"{curve.thresholds[at]:.1f}", spot, (taken, line, size))


def _note(axis: Axes, text: str, spot: Any, around: tuple[list[_Box], Any, Any], *, must: bool = False) -> None:
    """Write beside a point where nothing is written yet and least of the curve is covered; all lengths in points."""
    taken, line, size = around
    letters = TINY + 0.5
    wide, tall = len(text) * letters * (0.66 if must else 0.62), letters * 1.3
    free: list[tuple[int, int, tuple[float, float], _Box]] = []
    gaps = (8, 22, 40) if must else (4,)
    sides = ((-1, -1), (1, 1), (1, -1), (-1, 1))
    for order, (gap, (right, up)) in enumerate(product(gaps, sides)):
        left, low = spot[0] + right * min(gap, 8) - wide * (right < 0), spot[1] + up * gap - tall * (up < 0)
        left = min(max(left, 1), size[0] - wide - 1) if must else left
        box = (left, low, left + wide, low + tall)
        inside = left >= 1 and low >= 1 and box[2] <= size[0] - 1 and box[3] <= size[1] - 1
        if inside and not any(_meet(box, other) for other in taken):
            covered = int(((line >= box[:2]) & (line <= box[2:])).all(axis=1).sum())
            free.append((covered, order, (left, low), box))
    free = free if must else [found for found in free if not found[0]]
    if not free:
        return
    covered, _, corner, box = min(free)
    taken.append(box)
    axis.annotate(
        text, (0, 0), xytext=corner, xycoords="axes fraction", textcoords="offset points", fontsize=letters, color=INK,
        ha="left", va="bottom", fontweight="bold" if must else "normal", zorder=6, in_layout=False,
    )  # fmt: skip


def _meet(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_reliability(axis: Axes, found: Reliability, colour: str) -> None:
    axis.plot([0, 1], [0, 1], color=BEST, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    some = found.weight > 0
    if not some.any():
        axis.text(0.5, 0.5, "no pixels", ha="center", va="center", fontsize=SMALL, color=INK)
    said, seen = found.confidence[some], found.frequency[some]
    axis.vlines(said, np.minimum(said, seen), np.maximum(said, seen), color=BEST, linewidth=1, zorder=2)
    axis.plot(said, seen, color=CASING, linewidth=2.6, zorder=2)
    axis.plot(
        said, seen, color=colour, linewidth=1.7, zorder=3, marker="o", markersize=5, markeredgecolor=CASING,
        markeredgewidth=0.7, clip_on=False,
    )  # fmt: skip


def _draw_pixels(axis: Axes, found: Reliability, colour: str, *, top: float) -> None:
    """Bars of the pixels a bin, on a logarithmic scale that all panels share."""
    dress(axis, "")
    look: dict[str, Any] = {"color": colour, "edgecolor": CASING, "linewidth": 0.5, "zorder": 2}
    some = found.weight > 0  # bars of nothing have no place on a logarithmic scale
    axis.bar(found.edges[:-1][some], found.weight[some], np.diff(found.edges)[some], align="edge", **look)
    high = 10.0 ** math.ceil(math.log10(max(top, 10) * 1.01))
    axis.set(
        yscale="log", xlim=(0, 1), ylim=(0.5, high), xticks=np.linspace(0, 1, 6 if len(axis.figure.axes) == 2 else 3)
    )
    exponents = range(0, round(math.log10(high)) + 1, max(round(math.log10(high) / 2), 1))
    axis.set_yticks([10.0**exponent for exponent in exponents], [_power(exponent) for exponent in exponents])
    axis.minorticks_off()


def _power(exponent: int) -> str:
    """Write a power of ten as people say it."""
    unit = {0: "", 1: "k", 2: "M", 3: "G", 4: "T"}[min(exponent // 3, 4)]
    return f"{10 ** (exponent - 3 * min(exponent // 3, 4))}{' ' * bool(unit)}{unit}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
