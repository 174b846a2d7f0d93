"""Pictures of images, classes, errors, polygons and scores: arrays in, RGB arrays or figures out.

No file is read and no global state of matplotlib is touched, so pictures can be made in any thread. Where classes or
errors have colours, colour-blind people can tell them apart; where a pixel is unknown, it looks unknown.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from satmask.errors import SettingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from shapely import MultiPolygon, Polygon

    from satmask.legend import Legend


# Kinds of a pixel in an error map, with their colours: `tests/test_pictures.py` holds that they stay apart for
# protanopes, deuteranopes and tritanopes, and from the grey of the dimmed image.
ERRORS = {
    "true positive": "#509BE6",
    "false positive": "#FFD84D",
    "false negative": "#DD3B1E",
    "wrong class": "#FFFFFF",
}
WRONG = "#DD3B1E"
UNCLASSED = "#E9EAEC"
# Ink and grid of charts. An SVG swaps them where the page is dark, so no other part of a chart may have these colours.
INK, GRID = "#1f2329", "#d4d8de"
DARK_INK, DARK_GRID = "#e4e7eb", "#3a4048"
TRAINING, VALIDATION, BEST = "#3D8BC9", "#DD6B20", "#8A9099"
# Sides of figures in inches, and text in points: letters of a chart 4.4 inches wide keep 10 px on a phone.
CHART, SHEET = 4.4, 7.5
TEXT, SMALL = 10.0, 8.5


@dataclass(frozen=True)
class Example:
    """An image with its truth and its prediction: one row of a comparison.

    Attributes:
        rgb: uint8, `(height, width, 3)`; see `stretch`.
        truth: Class ids `(height, width)`, or bool `(height, width, classes)`.
        prediction: The same of the prediction.
        valid: False where truth is unknown, bool `(height, width)`; None where all is known.
        title: What the row is called.
    """

    rgb: npt.NDArray[np.uint8]
    truth: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None = None
    title: str = ""


# ---- pixels ----------------------------------------------------------------------------------------------------------


def value_range(
    images: Iterable[npt.NDArray[Any]],
    *,
    valid: Iterable[npt.NDArray[np.bool_] | None] | None = None,
    percent: tuple[float, float] = (2, 98),
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Find the values of each band that a stretch should show as black and as white.

    Several images share one range, so that a brighter image stays brighter.

    Args:
        images: `(height, width, bands)` each; NaN and infinity count as nodata.
        valid: False at nodata, bool `(height, width)` each, or None.
        percent: Share of pixels below black and below white, 0 to 100.

    Returns:
        Black and white, float64, `(bands,)` each; 0 and 1 where no pixel is valid.
    """
    images = list(images)
    pixels = []
    for image, known in zip(images, valid or [None] * len(images), strict=True):
        kept = image[_known(image, known)]
        # A hundred thousand pixels fix a percentile well enough; the whole of a scene would take seconds.
        pixels.append(kept[:: max(len(kept) * len(images) // 100_000, 1)])
    together = np.concatenate(pixels).astype(np.float64)
    if not len(together):
        return np.zeros(together.shape[1]), np.ones(together.shape[1])
    low, high = np.percentile(together, percent, axis=0)
    return low, high


def stretch(
    image: npt.NDArray[Any],
    *,
    valid: npt.NDArray[np.bool_] | None = None,
    bands: tuple[int, int, int] = (0, 1, 2),
    percent: tuple[float, float] | None = None,
    limits: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
) -> npt.NDArray[np.uint8]:
    """Show any image as 8-bit RGB, without lying about nodata.

    Nodata pixels become a grey checkerboard and take no part in the percentiles: a black frame doesn't wash out the
    rest. 8-bit values are shown as they are unless `percent` or `limits` ask otherwise.

    Args:
        image: Any real dtype, `(height, width)` or `(height, width, bands)`; one or two bands are shown in grey.
        valid: False at nodata, bool `(height, width)`; NaN and infinity are nodata in any case.
        bands: Which bands are red, green and blue.
        percent: Share of pixels shown as black, and share below white, 0 to 100; 2 and 98 if None.
        limits: Values shown as black and as white, one or one a shown band, instead of percentiles.

    Returns:
        uint8, `(height, width, 3)`.

    Raises:
        SettingError: If the image lacks one of the bands.

    Example:
        >>> stretch(np.array([[0.0, 5.0, 10.0, np.nan]]), percent=(0, 100))[0, :3, 0].tolist()
        [0, 128, 255]
    """
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] < 3 and tuple(bands) == (0, 1, 2):
        bands = (0, 0, 0)
    if not all(0 <= band < image.shape[2] for band in bands):
        msg = f"Bands must lie in 0 to {image.shape[2] - 1}, got {tuple(bands)}. Choose from the image's own."
        raise SettingError(msg)
    shown = image[..., list(bands)]
    known = _known(shown, valid)
    if image.dtype == np.uint8 and percent is None and limits is None:
        picture = shown.copy()
    else:
        low, high = limits or value_range([shown], valid=[known], percent=percent or (2, 98))
        picture = _scale(shown, np.asarray(low, np.float64), np.asarray(high, np.float64))
    picture[~known] = _checker(*known.shape)[~known]
    return picture


def layers(labels: npt.NDArray[Any], legend: Legend) -> npt.NDArray[np.bool_]:
    """Spread labels into one mask a class.

    Args:
        labels: Class ids `(height, width)`; or a mask a class, `(height, width, classes)`; or, where the legend has one
            class, its bool mask `(height, width)`. Numbers in masks are true from 0.5.
        legend: The classes.

    Returns:
        bool, `(height, width, classes)`.

    Raises:
        SettingError: If there isn't one mask a class.
    """
    if labels.ndim == 2 and labels.dtype == np.bool_:
        labels = labels[..., None]
    if labels.ndim == 2:
        return np.stack([labels == id_ for id_ in legend.ids], axis=-1)
    if labels.shape[-1] != len(legend):
        msg = f"Labels must have one mask a class ({', '.join(legend.names)}), got shape {labels.shape}."
        raise SettingError(msg)
    return labels if labels.dtype == np.bool_ else labels >= 0.5


def paint(classes: npt.NDArray[Any], legend: Legend) -> npt.NDArray[np.uint8]:
    """Paint class ids in the legend's colours.

    Args:
        classes: Class ids or masks, as `layers` takes them.
        legend: The classes; where they overlap, a later one covers an earlier one.

    Returns:
        uint8, `(height, width, 3)`: pale grey where there is no class, a checkerboard at the legend's nodata value.

    Example:
        >>> from satmask.legend import Legend
        >>> paint(np.array([[7]]), Legend.of({7: "water"}, colours={7: "#0000FF"})).tolist()
        [[[0, 0, 255]]]
    """
    picture = np.empty((*classes.shape[:2], 3), np.uint8)
    picture[:] = _rgb(UNCLASSED)
    if classes.ndim == 2 and classes.dtype != np.bool_:
        unknown = classes == legend.nodata
        picture[unknown] = _checker(*unknown.shape)[unknown]
    return overlay(picture, classes, legend, alpha=1, outline=False)


def overlay(
    rgb: npt.NDArray[np.uint8],
    labels: npt.NDArray[Any],
    legend: Legend,
    *,
    alpha: float = 0.35,
    outline: bool = True,
) -> npt.NDArray[np.uint8]:
    """Lay the classes over an image: a see-through fill, and a crisp outline as wide as the image's size asks.

    The outline lies inside its class, so pixels without a class keep their values. Fills follow the legend's draw
    order; the outlines come above all fills, so that a covered class still shows.

    Args:
        rgb: uint8, `(height, width, 3)`.
        labels: Class ids or masks, as `layers` takes them.
        legend: The classes.
        alpha: Strength of the fill, 0 to 1.
        outline: Whether to draw outlines.

    Returns:
        uint8, `(height, width, 3)`; the input is left alone.
    """
    masks = layers(labels, legend)
    picture = rgb.astype(np.float32)
    for channel, entry in enumerate(legend):
        mask = masks[..., channel]
        picture[mask] += alpha * (np.asarray(entry.rgb, np.float32) - picture[mask])
    if outline:
        for channel, entry in enumerate(legend):
            picture[_inner_edge(masks[..., channel])] = entry.rgb
    return np.rint(picture).astype(np.uint8)


def hatch(rgb: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Grey and hatch the pixels that don't count.

    Args:
        rgb: uint8, `(height, width, 3)`.
        where: True at the pixels that don't count, bool `(height, width)`.

    Returns:
        uint8, `(height, width, 3)`; the input is left alone.
    """
    step = max(max(where.shape) // 32, 4)
    rows, columns = np.ogrid[: where.shape[0], : where.shape[1]]
    stripes = (rows + columns) % step < max(step // 4, 1)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None]
    picture = np.where(stripes[..., None], 214, grey // 4 + 92)
    return np.where(where[..., None], picture, rgb).astype(np.uint8)


def error_map(
    truth: npt.NDArray[Any],
    prediction: npt.NDArray[Any],
    *,
    valid: npt.NDArray[np.bool_] | None = None,
    rgb: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Colour each pixel by how prediction and truth differ, in the colours of `ERRORS`.

    Of masks: true positive, false positive, false negative, and, with several classes, wrong class, where one is missed
    and another one is too much. Of class ids, which exclude each other: only what is wrong is coloured (`WRONG`).

    Args:
        truth: bool masks `(height, width)` or `(height, width, classes)`, or class ids, integers `(height, width)`.
        prediction: The same of the prediction.
        valid: False where truth is unknown, bool `(height, width)`; shown as a checkerboard.
        rgb: The image, uint8 `(height, width, 3)`; it lies below, dark and grey. Without it, the ground is plain grey.

    Returns:
        uint8, `(height, width, 3)`.

    Raises:
        SettingError: If the shapes of truth and prediction differ.

    Example:
        >>> error_map(np.array([[True]]), np.array([[False]])).tolist()  # missed
        [[[221, 59, 30]]]
    """
    if truth.shape != prediction.shape:
        msg = f"Prediction must have the shape of its truth, got {prediction.shape} and {truth.shape}."
        raise SettingError(msg)
    picture = _dimmed(rgb, *truth.shape[:2])
    if truth.ndim == 2 and truth.dtype != np.bool_:
        picture[truth != prediction] = _rgb(WRONG)
    else:
        truth, prediction = np.atleast_3d(truth) > 0, np.atleast_3d(prediction) > 0
        hit = (truth & prediction).any(axis=-1)
        extra, missed = (prediction & ~truth).any(axis=-1), (truth & ~prediction).any(axis=-1)
        kinds = (hit & ~extra & ~missed, extra & ~missed, missed & ~extra, extra & missed)
        for colour, kind in zip(ERRORS.values(), kinds, strict=True):
            picture[kind] = _rgb(colour)
    if valid is not None:
        picture[~valid] = _checker(*valid.shape)[~valid]
    return picture


def panels(example: Example, legend: Legend, *, side: int = 480) -> dict[str, npt.NDArray[np.uint8]]:
    """Draw an example four times: image, truth, prediction and error.

    Args:
        example: Image, truth and prediction.
        legend: The classes.
        side: Small images are enlarged by a whole number until their longer side has this many pixels, so that
            outlines come out fine.

    Returns:
        uint8 RGB pictures of one size under "image", "truth", "prediction" and "error".
    """
    factor = _enlargement(example.rgb, side)
    rgb = _smooth(example.rgb, factor)
    truth, prediction = _repeat(example.truth, factor), _repeat(example.prediction, factor)
    valid = None if example.valid is None else _repeat(example.valid, factor)
    known = np.ones(rgb.shape[:2], np.bool_) if valid is None else valid
    drawn = [
        overlay(rgb, labels, legend, alpha=0.6 if legend.exclusive else 0.35, outline=not legend.exclusive)
        for labels in (truth, prediction)
    ]
    compared = [
        _as_ids(labels, legend) if legend.exclusive else layers(labels, legend) for labels in (truth, prediction)
    ]
    return {
        "image": rgb,
        "truth": hatch(drawn[0], ~known),
        "prediction": drawn[1],
        "error": error_map(compared[0], compared[1], valid=valid, rgb=rgb),
    }


def panel_key(legend: Legend) -> list[tuple[str, str]]:
    """Name the colours of `panels`: name and `#RRGGBB` of each class, then of each kind of error."""
    kinds = ERRORS if len(legend) > 1 else {kind: ERRORS[kind] for kind in list(ERRORS)[:3]}
    errors = [("wrong", WRONG)] if legend.exclusive else list(kinds.items())
    return [(entry.name, entry.colour) for entry in legend] + errors


# ---- sheets of pictures ----------------------------------------------------------------------------------------------


def comparison(
    rgb: npt.NDArray[np.uint8],
    truth: npt.NDArray[Any],
    prediction: npt.NDArray[Any],
    legend: Legend,
    *,
    valid: npt.NDArray[np.bool_] | None = None,
    title: str = "",
) -> Figure:
    """Draw image, truth, prediction and error side by side; the arguments are those of `Example`."""
    return comparison_sheet([Example(rgb, truth, prediction, valid, title)], legend)


def comparison_sheet(examples: Sequence[Example], legend: Legend, *, title: str = "") -> Figure:
    """Draw image, truth, prediction and error of several examples, one a row, as wide as an A4 page.

    Args:
        examples: The rows, of any sizes.
        legend: The classes.
        title: Title of the sheet.

    Returns:
        A figure for `save` or `png_bytes`.

    Raises:
        SettingError: If there is no example.
    """
    if not examples:
        msg = "Comparison must show at least one example, got none."
        raise SettingError(msg)
    ratios = [max(example.rgb.shape[0] / example.rgb.shape[1], 0.2) for example in examples]
    # Titles stand upright beside their rows, about 14 letters an inch, so a low row breaks its title more often.
    titles = [
        _wrapped(example.title, max(int(24 * min(ratio, 2)), 8))
        for example, ratio in zip(examples, ratios, strict=True)
    ]
    lines = max(len(title.splitlines()) for title in titles)
    panel = (SHEET - 0.1 - 0.15 * lines) / 4 - 0.06
    figure = _figure(SHEET, panel * sum(ratios) + 0.06 * len(ratios) + 0.26, title=title, key=panel_key(legend))
    axes = figure.subplots(len(examples), 4, squeeze=False, gridspec_kw={"height_ratios": ratios})
    for index, example in enumerate(examples):
        for axis, (name, picture) in zip(axes[index], panels(example, legend).items(), strict=True):
            _show(axis, picture)
            axis.set_title(name.capitalize() if index == 0 else "", fontsize=TEXT, color=INK, pad=4)
        axes[index, 0].set_ylabel(titles[index], fontsize=SMALL, color=INK)
    return figure


def window_sheet(
    images: Sequence[npt.NDArray[Any]],
    truths: Sequence[npt.NDArray[Any]],
    weights: Sequence[npt.NDArray[Any]],
    legend: Legend,
    *,
    columns: int = 4,
    bands: tuple[int, int, int] = (0, 1, 2),
    limits: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    title: str = "",
) -> Figure:
    """Draw training windows as a network gets them, with their masks; what has weight 0 is hatched.

    All windows are stretched alike, by their pixels that count, so that a change of brightness is seen.

    Args:
        images: `(height, width, bands)` each.
        truths: Class ids or masks each, as `layers` takes them.
        weights: Weight of each pixel in the loss, at least 0, `(height, width)` or `(height, width, 1)` each.
        legend: The classes.
        columns: Windows side by side.
        bands: Which bands are red, green and blue.
        limits: Values shown as black and white; percentiles over all windows if None, and 8-bit values as they are.
        title: Title of the sheet.

    Returns:
        A figure for `save` or `png_bytes`.

    Raises:
        SettingError: If there is no window.
    """
    if not len(images):
        msg = "Sheet must show at least one window, got none."
        raise SettingError(msg)
    if limits is None and images[0].dtype != np.uint8:
        chosen = list(bands) if images[0].shape[2] >= 3 else [0, 0, 0]
        counted = [np.asarray(weight).reshape(np.shape(weight)[:2]) > 0 for weight in weights]
        limits = value_range([np.asarray(image)[..., chosen] for image in images], valid=counted)
    tiles = []
    for image, truth, weight in zip(images, truths, weights, strict=True):
        rgb = stretch(np.asarray(image), bands=bands, limits=limits)
        factor = _enlargement(rgb, 1600 // columns)
        drawn = overlay(_smooth(rgb, factor), _repeat(np.asarray(truth), factor), legend, alpha=0.15)
        tiles.append(hatch(drawn, _repeat(np.asarray(weight).reshape(rgb.shape[:2]) <= 0, factor)))
    mosaic = _mosaic(tiles, min(columns, len(tiles)))
    key = [(entry.name, entry.colour) for entry in legend]
    figure = _figure(SHEET, SHEET * mosaic.shape[0] / mosaic.shape[1], title=title, key=key)
    _show(figure.subplots(), mosaic, frame=False)
    return figure


def polygons_over(
    rgb: npt.NDArray[np.uint8],
    polygons: Sequence[Polygon | MultiPolygon],
    ids: Sequence[int],
    legend: Legend,
    *,
    areas_m2: Sequence[float] | None = None,
    gsd_m: float | None = None,
    title: str = "",
) -> Figure:
    """Draw polygons over their image, with how many there are and how much ground they cover.

    Args:
        rgb: uint8, `(height, width, 3)`.
        polygons: In pixels `(column, row)` counted from the outer corner of the first pixel; holes stay open.
        ids: Class id of each polygon.
        legend: The classes.
        areas_m2: Area of each polygon in square metres; from `gsd_m` if None, and not shown without both.
        gsd_m: Side of a pixel in metres, which also gives a scale bar.
        title: Title of the picture.

    Returns:
        A figure for `save` or `png_bytes`.
    """
    height, width = rgb.shape[:2]
    if areas_m2 is None and gsd_m is not None:
        areas_m2 = [polygon.area * gsd_m**2 for polygon in polygons]
    chosen = [[at for at, id_ in enumerate(ids) if id_ == entry.id] for entry in legend]
    key = []
    for entry, drawn in zip(legend, chosen, strict=True):
        area = "" if areas_m2 is None else f" · {_area(sum(areas_m2[at] for at in drawn))}"
        key.append((f"{entry.name}: {len(drawn):,}{area}", entry.colour))
    across = min(SHEET, 8.5 * width / height)
    figure = _figure(max(across, 3.2), across * height / width, title=title, key=key)
    axis = figure.subplots()
    _show(axis, _at_most(rgb, 1600), extent=(0, width, height, 0))
    for entry, drawn in zip(legend, chosen, strict=True):
        _draw_polygons(axis, [polygons[at] for at in drawn], entry.colour)
    axis.set(xlim=(0, width), ylim=(height, 0))
    if gsd_m is not None:
        _scale_bar(axis, width, height, gsd_m)
    return figure


# ---- charts ----------------------------------------------------------------------------------------------------------


def learning_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Draw loss, IoU and learning rate over the epochs, with the best epoch marked.

    Args:
        history: Values an epoch under `loss` and, as far as there are any, a name with `iou` in it, both also with
            `val_` in front, and `learning_rate`; a dict of lists or a pandas frame. NaN leaves a gap.

    Returns:
        A figure for `save`, `png_bytes` or `svg_bytes`.

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
    figure = _figure(CHART, 0.75 * sum(ratios) + 0.25, key=key)
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    epochs = np.arange(1, len(series["loss"]) + 1)
    best = _best_epoch(series, overlap)
    for axis, (title, name) in zip(axes, shown.items(), strict=True):
        _curve(axis, epochs, series, str(name))
        _dress(axis, title)
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
        A figure for `save`, `png_bytes` or `svg_bytes`; a row without pixels stays blank.

    Raises:
        SettingError: If the matrix isn't square with a row a name.
    """
    counts = np.asarray(matrix, np.float64)
    if counts.shape != (len(names), len(names)):
        msg = f"Confusion matrix must have a row and a column for each of {len(names)} classes, got {counts.shape}."
        raise SettingError(msg)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    side = min(max(0.62 * len(names), 2.2), 6.0)
    figure = _figure(side + 1.6, side + 1.1)
    axis = figure.subplots()
    axis.pcolormesh(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1)
    _label_cells(axis, counts, shares, cell=72 * side / len(names))
    ticks = np.arange(len(names)) + 0.5
    axis.set(aspect="equal", ylim=(len(names), 0))
    axis.set_xticks(ticks, [_wrapped(name, 16) for name in names], rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, [_wrapped(name, 16) for name in names])
    axis.tick_params(length=0, labelsize=SMALL + 0.5, colors=INK)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("Predicted", fontsize=TEXT, color=INK)
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
        A figure for `save`, `png_bytes` or `svg_bytes`.

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
    figure = _figure(CHART, len(table) * max(0.2 * len(kinds), 0.3) + 0.5, key=key)
    axis = figure.subplots()
    for at, (name, row) in enumerate(table.items()):
        for index, kind in enumerate(kinds):
            value, centre = row.get(kind, math.nan), at + (index - (len(kinds) - 1) / 2) * thick
            fill = fills.get(kind if kind in fills else name, TRAINING)
            axis.barh(centre, 0 if math.isnan(value) else value, height=thick * 0.86, color=fill)
            text = "no pixels" if math.isnan(value) else f"{value:.3f}"
            axis.text(0.012 + (0 if math.isnan(value) else value), centre, text, va="center", fontsize=SMALL, color=INK)
    axis.set_yticks(range(len(table)), [_wrapped(name, 22) for name in table])
    axis.set(xlim=(0, 1.14), ylim=(len(table) - 0.5, -0.5), xticks=np.linspace(0, 1, 6))
    _dress(axis, "")
    axis.grid(visible=False, axis="y")
    return figure


# ---- files -----------------------------------------------------------------------------------------------------------


def png_bytes(figure: Figure, *, dpi: int = 200) -> bytes:
    """Render a figure as PNG, on white."""
    return _rendered(figure, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})


def svg_bytes(figure: Figure) -> bytes:
    """Render a chart as SVG without a background, whose ink turns light where the page is dark.

    Meant for charts: images inside would be stored as PNG.
    """
    text = _rendered(figure, format="svg", transparent=True, metadata={"Date": None, "Creator": None}).decode()
    style = (
        f"<style>:root{{--ink:{INK};--grid:{GRID}}}"
        f"@media (prefers-color-scheme:dark){{:root{{--ink:{DARK_INK};--grid:{DARK_GRID}}}}}</style>"
    )
    text = text.replace(INK, "var(--ink)").replace(GRID, "var(--grid)")
    head, opening, rest = text.partition("<defs>")
    return f"{head}{style.replace('var(--ink)', INK)}{opening}{rest}".encode()


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 200) -> None:
    """Write a figure as SVG or PNG, by the name's ending; a half-written file never bears the name."""
    path = Path(path)
    content = svg_bytes(figure) if path.suffix.lower() == ".svg" else png_bytes(figure, dpi=dpi)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# ---- parts -----------------------------------------------------------------------------------------------------------


def _rendered(figure: Figure, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that matplotlib's font lacks is drawn as boxes: no reason to end a training run.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, **settings)
    return buffer.getvalue()


def _known(image: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
    """True where a pixel has a value in all bands."""
    known: npt.NDArray[np.bool_] = np.ones(image.shape[:2], np.bool_) if valid is None else np.asarray(valid, np.bool_)
    if image.dtype.kind == "f":
        known = known & np.isfinite(image).all(axis=-1)
    return known


def _scale(image: npt.NDArray[Any], low: npt.NDArray[Any], high: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bring low … high to 0 … 255; a band that is flat comes out mid-grey."""
    flat = high <= low
    scaled = (np.nan_to_num(image.astype(np.float64)) - low) / np.where(flat, 1, high - low)
    shown: npt.NDArray[np.uint8] = np.rint(np.clip(np.where(flat, 0.5, scaled), 0, 1) * 255).astype(np.uint8)
    return shown


def _checker(height: int, width: int) -> npt.NDArray[np.uint8]:
    """The light checkerboard that stands for nothing, uint8 `(height, width, 3)`."""
    side = max(max(height, width) // 48, 2)
    rows, columns = np.ogrid[:height, :width]
    grey: npt.NDArray[np.uint8] = np.where((rows // side + columns // side) % 2, 204, 232).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _rgb(colour: str) -> tuple[int, int, int]:
    value = int(colour[1:], 16)
    return value >> 16, value >> 8 & 255, value & 255


def _dimmed(rgb: npt.NDArray[np.uint8] | None, height: int, width: int) -> npt.NDArray[np.uint8]:
    """The image in dark grey, or plain dark grey without one."""
    if rgb is None:
        return np.full((height, width, 3), 64, np.uint8)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) // 3 + 14
    return np.repeat(grey[..., None], 3, axis=2)


def _inner_edge(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The rim of a mask, inside it; none along the image's edge, where the object may go on."""
    wide = max(round(max(mask.shape) / 320), 1)
    kernel = np.ones((2 * wide + 1, 2 * wide + 1), np.uint8)
    inside = cv2.erode(mask.astype(np.uint8), kernel)
    return np.asarray(mask & (inside == 0), np.bool_)


def _enlargement(rgb: npt.NDArray[np.uint8], side: int) -> int:
    """How many times larger an image must be for its longer side to reach `side`."""
    return max(-(-side // int(max(rgb.shape[:2]))), 1)


def _smooth(rgb: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    if factor == 1:
        return rgb
    larger: npt.NDArray[np.uint8] = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return larger


def _repeat(array: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    return np.repeat(np.repeat(array, factor, axis=0), factor, axis=1)


def _as_ids(labels: npt.NDArray[Any], legend: Legend) -> npt.NDArray[Any]:
    """Class ids of exclusive labels; where a pixel has no class, nodata."""
    if labels.ndim == 2:
        return labels
    masks = layers(labels, legend)
    return np.where(masks.any(axis=-1), np.asarray(legend.ids)[masks.argmax(axis=-1)], legend.nodata)


def _at_most(rgb: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Shrink what is larger than can be seen."""
    factor = side / max(rgb.shape[:2])
    if factor >= 1:
        return rgb
    shrunk: npt.NDArray[np.uint8] = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return shrunk


def _mosaic(tiles: Sequence[npt.NDArray[np.uint8]], columns: int) -> npt.NDArray[np.uint8]:
    """Set tiles side by side on white, with a gap."""
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    gap = max(width // 32, 2)
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def _figure(width: float, height: float, *, title: str = "", key: Sequence[tuple[str, str]] = ()) -> Figure:
    """Begin a figure with a body of the given inches, and room for a title above and the colours' names below."""
    from matplotlib.figure import Figure

    rows = -(-len(key) // _key_columns(width, key)) if key else 0
    size = (width, height + 0.3 * bool(title) + (0.1 + 0.19 * rows if rows else 0))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)  # type: ignore[union-attr, call-arg]
    _finish(figure, title, key)
    return figure


def _key_columns(width: float, key: Sequence[tuple[str, str]]) -> int:
    """How many names of colours fit side by side."""
    longest = max(len(name) for name, _ in key)
    return min(max(int(width * 72 / (SMALL * (0.56 * longest + 3.2))), 1), len(key))


def _plain(text: str) -> str:
    """Keep matplotlib from reading a name as mathematics, or from hiding it because it starts with `_`."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def _wrapped(text: str, width: int) -> str:
    """Break long lines, keeping the breaks that are there."""
    return _plain("\n".join(textwrap.fill(line, width) for line in text.splitlines()))


def _show(axis: Axes, rgb: npt.NDArray[np.uint8], *, frame: bool = True, **settings: Any) -> None:
    axis.imshow(rgb, **settings)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(visible=frame, color=BEST, linewidth=0.5)


def _finish(figure: Figure, title: str, key: Sequence[tuple[str, str]]) -> None:
    """Put the title above, and the colours with their names below, in as many columns as fit."""
    from matplotlib.patches import Patch

    if title:
        figure.suptitle(_wrapped(title, int(figure.get_figwidth() * 11)), fontsize=TEXT + 1.5, color=INK)
    patches = [Patch(facecolor=colour, edgecolor=BEST, linewidth=0.5, label=_plain(name)) for name, colour in key]
    if not key:
        return
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=_key_columns(figure.get_figwidth(), key),
        fontsize=SMALL,
        frameon=False,
        labelcolor=INK,
        handlelength=1.2,
        columnspacing=1.2,
        borderaxespad=0.1,
    )


def _dress(axis: Axes, title: str) -> None:
    """Give a chart a light grid, two spines and quiet ticks."""
    axis.set_title(title, fontsize=TEXT, color=INK, loc="left", fontweight="bold", pad=4)
    axis.grid(color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(BEST)
    axis.tick_params(labelsize=SMALL, labelcolor=INK, color=BEST, length=3)


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


def _label_cells(axis: Axes, counts: npt.NDArray[Any], shares: npt.NDArray[Any], *, cell: float) -> None:
    """Write share and count into each cell, `cell` points wide, white on dark; only shares where cells are small."""
    size = max(min(SMALL, cell / 4.5), 4)
    for row in np.flatnonzero(np.isnan(shares).all(axis=1)):
        axis.text(len(counts) / 2, row + 0.5, "no pixels", ha="center", va="center", fontsize=max(size, 6), color=INK)
    for row, column in np.argwhere(~np.isnan(shares)):
        share, count = float(shares[row, column]), float(counts[row, column])
        text = f"{share:.1%}\n{_short(count)}" if count else "0"
        if cell < 34:
            text = f"{share:.0%}" if share >= 0.005 else ""
        colour = "#fffffe" if share > 0.55 else "#20242a"
        axis.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=colour)


def _short(count: float) -> str:
    """Write a count in at most four or five signs."""
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}" if count < 999.5 * unit else f"{count / unit:,.0f}{name}"
    return f"{count:,.0f}"


def _area(square_metres: float) -> str:
    if square_metres < 10_000:
        return f"{square_metres:,.0f} m²"
    return f"{square_metres / 1e4:,.2f} ha" if square_metres < 1e6 else f"{square_metres / 1e6:,.2f} km²"


def _draw_polygons(axis: Axes, polygons: Sequence[Any], colour: str) -> None:
    """Draw all polygons of a class as one collection, holes left open."""
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_rgba
    from matplotlib.path import Path as Outline

    outlines = []
    for polygon in polygons:
        rings = [
            np.asarray(ring.coords)[:, :2]
            for part in getattr(polygon, "geoms", [polygon])
            for ring in (part.exterior, *part.interiors)
            if len(ring.coords)
        ]
        if rings:
            outlines.append(Outline.make_compound_path(*(Outline(ring, closed=True) for ring in rings)))
    wide = 1.1 if len(outlines) < 400 else 0.7
    faces = to_rgba(colour, 0.2)
    axis.add_collection(PathCollection(outlines, facecolors=[faces], edgecolors=[colour], linewidths=wide))


def _scale_bar(axis: Axes, width: int, height: int, gsd_m: float) -> None:
    """Draw a bar of a round length, about a fifth of the width, in the lower left corner."""
    from matplotlib.patheffects import withStroke

    target = width * gsd_m / 5
    unit = 10.0 ** math.floor(math.log10(target))
    metres = unit * max(step for step in (1, 2, 5) if step * unit <= target)
    left, bottom, across = width * 0.03, height - width * 0.03, metres / gsd_m
    casing = [withStroke(linewidth=4, foreground="#00000099")]
    axis.plot(
        [left, left + across], [bottom] * 2, color="white", linewidth=2, path_effects=casing, solid_capstyle="butt"
    )
    text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    axis.text(
        left + across / 2, bottom - width * 0.012, text, color="white", ha="center", va="bottom", fontsize=SMALL,
        path_effects=[withStroke(linewidth=2, foreground="#000000AA")],
    )  # fmt: skip
