"""Charts of a data set: how much there is of each class, and how its bands' values are spread. Numbers in, figures out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from satmask.errors import SettingError
from satmask.figures import (
    BEST,
    CHART,
    INK,
    SMALL,
    TINY,
    TRAINING,
    VALIDATION,
    blank,
    dress,
    percent,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from satmask.legend import Legend

FAR = 1000  # times that the largest class outweighs the smallest from which bars need a logarithmic scale
# Lines of bands that are drawn over one another, by the colour that a band's name says, else in turn.
BAND_COLOURS = {"red": "#D5403A", "green": "#3E9B4F", "blue": "#3A7BD5"}
OTHERS = ("#7A4FBF", "#DD8A20", "#1C9C9C", "#C2528B", "#8A6D3B", "#6B7480", "#A3A500", "#3D8BC9")
# Share of the pixels in a percent below and above the range shown; integers of 8 bits are shown from 0 to 255.
TAILS = (0.1, 99.9)


@dataclass(frozen=True)
class ClassAreas:
    """What a split holds of each class.

    Attributes:
        areas: Pixels or square metres of each class, `(classes,)`.
        labelled: Labelled area in the same unit, with and without a class.
        objects: Objects of each class, `(classes,)`; None where they aren't counted.
        images: Images that hold each class, `(classes,)`; None where they aren't counted.
    """

    areas: Sequence[float]
    labelled: float
    objects: Sequence[int] | None = None
    images: Sequence[int] | None = None

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Share of the labelled area, 0 to 1, `(classes,)`; 0 where nothing is labelled."""
        areas = np.asarray(self.areas, np.float64)
        return areas / self.labelled if self.labelled else np.zeros_like(areas)


def class_bars(splits: Mapping[str, ClassAreas], legend: Legend, *, log: bool | None = None, title: str = "") -> Figure:
    """Draw the share of the labelled area that each class has, one bar a split, with objects and images beside it.

    Args:
        splits: What each split holds, under its name; one or two are usual. The first is drawn full, the next ones pale.
        legend: The classes.
        log: Whether the scale is logarithmic; where None, it is if the largest share is a thousand times the smallest.
        title: Title of the figure.

    Returns:
        A figure for `figures.save`, `png_bytes` or `svg_bytes`.

    Raises:
        SettingError: If there is no split, or a split doesn't hold one number a class.
    """
    _check_areas(splits, legend)
    shares = np.array([found.shares for found in splits.values()])
    some = shares[shares > 0]
    log = bool(some.size and some.max() >= FAR * some.min()) if log is None else log
    thick = 0.8 / len(splits)
    fades = np.linspace(0, 0.6, len(splits)) if len(splits) > 1 else [0]
    key = [(name, _pale(BEST, fade)) for name, fade in zip(splits, fades, strict=True)] if len(splits) > 1 else []
    figure = blank(CHART, len(legend) * (0.14 + 0.18 * len(splits)) + 0.7, title=title, key=key)
    axis = figure.subplots()
    low, high = (10 ** np.floor(np.log10(some.min()) - 0.3), 1) if log and some.size else (0, max(shares.max(), 1e-6))
    axis.set(xscale="log" if log else "linear", xlim=(low, high * 1.02), ylim=(len(legend) - 0.5, -0.5))
    for number, (found, fade) in enumerate(zip(splits.values(), fades, strict=True)):
        centres = np.arange(len(legend)) + (number - (len(splits) - 1) / 2) * thick
        colours = [_pale(entry.colour, fade) for entry in legend]
        axis.barh(centres, found.shares, height=thick * 0.88, color=colours, edgecolor=BEST, linewidth=0.5)
        _columns(axis, found, centres)
    _headings(axis, splits.values())
    axis.set_yticks(range(len(legend)), [wrapped(name, 16) for name in legend.names])
    _percents(axis, log=log)
    return figure


def band_histograms(
    values: Mapping[str, npt.NDArray[Any]],
    names: Sequence[str],
    *,
    nodata: Mapping[str, float] | None = None,
    overlaid: bool = False,
    bins: int = 64,
    title: str = "",
) -> Figure:
    """Draw how the values of each band are spread: a panel a band with the splits over one another, or all in one panel.

    Heights are shares of a split's valid pixels, so that splits of different sizes compare. Values beyond the range
    shown, at most a thousandth at either end, are counted into the outermost bins.

    Args:
        values: Pixels of each split, such as "train" and "val"; any real dtype, `(pixels, bands)`; NaN and infinity are
            nodata. Integers of 8 bits are shown from 0 to 255.
        names: Name of each band.
        nodata: Share of nodata in each split, 0 to 1, where it was left out of `values`.
        overlaid: Draw all bands into one panel, one panel a split.
        bins: How many, at most.
        title: Title of the figure; the share of nodata follows.

    Returns:
        A figure for `figures.save`, `png_bytes` or `svg_bytes`.

    Raises:
        SettingError: If there is no split, or a split doesn't have one column a band.
    """
    if not values or any(part.ndim != 2 or part.shape[1] != len(names) for part in values.values()):
        shapes = ", ".join(str(part.shape) for part in values.values()) or "no split"
        msg = f"Values must have a column for each of {len(names)} bands, got {shapes}."
        raise SettingError(msg)
    missing = {split: _missing(part) for split, part in values.items()} | dict(nodata or {})
    said = "nodata: " + ", ".join(f"{percent(share)} of {split}" for split, share in missing.items())
    title = f"{title}\n{said}" if title else said
    draw = _overlaid if overlaid else _panels
    return draw(values, names, bins, title)


def spread(values: npt.NDArray[Any], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of the valid values in each bin; what lies beyond is counted into the outermost bins.

    Args:
        values: Any real dtype, `(pixels,)`; NaN and infinity aren't counted.
        edges: Where bins begin and end, rising, `(bins + 1,)`.

    Returns:
        float64, `(bins,)`, with the sum 1, or 0 where no value is valid.

    Examples:
        >>> spread(np.array([1, 2, 2, 99]), np.array([0, 2, 4.0])).tolist()
        [0.25, 0.75]
    """
    known = values[np.isfinite(values)].astype(np.float64)
    counts = np.histogram(np.clip(known, edges[0], edges[-1]), edges)[0]
    return counts / max(len(known), 1)


def bin_edges(values: Sequence[npt.NDArray[Any]], bins: int) -> npt.NDArray[np.float64]:
    """Choose bins that all values of a band share; of integers, each holds equally many.

    Args:
        values: Of each split, `(pixels,)`.
        bins: How many, at most.

    Returns:
        float64, rising, `(bins + 1,)`.
    """
    if all(part.dtype == np.uint8 for part in values):
        return np.linspace(0, 256, 65) - 0.5
    known = np.concatenate([part[np.isfinite(part)] for part in values])
    if not known.size:
        return np.linspace(0, 1, 2)
    low, high = np.percentile(known.astype(np.float64), TAILS)
    if all(part.dtype.kind in "iu" for part in values) or (known == np.rint(known)).all():
        step = max(int(np.ceil((high - low + 1) / bins)), 1)
        return np.arange(np.floor(low), np.ceil(high) + step + 1, step) - 0.5
    return np.linspace(low, high if high > low else low + 1, bins + 1)


def _check_areas(splits: Mapping[str, ClassAreas], legend: Legend) -> None:
    if not splits:
        msg = "Class bars must show at least one split, got none."
        raise SettingError(msg)
    for name, found in splits.items():
        for numbers in (found.areas, found.objects, found.images):
            if numbers is not None and len(numbers) != len(legend):
                msg = f"Split {name!r} must have a number for each of {len(legend)} classes, got {len(numbers)}."
                raise SettingError(msg)


def _pale(colour: str, fade: float) -> str:
    """Mix a colour with white."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * fade):02X}" for part in parts)


def _columns(axis: Axes, found: ClassAreas, centres: npt.NDArray[Any]) -> None:
    """Write share, objects and images beside each bar."""
    texts: dict[str, Sequence[str]] = {"share": [percent(share) for share in found.shares]}
    if found.objects is not None:
        texts["objects"] = [f"{count:,}" for count in found.objects]
    if found.images is not None:
        texts["images"] = [f"{count:,}" for count in found.images]
    for column, rows in zip(_places(len(texts)), texts.values(), strict=True):
        for centre, text in zip(centres, rows, strict=True):
            _beside(axis, column, centre, text)


def _headings(axis: Axes, splits: Any) -> None:
    """Name the columns of numbers."""
    first = next(iter(splits))
    names = [
        "share",
        *(["objects"] if first.objects is not None else []),
        *(["images"] if first.images is not None else []),
    ]
    for column, name in zip(_places(len(names)), names, strict=True):
        _beside(axis, column, -0.62, name, va="bottom", fontweight="bold")


def _places(count: int) -> list[float]:
    """Right edges of the columns, in points from the right side of the axis."""
    return [46.0, 94.0, 134.0][:count]


def _beside(axis: Axes, points: float, row: float, text: str, **settings: Any) -> None:
    style: dict[str, Any] = {"va": "center", "fontsize": TINY + 0.5, "color": INK} | settings
    axis.annotate(
        text, (1, row), xycoords=("axes fraction", "data"), xytext=(points, 0), textcoords="offset points", ha="right",
        annotation_clip=False, **style,
    )  # fmt: skip


def _percents(axis: Axes, *, log: bool) -> None:
    """Ticks in percent, few enough for a narrow axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    dress(axis, "")
    axis.grid(visible=False, axis="y")
    axis.xaxis.set_major_locator(LogLocator(numticks=3) if log else MaxNLocator(3, steps=[1, 2, 5, 10]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    scale = "\n(logarithmic)" if log else ""
    axis.set_xlabel(f"Share of the labelled area{scale}", fontsize=SMALL, color=INK)


def _missing(part: npt.NDArray[Any]) -> float:
    """Share of pixels without a value in some band."""
    return 1 - float(np.isfinite(part).all(axis=1).mean()) if len(part) else 0.0


def _panels(values: Mapping[str, npt.NDArray[Any]], names: Sequence[str], bins: int, title: str) -> Figure:
    """A panel a band."""
    colours = dict(zip(values, (TRAINING, VALIDATION, *OTHERS), strict=False))
    columns = 1 if len(names) == 1 else 2
    rows = -(-len(names) // columns)
    figure = blank(CHART, rows * (1.9 if len(names) == 1 else 1.15), title=title, key=list(colours.items()))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    for band, name in enumerate(names):
        edges = bin_edges([part[:, band] for part in values.values()], bins)
        for split, part in values.items():
            shares = 100 * spread(part[:, band], edges)
            if split == next(iter(values)):
                axes[band].stairs(shares, edges, color=_pale(colours[split], 0.45), fill=True, zorder=1)
            axes[band].stairs(shares, edges, color=colours[split], linewidth=1.3, zorder=2)
        _label(
            axes[band],
            wrapped(name, 20 if columns == 2 else 44),
            edges,
            left=band % columns == 0,
            lowest=band + columns >= len(names),
        )
    return figure


def _overlaid(values: Mapping[str, npt.NDArray[Any]], names: Sequence[str], bins: int, title: str) -> Figure:
    """A panel a split, with a line a band."""
    colours = _band_colours(names)
    figure = blank(CHART, 1.9 * len(values), title=title, key=list(zip(names, colours, strict=True)))
    axes = figure.subplots(len(values), 1, squeeze=False).ravel()
    together = np.concatenate([part.ravel() for part in values.values()])
    edges = bin_edges([together], bins)
    for axis, (split, part) in zip(axes, values.items(), strict=True):
        for band, colour in enumerate(colours):
            axis.stairs(100 * spread(part[:, band], edges), edges, color=colour, linewidth=1.3, zorder=2)
        _label(axis, wrapped(split, 44), edges, left=True, lowest=axis is axes[-1])
    return figure


def _band_colours(names: Sequence[str]) -> list[str]:
    others = iter(OTHERS * (len(names) // len(OTHERS) + 1))
    return [BAND_COLOURS.get(name.lower()) or next(others) for name in names]


def _label(axis: Axes, name: str, edges: npt.NDArray[np.float64], *, left: bool, lowest: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    dress(axis, "")
    axis.set_title(name, fontsize=SMALL, color=INK, loc="left", fontweight="bold", pad=3)
    axis.autoscale_view()
    axis.set(xlim=(edges[0], edges[-1]), ylim=(0, axis.get_ylim()[1]))
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if abs(value) >= 1 else f"{value:g}"))
    axis.yaxis.set_major_locator(MaxNLocator(3))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g} %"))
    axis.tick_params(labelsize=TINY + 0.5)
    if lowest:
        axis.set_xlabel("Pixel value", fontsize=SMALL, color=INK)
    if left:
        axis.set_ylabel("Pixels", fontsize=SMALL, color=INK)
