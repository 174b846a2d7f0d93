"""Findings: objects and windows to look at, the worst first, with their places on the map."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np

from satmask.errors import DataError
from satmask.grid import Grid
from satmask.sample_objects import LARGEST, MOST
from satmask.scoring.comparisons import Comparison, Masks, find_objects
from satmask.scoring.object_list import MATCHED, ListedObject, list_objects
from satmask.scoring.rasters import windows_of
from satmask.viewing.counting import CELL, Counts
from satmask.viewing.outlines import outlines_of
from satmask.viewing.shelf import Place
from satmask.windows import Window

Order = Literal["missed", "invented", "wrong", "uncertainty"]


@dataclass(frozen=True)
class Finding:
    """Something to look at.

    Attributes:
        kind: "missed", "invented" or another kind of error of `satmask.scoring.objects`, "matched", "unsure", "window", or
            "label" of a window where labels would help.
        class_name: Its class; empty where it is a window.
        area_px: Its area; of a window, the pixels that are wrong.
        area_m2: The same on the ground; None where a pixel's size isn't known.
        iou: How well it was drawn, 0 to 1; None where nothing is known.
        certainty: Mean probability of its class, or of a window 1 less its mean uncertainty, 0 to 1; None where unknown.
        box: South and west, north and east, in map coordinates.
        point: A point inside it, in map coordinates.
        wrong_px: Pixels by which it is worse than it might be: what findings are sorted by.
        novelty: How unlike all that is labelled it looks; None where that wasn't asked.
    """

    kind: str
    class_name: str
    area_px: float
    area_m2: float | None
    iou: float | None
    certainty: float | None
    box: tuple[tuple[float, float], tuple[float, float]]
    point: tuple[float, float]
    wrong_px: float
    novelty: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def find_wrong(place: Place, comparison: Comparison) -> list[Finding]:
    """List every object that isn't right, by how many pixels it is wrong, the worst first.

    Of an object that was found in some way these are (1 − IoU) times its area, else all of it. What is listed of the
    truth isn't listed once more of the prediction.

    Args:
        place: The place.
        comparison: Its prediction and truth.

    Returns:
        The objects.

    Raises:
        DataError: If the scene is too large for its objects to be known at once, or holds too many groups of pixels.
    """
    pixels = place.grid.height * place.grid.width * len(comparison.legend)
    if pixels > LARGEST:
        msg = f"Scene whose objects are listed must have at most {LARGEST:,} pixels times classes, got {pixels:,}."
        raise DataError(msg)
    with comparison.reader() as (grid, read):
        _check_groups(grid, read)
        listed = list_objects(*find_objects(grid, read, comparison), comparison.legend)
    kept = [one for one in listed if (one.side == "truth" and one.iou < 1) or one.kind == "invented"]
    found = [_of_object(place, one) for one in kept]
    return sorted(found, key=lambda one: -one.wrong_px)


def _check_groups(grid: Grid, read: Callable[[Window], Masks]) -> None:
    """Refuse what is hardly more than specks: listing them takes minutes, and nobody learns anything from them."""
    groups = 0
    for window in windows_of(grid):
        masks = read(window)
        layers = [
            np.ascontiguousarray(side[..., at], np.uint8)
            for side in (masks.truth, masks.predicted)
            for at in range(side.shape[-1])
        ]
        groups += sum(cv2.connectedComponents(layer, connectivity=4)[0] - 1 for layer in layers)
    if groups > MOST:
        msg = f"Objects that are listed must be at most {MOST:,} groups of pixels, got {groups:,}."
        raise DataError(msg)


def find_unsure(place: Place) -> list[Finding]:
    """List predicted polygons by their mean probability, the least certain first; none without such polygons."""
    layer = place.first("polygons")
    outlines = outlines_of(place.view, layer) if layer is not None else None
    if layer is None or outlines is None or "mean_probability" not in outlines.rows.columns:
        return []
    said = outlines.rows["mean_probability"].to_numpy(np.float64)
    names = layer.legend.names if layer.legend else ()
    found = []
    for number in np.argsort(said, kind="stable"):
        if np.isfinite(said[number]):
            shape, channel = outlines.shapes[number], int(outlines.channels[number])
            name = names[channel] if names and channel >= 0 else ""
            inner = shape.representative_point()
            found.append(
                placed(place, "unsure", name, bounds=shape.bounds, inner=(inner.x, inner.y), area_px=shape.area)
                | {"iou": None, "certainty": float(said[number]), "wrong_px": float((1 - said[number]) * shape.area)}
            )
    return [Finding(**about) for about in found]


def find_windows(place: Place, counts: Counts, by: Order) -> list[Finding]:
    """List windows of 256 × 256 pixels, the worst first; none where it isn't known what is wrong in them."""
    measures: dict[Order, Callable[[], np.ndarray | None]] = {
        "missed": lambda: counts.missed,
        "invented": lambda: counts.invented,
        "wrong": lambda: None if counts.missed is None else counts.missed + counts.invented,
        "uncertainty": lambda: counts.uncertainty,
    }
    values = measures[by]()
    if values is None:
        return []
    wrong = np.zeros(values.shape) if counts.missed is None else counts.missed + counts.invented
    found = []
    for row, column in zip(
        *np.unravel_index(np.argsort(-np.nan_to_num(values), axis=None, kind="stable"), values.shape), strict=True
    ):
        if np.nan_to_num(values[row, column]) <= 0:
            break
        top, left = row * CELL, column * CELL
        bottom, right = min(top + CELL, place.grid.height), min(left + CELL, place.grid.width)
        unsure = None if counts.uncertainty is None else float(counts.uncertainty[row, column])
        about = placed(
            place, "window", "", bounds=(left, top, right, bottom), inner=((left + right) / 2, (top + bottom) / 2),
            area_px=float(wrong[row, column]),
        )  # fmt: skip
        certainty = None if unsure is None or np.isnan(unsure) else 1 - unsure
        found.append(Finding(**about, iou=None, certainty=certainty, wrong_px=float(wrong[row, column])))
    return found


def choose(
    findings: Collection[Finding],
    *,
    classes: Collection[str] = (),
    kinds: Collection[str] = (),
    min_area_px: float = 0,
    max_area_px: float | None = None,
) -> list[Finding]:
    """The findings of some classes, kinds and sizes, in their order; all classes and kinds where none is named."""
    return [
        one
        for one in findings
        if (not classes or one.class_name in classes)
        and (not kinds or one.kind in kinds)
        and one.area_px >= min_area_px
        and (max_area_px is None or one.area_px <= max_area_px)
    ]


def _of_object(place: Place, one: ListedObject) -> Finding:
    about = placed(place, one.kind, one.name, bounds=one.bounds, inner=(one.column, one.row), area_px=one.area_px)
    wrong = one.area_px * (1 - one.iou) if one.kind == MATCHED or one.iou else one.area_px
    return Finding(**about, iou=one.iou, certainty=None, wrong_px=wrong)


def placed(
    place: Place,
    kind: str,
    class_name: str,
    *,
    bounds: tuple[float, float, float, float],
    inner: tuple[float, float],
    area_px: float,
) -> dict[str, Any]:
    """What all findings say, of bounds and a point in pixel coordinates."""
    left, top, right, bottom = bounds
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), inner]
    points = place.view.to_map(np.array(corners))
    (west, south), (east, north) = points[:4].min(axis=0).tolist(), points[:4].max(axis=0).tolist()
    gsd_m = place.grid.gsd_m
    return {
        "kind": kind,
        "class_name": class_name,
        "area_px": area_px,
        "area_m2": None if gsd_m is None else area_px * gsd_m**2,
        "box": ((south, west), (north, east)),
        "point": tuple(points[4].tolist()),
    }
