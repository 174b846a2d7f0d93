"""Charts of scores and of training: numbers in, figures out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from satmask.errors import SettingError
from satmask.figures import BEST, CHART, INK, SHEET, SMALL, TEXT, TINY, TRAINING, VALIDATION, blank, dress, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL_CELL = 36  # points; what is narrower has no room for a count


def learning_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Draw loss, IoU and learning rate over the epochs, with the best epoch marked.

    Args:
        history: Values an epoch under `loss` and, as far as there are any, a name with `iou` in it, both also with
            `val_` in front, and `learning_rate`; a dict of lists or a pandas frame. NaN leaves a gap.

    Returns:
        A figure for `figures.save`, `png_bytes` or `svg_bytes`.

    Raises:
        SettingError: If there is no loss, or no epoch.
    """
    series = {str(name): np.asarray(history[name], np.float64) for name in history.keys() if name != "epoch"}  # noqa: SIM118 -- a frame walks rows or columns, its keys() are always columns
    if "loss" not in series or not len(series["loss"]):
        msg = f"History must hold `loss` of at least one epoch, got {', '.join(series) or 'nothing'}."
        raise SettingError(msg)
    overlap = next((name for name in series if "iou" in name.lower() and not name.startswith("val_")), None)
    shown = {"Loss": "loss", "IoU": overlap, "Learning rate": "learning_rate"}
    shown = {title: name for title, name in shown.items() if name in series}
    ratios = [1 if title == "Learning rate" else 3 for title in shown]
    key = [("training", TRAINING), ("validation", VALIDATION)] if "val_loss" in series else []
    figure = blank(CHART, 0.75 * sum(ratios) + 0.25, key=key)
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    epochs = np.arange(1, len(series["loss"]) + 1)
    best = _best_epoch(series, overlap)
    for axis, (title, name) in zip(axes, shown.items(), strict=True):
        _curve(axis, epochs, series, str(name))
        dress(axis, title)
        axis.axvline(best + 1, color=BEST, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    _mark_best(axes[list(shown).index("IoU") if "IoU" in shown else 0], series, overlap or "loss", best)
    axes[-1].set_xlabel("Epoch", fontsize=TEXT, color=INK)
    axes[-1].set_xlim(0.5 - len(epochs) / 50, len(epochs) + 0.5 + len(epochs) / 50)
    axes[-1].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return figure


def confusion_matrix(matrix: npt.ArrayLike, names: Sequence[str]) -> Figure:
    """Draw a confusion matrix: each row is the truth of one class, spread over what was predicted.

    Args:
        matrix: Pixels, `(classes, classes)`: rows are truth, columns prediction.
        names: Name of each class.

    Returns:
        A figure for `figures.save`, `png_bytes` or `svg_bytes`; a row without pixels stays blank.

    Raises:
        SettingError: If the matrix isn't square with a row a name.
    """
    counts = np.asarray(matrix, np.float64)
    if counts.shape != (len(names), len(names)):
        msg = f"Confusion matrix must have a row and a column for each of {len(names)} classes, got {counts.shape}."
        raise SettingError(msg)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    side = min(max(0.62 * len(names), 2.2), SHEET - 1.6)
    figure = blank(side + 1.6, side + 1.1)
    axis = figure.subplots()
    axis.pcolormesh(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1)
    small = 72 * side / len(names) < SMALL_CELL
    _label_cells(axis, counts, shares, small=small)
    ticks = np.arange(len(names)) + 0.5
    axis.set(aspect="equal", ylim=(len(names), 0))
    # Slanted names of two lines run into one another where cells are small.
    turned = {"rotation": 90, "va": "center"} if small else {"rotation": 40}
    across = [wrapped(name, 99 if small else 16) for name in names]
    axis.set_xticks(ticks, across, ha="right", rotation_mode="anchor", **turned)
    axis.set_yticks(ticks, [wrapped(name, 24 if small else 16) for name in names])
    axis.tick_params(length=0, labelsize=SMALL + 0.5, colors=INK)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("Predicted, in % of the truth" if small else "Predicted", fontsize=TEXT, color=INK)
    axis.set_ylabel("Truth", fontsize=TEXT, color=INK)
    return figure


def score_bars(
    scores: Mapping[str, float | Mapping[str, float]], *, colours: Mapping[str, str] | None = None
) -> Figure:
    """Draw the scores of each class as bars from 0 to 1.

    Args:
        scores: Score of each class, or its scores by name (`{"building": {"IoU": 0.71, "F1": 0.83}}`). NaN, the score
            of a class without pixels, is written as "no pixels".
        colours: `#RRGGBB` of each class, or of each score where classes have several; from a palette if None.

    Returns:
        A figure for `figures.save`, `png_bytes` or `svg_bytes`.

    Raises:
        SettingError: If there is no score.
    """
    table = {name: dict(value) if isinstance(value, Mapping) else {"": value} for name, value in scores.items()}
    kinds = list(dict.fromkeys(kind for row in table.values() for kind in row))
    if not kinds:
        msg = "Scores must hold at least one class, got none."
        raise SettingError(msg)
    fills = colours or dict(zip(kinds, (TRAINING, VALIDATION, "#2A9D78", "#B56BA5", "#8A8F98") * 9, strict=False))
    thick = 0.8 / len(kinds)
    key = [(kind, fills.get(kind, TRAINING)) for kind in kinds] if len(kinds) > 1 else []
    figure = blank(CHART, len(table) * max(0.2 * len(kinds), 0.3) + 0.5, key=key)
    axis = figure.subplots()
    for at, (name, row) in enumerate(table.items()):
        for index, kind in enumerate(kinds):
            value, centre = row.get(kind, math.nan), at + (index - (len(kinds) - 1) / 2) * thick
            fill = fills.get(kind if kind in fills else name, TRAINING)
            axis.barh(centre, 0 if math.isnan(value) else value, height=thick * 0.86, color=fill)
            text = "no pixels" if math.isnan(value) else f"{value:.3f}"
            axis.text(0.012 + (0 if math.isnan(value) else value), centre, text, va="center", fontsize=SMALL, color=INK)
    axis.set_yticks(range(len(table)), [wrapped(name, 22) for name in table])
    axis.set(xlim=(0, 1.14), ylim=(len(table) - 0.5, -0.5), xticks=np.linspace(0, 1, 6))
    dress(axis, "")
    axis.grid(visible=False, axis="y")
    return figure


def _curve(axis: Axes, epochs: npt.NDArray[Any], series: Mapping[str, npt.NDArray[Any]], name: str) -> None:
    marker = "o" if len(epochs) < 12 else ""
    axis.plot(epochs, series[name], color=TRAINING, linewidth=1.4, marker=marker, markersize=3)
    if (validation := series.get(f"val_{name}")) is not None:
        axis.plot(epochs, validation, color=VALIDATION, linewidth=1.9, marker=marker, markersize=3)
    if name == "learning_rate" and (series[name] > 0).all() and series[name].max() > 20 * series[name].min():
        axis.set_yscale("log")


def _best_epoch(series: Mapping[str, npt.NDArray[Any]], overlap: str | None) -> int:
    """Index of the epoch with the highest validation IoU, or the lowest loss where there is no IoU."""
    sign, name = (-1.0, overlap) if overlap else (1.0, "loss")
    values = sign * series.get(f"val_{name}", series[str(name)])
    return int(np.argmin(np.where(np.isfinite(values), values, np.inf)))


def _mark_best(axis: Axes, series: Mapping[str, npt.NDArray[Any]], name: str, best: int) -> None:
    values = series.get(f"val_{name}", series[name])
    if not math.isfinite(values[best]):
        return
    axis.plot(best + 1, values[best], "o", markersize=6, markerfacecolor="none", markeredgecolor=INK)
    axis.set_title(f"best {values[best]:.3f} in epoch {best + 1}", fontsize=SMALL, color=INK, loc="right", pad=4)


def _label_cells(axis: Axes, counts: npt.NDArray[Any], shares: npt.NDArray[Any], *, small: bool) -> None:
    """Write share and count into each cell, white on dark; only percents where cells are small."""
    for row in np.flatnonzero(np.isnan(shares).all(axis=1)):
        axis.text(len(counts) / 2, row + 0.5, "no pixels", ha="center", va="center", fontsize=SMALL, color=INK)
    for row, column in np.argwhere(~np.isnan(shares)):
        share, count = float(shares[row, column]), float(counts[row, column])
        text = f"{share:.1%}\n{_short(count)}" if count else "0"
        if small:
            text = f"{100 * share:.0f}" if share >= 0.005 else ""
        colour = "#fffffe" if share > 0.55 else "#20242a"
        size = TINY if small else SMALL
        axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=colour)


def _short(count: float) -> str:
    """Write a count in at most four or five signs."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}" if count < 999.5 * unit else f"{count / unit:,.0f}{name}"
    return f"{count:,.0f}"
