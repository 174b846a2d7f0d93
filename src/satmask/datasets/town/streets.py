"""Bent grids of streets, and the ground between them. Metres, y downwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon, box

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True)
class Frame:
    """A rectangle turned into the direction of what it holds.

    Attributes:
        x: Middle, in metres.
        y: Middle, in metres.
        angle: Direction of the long side, in radians from x towards y.
        length: Along `angle`, in metres.
        width: Across, in metres.
    """

    x: float
    y: float
    angle: float
    length: float
    width: float

    def point(self, along: float, across: float) -> tuple[float, float]:
        """The place at a distance from the middle, along and across."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return float(self.x + along * cosine - across * sine), float(self.y + along * sine + across * cosine)

    def rectangle(self, along: tuple[float, float], across: tuple[float, float]) -> Polygon:
        """The rectangle between two distances along and two across."""
        (left, right), (top, bottom) = along, across
        return Polygon([self.point(*at) for at in ((left, top), (right, top), (right, bottom), (left, bottom))])


def frame_of(polygon: Polygon) -> Frame:
    """The smallest turned rectangle around a polygon."""
    corners = shapely.get_coordinates(shapely.oriented_envelope(polygon))
    first, second = corners[1] - corners[0], corners[2] - corners[1]
    sides = float(np.hypot(*first)), float(np.hypot(*second))
    along = first if sides[0] >= sides[1] else second
    x, y = corners[:4].mean(axis=0)
    return Frame(float(x), float(y), float(np.arctan2(along[1], along[0])), max(sides), min(sides))


def bent_grid(
    random: np.random.Generator, area: BaseGeometry, *, spacing_m: tuple[float, float], angle: float, bend_m: float
) -> list[LineString]:
    """Draw two families of lines, about at right angles, that wave gently.

    Args:
        random: Where chance comes from.
        area: What the lines have to cross.
        spacing_m: Mean distance between the lines of each family.
        angle: Direction of the first family, in radians.
        bend_m: How far lines stray from straight.

    Returns:
        The lines, longer than the area.
    """
    left, top, right, bottom = area.bounds
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    reach = float(np.hypot(right - left, bottom - top)) / 2 + 40
    waves, phases = random.uniform(220, 520, 2), random.uniform(0, 2 * np.pi, 2)
    along = np.arange(-reach, reach + 10, 10)
    cosine, sine = np.cos(angle), np.sin(angle)
    lines = []
    for family, step in enumerate(spacing_m):
        at = -reach - random.uniform(0, step)
        while at < reach:
            across = np.full_like(along, at)
            u, v = (along, across) if family == 0 else (across, along)
            bent_u = u + bend_m * np.sin(2 * np.pi * v / waves[0] + phases[0])
            bent_v = v + bend_m * np.sin(2 * np.pi * u / waves[1] + phases[1])
            x = middle_x + bent_u * cosine - bent_v * sine
            y = middle_y + bent_u * sine + bent_v * cosine
            lines.append(LineString(np.column_stack([x, y])))
            at += step * random.uniform(0.75, 1.3)
    return lines


def mitred(geometry: BaseGeometry, distance_m: float) -> BaseGeometry:
    """Grow a shape, or shrink it, and keep its corners sharp."""
    return geometry.buffer(distance_m, join_style="mitre", mitre_limit=2.0)


def polygons_of(geometry: BaseGeometry | None) -> list[Polygon]:
    """The polygons inside any geometry; points and lines fall away."""
    if geometry is None or geometry.is_empty:
        return []
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return [part for part in parts if isinstance(part, Polygon) and not part.is_empty]


def lines_of(geometry: BaseGeometry) -> list[LineString]:
    """The lines inside any geometry."""
    return [part for part in shapely.get_parts(shapely.get_parts(geometry)) if isinstance(part, LineString)]


def faces(area: Polygon, lines: Iterable[LineString]) -> list[Polygon]:
    """Cut an area along lines."""
    network = shapely.union_all([area.exterior, *lines])
    inside = shapely.get_parts(shapely.polygonize(shapely.get_parts(network)))
    return [face for face in inside if area.contains(face.representative_point())]


def wandering(
    random: np.random.Generator, area: BaseGeometry, *, width_m: float, angle: float, offset_m: float
) -> Polygon:
    """Draw a band that crosses an area in bends and changes its width: a river."""
    left, top, right, bottom = area.bounds
    reach = float(np.hypot(right - left, bottom - top)) / 2 + 60
    along = np.arange(-reach, reach + 6, 6)
    waves, phases = random.uniform((180, 60), (420, 110)), random.uniform(0, 2 * np.pi, 4)
    across = offset_m + 26 * np.sin(2 * np.pi * along / waves[0] + phases[0])
    across += 6 * np.sin(2 * np.pi * along / waves[1] + phases[1])
    half = width_m / 2 * (1 + 0.25 * np.sin(along / 37 + phases[2]) + 0.12 * np.sin(along / 11 + phases[3]))
    u, v = np.concatenate([along, along[::-1]]), np.concatenate([across - half, (across + half)[::-1]])
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = (left + right) / 2 + u * cosine - v * sine, (top + bottom) / 2 + u * sine + v * cosine
    whole = Polygon(np.column_stack([x, y])).buffer(0).intersection(box(*area.bounds))
    return max(polygons_of(whole), key=lambda part: part.area, default=Polygon())


def blob(random: np.random.Generator, x: float, y: float, radius_m: float, *, points: int = 18) -> Polygon:
    """Draw a round shape with an uneven edge: a pond, a spot of soil, a crown."""
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radii = np.full(points, radius_m)
    for wave in (2, 3, 5):
        radii *= 1 + 0.28 / wave * random.uniform(0.3, 1) * np.sin(wave * angles + random.uniform(0, 2 * np.pi))
    return Polygon(np.column_stack([x + radii * np.cos(angles), y + radii * np.sin(angles)]))
