"""Objects one by one: what became of each true and each predicted one, and which are worst, with their places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import shapely
from affine import Affine
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from satmask.grid import Grid
from satmask.legend import Legend
from satmask.scoring.matching import find_overlaps, match
from satmask.scoring.objects import ERRORS, kinds_of_errors

Side = Literal["truth", "prediction"]
Kinds: TypeAlias = dict[str, dict[str, tuple[int, int]]]
MATCHED, INVENTED = "matched", "invented"
# What `worst` finds, and what is told of it.
RANKINGS = {
    "missed": "True objects that were missed, the largest first.",
    "invented": "Predicted objects that aren't there, the largest first.",
    "badly drawn": "True objects that were found in some way: those with most area wrong first, (1 − IoU) times their area.",
}


@dataclass(frozen=True)
class ListedObject:
    """An object and what became of it.

    Attributes:
        name: Its class.
        side: Whether it is a true or a predicted one.
        kind: "matched" where it has a partner with an IoU of 0.5 or more, else its kind of error, see
            `satmask.scoring.objects`; what is "missed" on the side of the truth is "invented" on the other.
        iou: The highest IoU with an object of the other side; 0 where it meets none.
        area_px: Its area in pixels.
        bounds: Left, top, right and bottom in pixels.
        column: A point inside it, in pixels from the left.
        row: The same point from the top.
    """

    name: str
    side: Side
    kind: str
    iou: float
    area_px: float
    bounds: tuple[float, float, float, float]
    column: float
    row: float


def list_objects(
    truth: Mapping[int, Sequence[BaseGeometry]], predicted: Mapping[int, Sequence[BaseGeometry]], legend: Legend
) -> list[ListedObject]:
    """List every object of an image once, with what became of it.

    Args:
        truth: True objects by class id: valid polygons or multipolygons in pixel coordinates.
        predicted: Predicted objects by class id.
        legend: The classes; objects of other ids aren't listed.

    Returns:
        The objects, class by class, the true ones first.

    Examples:
        >>> house, shed = shapely.box(0, 0, 8, 8), shapely.box(20, 0, 22, 2)
        >>> [(one.side, one.kind) for one in list_objects({1: [house, shed]}, {1: [house]}, Legend.of(["house"]))]
        [('truth', 'matched'), ('truth', 'missed'), ('prediction', 'matched')]
    """
    listed: list[ListedObject] = []
    for id_, name in zip(legend.ids, legend.names, strict=True):
        sides = [np.asarray([*side.get(id_, ()), None], dtype=object)[:-1] for side in (truth, predicted)]
        overlaps = find_overlaps(*sides)
        errors = kinds_of_errors(overlaps, overlaps.pairs[match(overlaps)])
        for place, (shapes, kinds) in enumerate(zip(sides, errors, strict=True)):
            best = np.zeros(len(shapes))
            np.maximum.at(best, overlaps.pairs[:, place], overlaps.iou)
            listed += _described(name, place, shapes, np.column_stack([kinds, best]))
    return listed


def _described(name: str, place: int, shapes: np.ndarray, found: np.ndarray) -> list[ListedObject]:
    points = shapely.get_coordinates(shapely.point_on_surface(shapes))
    side: Side = "prediction" if place else "truth"
    return [
        ListedObject(name, side, _kind(int(kind), side), iou, area, (box[0], box[1], box[2], box[3]), *point)
        for (kind, iou), area, box, point in zip(
            found.tolist(),
            shapely.area(shapes).tolist(),
            shapely.bounds(shapes).reshape(-1, 4).tolist(),
            points.tolist(),
            strict=True,
        )
    ]


def _kind(place: int, side: Side) -> str:
    kind = ERRORS[place] if place >= 0 else MATCHED
    return INVENTED if kind == "missed" and side == "prediction" else kind


def count_kinds(objects: Iterable[ListedObject], legend: Legend) -> Kinds:
    """Count true and predicted objects of each kind; together they are all objects.

    Args:
        objects: The objects.
        legend: Their classes.

    Returns:
        By class name and kind: "matched" and those of `satmask.scoring.objects.ERRORS`, under "missed" also what was
        invented.
    """
    counts = {name: {kind: [0, 0] for kind in (MATCHED, *ERRORS)} for name in legend.names}
    for one in objects:
        counts[one.name]["missed" if one.kind == INVENTED else one.kind][one.side == "prediction"] += 1
    return {name: {kind: (true, said) for kind, (true, said) in found.items()} for name, found in counts.items()}


def worst(
    objects: Mapping[str, Sequence[ListedObject]], *, count: int = 10
) -> dict[str, list[tuple[str, ListedObject]]]:
    """Find the objects that are furthest from right.

    Args:
        objects: Objects by the name of their image.
        count: How many of each ranking at most.

    Returns:
        Image and object, worst first, under the names of `RANKINGS`. What is badly drawn has an IoU below 1.
    """
    every = [(image, one) for image, listed in objects.items() for one in listed]
    found = {
        kind: sorted(
            (pair for pair in every if pair[1].kind == kind), key=lambda pair: (-pair[1].area_px, *_place(pair))
        )
        for kind in ("missed", INVENTED)
    }
    drawn = [pair for pair in every if pair[1].side == "truth" and pair[1].kind != "missed" and pair[1].iou < 1]
    # By IoU alone, slivers at the edge of an image would come before all houses.
    found["badly drawn"] = sorted(drawn, key=lambda pair: ((pair[1].iou - 1) * pair[1].area_px, *_place(pair)))
    return {name: found[name][:count] for name in RANKINGS}


def _place(pair: tuple[str, ListedObject]) -> tuple[str, float, float]:
    return pair[0], pair[1].row, pair[1].column


def locate(one: ListedObject, grid: Grid) -> dict[str, Any]:
    """Say where an object is and how large, as plain values for JSON.

    Args:
        one: The object.
        grid: The grid of its image.

    Returns:
        `class`, `kind`, `iou`, `area_px`, `area_m2` (None where a pixel's size isn't known), `column` and `row`, and `x`, `y`
        and `crs`, None where the image has no place on the ground.
    """
    x, y = grid.transform @ (one.column, one.row) if grid.crs is not None else (None, None)
    return {
        "class": one.name,
        "kind": one.kind,
        "iou": one.iou,
        "area_px": one.area_px,
        "area_m2": None if grid.gsd_m is None else one.area_px * grid.gsd_m**2,
        "column": one.column,
        "row": one.row,
        "x": x,
        "y": y,
        "crs": None if grid.crs is None else _named(grid.crs),
    }


def placed(grid: Grid, bounds: tuple[float, float, float, float] | None) -> Grid:
    """Place an image that lies nowhere by its bounds, where those are known.

    Args:
        grid: The image's grid; it stays as it is where it has a CRS.
        bounds: West, south, east and north in degrees.
    """
    if grid.crs is not None or bounds is None:
        return grid
    west, south, east, north = bounds
    step = Affine((east - west) / grid.width, 0, west, 0, (south - north) / grid.height, north)
    return Grid(grid.height, grid.width, step, CRS("OGC:CRS84"))


def _named(crs: CRS) -> str:
    """Its code, or what it is called where it has none."""
    code = crs.to_authority()
    return ":".join(code) if code else str(crs.name)
