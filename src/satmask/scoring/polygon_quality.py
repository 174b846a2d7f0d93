"""How well a predicted polygon draws its object: vertices, distances and directions of outlines."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from satmask.errors import SettingError

MEASURES = ("c_iou", "polis", "max_tangent_angle")
# As published: points every two pixels; steps that the other outline stretches or shrinks more than twice don't count.
SPACING = 2.0
MOST_STRETCH = 2.0


def c_iou(truth: BaseGeometry, predicted: BaseGeometry) -> float:
    """IoU that falls with the difference in numbers of vertices: IoU · (1 − |Nₚ − Nₜ| / (Nₚ + Nₜ)).

    The paper takes all polygons of an image together; here it is one polygon and its match.

    Args:
        truth: A valid polygon or multipolygon that has an area.
        predicted: The same.

    Returns:
        0 to 1; 1 for equal shapes with equally many vertices.

    Examples:
        >>> square, octagon = shapely.box(0, 0, 2, 2), shapely.segmentize(shapely.box(0, 0, 2, 2), 1)
        >>> c_iou(square, square), round(c_iou(square, octagon), 4)
        (1.0, 0.6667)

    References:
        Zorzi et al., "PolyWorld", 2022, https://arxiv.org/abs/2111.15491
    """
    shared = shapely.area(shapely.intersection(truth, predicted))
    whole = shapely.area(truth) + shapely.area(predicted) - shared
    there, said = (len(_vertices(side)) for side in (truth, predicted))
    return float(shared / whole * (1 - abs(there - said) / (there + said)))


def polis(truth: BaseGeometry, predicted: BaseGeometry) -> float:
    """PoLiS: the mean distance of each polygon's vertices to the other's outline, and of these two the mean.

    Args:
        truth: A polygon or multipolygon.
        predicted: The same.

    Returns:
        In units of the coordinates, 0 or more; 0 for equal polygons.

    Examples:
        >>> polis(shapely.box(0, 0, 4, 4), shapely.box(1, 0, 5, 4))
        0.5

    References:
        Avbelj, Müller & Bamler, "A Metric for Polygon Comparison and Building Extraction Evaluation", 2015, equation 4,
        https://doi.org/10.1109/LGRS.2014.2330695
    """
    ways = [
        shapely.distance(shapely.points(_vertices(one)), shapely.boundary(other)).mean()
        for one, other in ((truth, predicted), (predicted, truth))
    ]
    return float(np.mean(ways))


def max_tangent_angle(truth: BaseGeometry, predicted: BaseGeometry, *, spacing: float = SPACING) -> float:
    """The largest angle between the predicted outline and the part of the true outline next to it.

    The sides of the predicted outline are cut into steps of about `spacing`. The ends of each step are moved to the
    nearest points of the true outline; the angle between the step and the moved step is its error. Steps that shrink to
    nothing, or whose length changes by more than a factor of two, lie around corners and don't count.

    Args:
        truth: A polygon or multipolygon.
        predicted: The same.
        spacing: About the length of a step, in units of the coordinates.

    Returns:
        Degrees, 0 to 90; NaN where no step counts.

    Raises:
        SettingError: If the spacing isn't above 0.

    Examples:
        >>> house = shapely.box(0, 0, 40, 40)
        >>> cut = shapely.Polygon([(0, 0), (30, 0), (40, 10), (40, 40), (0, 40)])
        >>> max_tangent_angle(house, house), round(max_tangent_angle(house, cut), 6)
        (0.0, 45.0)

    References:
        Girard et al., "Polygonal Building Extraction by Frame Field Learning", 2021, https://arxiv.org/abs/2004.14875
    """
    if not spacing > 0:
        msg = f"Spacing must be above 0, got {spacing!r}. Use 2."
        raise SettingError(msg)
    outline = shapely.boundary(truth)
    cosines = [_cosines(shapely.get_coordinates(ring), outline, spacing) for ring in _rings(predicted)]
    known = np.concatenate([np.empty(0), *cosines])
    return float(np.degrees(np.arccos(min(known.min(), 1.0)))) if len(known) else float("nan")


def _cosines(ring: np.ndarray, outline: BaseGeometry, spacing: float) -> np.ndarray:
    """The cosine between each step of a ring and the same step moved to an outline, where that counts."""
    points = _sampled(ring, spacing)
    here = shapely.points(points)
    nearest = shapely.get_coordinates(shapely.shortest_line(here, outline))[1::2]
    steps, moved = np.diff(points, axis=0), np.diff(nearest, axis=0)
    lengths, moved_lengths = (np.linalg.norm(side, axis=1) for side in (steps, moved))
    counted = (moved_lengths > lengths / MOST_STRETCH) & (moved_lengths < lengths * MOST_STRETCH)
    products = np.abs((steps * moved).sum(axis=1)[counted])
    return np.asarray(products / (lengths * moved_lengths)[counted])


def _sampled(ring: np.ndarray, spacing: float) -> np.ndarray:
    """Points on a closed ring: its vertices, and on each side as many more as make steps of about a length."""
    sides = np.diff(ring, axis=0)
    counts = np.maximum(np.rint(np.linalg.norm(sides, axis=1) / spacing), 1).astype(np.int64)
    side = np.repeat(np.arange(len(sides)), counts)
    share = (np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[side]
    return np.concatenate([ring[side] + share[:, None] * sides[side], ring[-1:]])


def _rings(geometry: BaseGeometry) -> list[BaseGeometry]:
    return [ring for part in shapely.get_parts(geometry) for ring in shapely.get_rings(part)]


def _vertices(geometry: BaseGeometry) -> np.ndarray:
    """Vertices of all rings, each once, `(vertices, 2)`: shapely repeats the first at the end."""
    return np.concatenate([shapely.get_coordinates(ring)[:-1] for ring in _rings(geometry)])
