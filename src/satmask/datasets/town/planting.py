"""Trees and cars: where they stand and what they look like from above. Metres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import Polygon

from satmask.datasets.town.streets import Frame

if TYPE_CHECKING:
    from satmask.datasets.town.plan import Plan

WAVES = (2, 3, 5, 7)
_PAINTS = ("white paint", "silver paint", "black paint", "red paint", "blue paint", "equipment")
_PAINT_SHARES = (0.3, 0.25, 0.2, 0.08, 0.09, 0.08)
_SPECIES = ("broadleaf", "conifer", "olive")


@dataclass(frozen=True)
class Crown:
    """A tree as seen from above: a circle whose radius swings with direction.

    Attributes:
        x: Middle, in metres.
        y: Middle, in metres.
        radius_m: Mean radius.
        height_m: Height of the top.
        swings: Relative amplitude of each of `WAVES`.
        phases: Phase of each of `WAVES`, in radians.
        material: Name of its leaves.
        tone: Brightness relative to the material.
    """

    x: float
    y: float
    radius_m: float
    height_m: float
    swings: tuple[float, ...]
    phases: tuple[float, ...]
    material: str
    tone: float

    @cached_property
    def polygon(self) -> Polygon:
        """The outline."""
        angles = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        radii = self.radius_m * (1 + np.sin(np.outer(angles, WAVES) + self.phases) @ np.asarray(self.swings))
        return Polygon(np.column_stack([self.x + radii * np.cos(angles), self.y + radii * np.sin(angles)]))


@dataclass(frozen=True)
class Car:
    """A car.

    Attributes:
        frame: Its rectangle, long side along its way.
        material: Name of its paint.
    """

    frame: Frame
    material: str

    @cached_property
    def polygon(self) -> Polygon:
        """The outline."""
        half_length, half_width = self.frame.length / 2, self.frame.width / 2
        return self.frame.rectangle((-half_length, half_length), (-half_width, half_width))


def plant(plan: Plan, random: np.random.Generator) -> None:
    """Plant trees along streets, in yards, woods and by the water, where nothing is in the way."""
    spots = np.concatenate(
        [_along_streets(plan, random), _in_yards(plan, random), _in_woods(plan, random), _by_water(plan, random)]
    )
    keep = shapely.contains_xy(plan.area, spots[:, 0], spots[:, 1])
    for obstacle, distance in ((plan.roads, 0.7), (plan.water, 0.5)):
        blocked = obstacle.buffer(distance)
        shapely.prepare(blocked)
        keep &= ~shapely.contains_xy(blocked, spots[:, 0], spots[:, 1])
    if plan.fields:
        taken = shapely.union_all(plan.fields)
        shapely.prepare(taken)
        keep &= ~shapely.contains_xy(taken, spots[:, 0], spots[:, 1])
    spots = spots[keep]
    if plan.buildings and len(spots):
        tree = shapely.STRtree([building.polygon for building in plan.buildings])
        near, _ = tree.query(shapely.points(spots[:, :2]), predicate="dwithin", distance=spots[:, 2] * 1.02)
        spots = np.delete(spots, np.unique(near), axis=0)
    plan.crowns = sorted((grow(random, *spot) for spot in spots.tolist()), key=lambda crown: crown.height_m)


def grow(random: np.random.Generator, x: float, y: float, radius: float) -> Crown:
    """Draw a tree of a given size."""
    kind = int(random.choice(3, p=(0.66, 0.2, 0.14)))
    height = radius * random.uniform(1.7, 2.4) * (1.35 if kind == 1 else 1.0) + 1.0
    swings = random.uniform(0.2, 1, 4) * (0.13, 0.11, 0.08, 0.06) * (0.5 if kind == 1 else 1.0)
    phases = random.uniform(0, 2 * np.pi, 4)
    slim = 0.78 if kind == 1 else 1.0
    tone = float(np.clip(random.normal(1.0, 0.15), 0.6, 1.5))
    return Crown(x, y, radius * slim, float(height), tuple(swings), tuple(phases), _SPECIES[kind], tone)


def _along_streets(plan: Plan, random: np.random.Generator) -> np.ndarray:
    """Trees at even distances on one or both sides of some streets: x, y and radius."""
    rows = [np.empty((0, 3))]
    for line, width in plan.centre_lines:
        for side in (-1, 1):
            if random.random() > 0.45:
                continue
            step, size = random.uniform(8, 15), random.uniform(1.8, 3.4)
            at = np.arange(random.uniform(0, step), line.length, step)
            at = at[random.random(len(at)) < 0.8] + 0.0
            points = shapely.get_coordinates(shapely.line_interpolate_point(line, at))
            ahead = shapely.get_coordinates(shapely.line_interpolate_point(line, np.minimum(at + 1, line.length)))
            way = (ahead - points) / np.maximum(np.hypot(*(ahead - points).T), 1e-6)[:, None]
            beside = points + side * (width / 2 + 2.4) * np.column_stack([-way[:, 1], way[:, 0]])
            rows.append(np.column_stack([beside, size * random.uniform(0.75, 1.2, len(at))]))
    return np.concatenate(rows)


def _in_yards(plan: Plan, random: np.random.Generator) -> np.ndarray:
    """A few trees and bushes in each yard: x, y and radius."""
    rows = [np.empty((0, 3))]
    for yard in plan.yards:
        count = min(int(random.poisson(yard.area / 85)), 60)
        left, top, right, bottom = yard.bounds
        spots = random.uniform((left, top), (right, bottom), (count, 2))
        spots = spots[shapely.contains_xy(yard, spots[:, 0], spots[:, 1])]
        rows.append(np.column_stack([spots, np.clip(random.lognormal(0.62, 0.42, len(spots)), 0.9, 5.2)]))
    return np.concatenate(rows)


def _in_woods(plan: Plan, random: np.random.Generator) -> np.ndarray:
    """Crowns that touch each other: x, y and radius."""
    rows = [np.empty((0, 3))]
    for wood in plan.woods:
        left, top, right, bottom = wood.bounds
        x, y = np.meshgrid(np.arange(left, right, 4.6), np.arange(top, bottom, 4.6))
        spots = np.column_stack([x.ravel(), y.ravel()]) + random.uniform(-2, 2, (x.size, 2))
        spots = spots[shapely.contains_xy(wood, spots[:, 0], spots[:, 1])]
        spots = spots[random.random(len(spots)) < 0.9]
        rows.append(np.column_stack([spots, random.uniform(2.0, 4.4, len(spots))]))
    return np.concatenate(rows)


def _by_water(plan: Plan, random: np.random.Generator) -> np.ndarray:
    """Trees along banks: x, y and radius."""
    if plan.water.is_empty:
        return np.empty((0, 3))
    banks = shapely.get_parts(plan.water.buffer(6).boundary)
    rows = [np.empty((0, 3))]
    for bank in banks:
        at = np.cumsum(random.exponential(7, int(bank.length / 7)))
        points = shapely.get_coordinates(shapely.line_interpolate_point(bank, at[at < bank.length]))
        points += random.normal(0, 2, points.shape)
        rows.append(np.column_stack([points, random.uniform(1.5, 4.2, len(points))]))
    return np.concatenate(rows)


def park(plan: Plan, random: np.random.Generator) -> None:
    """Put cars into bays, along kerbs and on the lanes, none into another."""
    places = [bay for bay in plan.bays if random.random() < 0.62]
    for line, width in plan.centre_lines:
        busy = random.uniform(0.0, 0.3)
        for side in (-1, 1):
            places += _beside(random, line, offset=side * (width / 2 - 1.25), step=6.2, share=busy)
            if width > 9:
                places += _beside(random, line, offset=side * 1.9, step=18, share=0.16)
    cars = [_car(random, *place) for place in places]
    if not cars:
        return
    shapes = [car.polygon for car in cars]
    grown = shapely.buffer(shapes, 0.25)
    first, second = shapely.STRtree(grown).query(grown, predicate="intersects")
    bad = set(second[second > first].tolist())
    solid = shapely.STRtree([building.polygon for building in plan.buildings])
    bad |= set(solid.query(grown, predicate="intersects")[0].tolist())
    plan.cars = [car for index, car in enumerate(cars) if index not in bad]


def _beside(
    random: np.random.Generator, line: shapely.LineString, *, offset: float, step: float, share: float
) -> list[tuple[float, float, float]]:
    """Places along a street at a distance from its middle: x, y and direction."""
    at = np.arange(9, line.length - 9, step)
    at = at[random.random(len(at)) < share]
    at = at + random.uniform(-0.6, 0.6, len(at))
    here = shapely.get_coordinates(shapely.line_interpolate_point(line, at))
    ahead = shapely.get_coordinates(shapely.line_interpolate_point(line, at + 1))
    angles = np.arctan2(*(ahead - here).T[::-1])
    x, y = here[:, 0] - offset * np.sin(angles), here[:, 1] + offset * np.cos(angles)
    return list(zip(x.tolist(), y.tolist(), angles.tolist(), strict=True))


def _car(random: np.random.Generator, x: float, y: float, angle: float) -> Car:
    """Draw a car, or now and then a van or a lorry."""
    van = random.random() < 0.08
    length, width = (random.uniform(5.4, 7.5), 2.2) if van else (random.uniform(3.9, 4.8), random.uniform(1.7, 1.9))
    paint = "white paint" if van else str(random.choice(_PAINTS, p=_PAINT_SHARES))
    turn = np.pi if random.random() < 0.5 else 0.0
    frame = Frame(
        x + random.normal(0, 0.1), y + random.normal(0, 0.1), angle + turn + random.normal(0, 0.02), length, width
    )
    return Car(frame, paint)
