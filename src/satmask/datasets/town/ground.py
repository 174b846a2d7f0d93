"""Open ground: fields, woods, parks. Metres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from shapely.geometry import Polygon

from satmask.datasets.town.streets import bent_grid, blob, faces, frame_of, mitred, polygons_of

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from satmask.datasets.town.plan import Plan


@dataclass(frozen=True)
class Surface:
    """A piece of ground of one material.

    Attributes:
        polygon: Its outline.
        material: Name of its material.
        tone: Brightness relative to the material.
        height_m: How far it rises, for fences and such.
        rows_m: Distance between the rows of a field or the stripes of a lawn, 0 for none.
        angle: Direction of the rows, in radians.
    """

    polygon: BaseGeometry
    material: str
    tone: float = 1.0
    height_m: float = 0.0
    rows_m: float = 0.0
    angle: float = 0.0


def farm(plan: Plan, random: np.random.Generator, area: Polygon, turn: float) -> None:
    """Cut an area into fields with rows, with tracks and a few barns between."""
    spacing = (float(random.uniform(60, 110)), float(random.uniform(110, 200)))
    plan.ground.append(Surface(area, "meadow"))
    for face in faces(area, bent_grid(random, area, spacing_m=spacing, angle=turn, bend_m=3.0)):
        for plot in polygons_of(mitred(face, -float(random.uniform(1.5, 3.0)))):
            chance, frame = random.random(), frame_of(plot)
            if chance < 0.08 or plot.area < 400:
                plan.yards.append(plot)
                continue
            crops = ("crop", "crop", "young crop", "wheat", "dark soil")
            name = crops[int(random.integers(len(crops)))]
            rows, tone = float(random.choice([2.2, 3.0, 4.5])), float(random.normal(1, 0.1))
            plan.fields.append(plot)
            plan.ground.append(Surface(plot, name, tone, rows_m=rows, angle=frame.angle))
    for line in bent_grid(random, area, spacing_m=(400.0, 400.0), angle=turn, bend_m=12.0):
        track = line.buffer(1.6, cap_style="flat").intersection(area)
        plan.fields = [piece for plot in plan.fields for piece in polygons_of(plot.difference(track))]
        plan.ground += [Surface(piece, "soil", 1.1) for piece in polygons_of(track)]
        plan.tracks += polygons_of(track)


def green(plan: Plan, random: np.random.Generator, area: Polygon, *, wood: bool) -> None:
    """Turn an area into a wood or a park with a few paths."""
    plan.ground.append(Surface(area, "meadow" if wood else "grass"))
    inner = area.buffer(-3)
    if wood:
        plan.woods += polygons_of(inner)
        return
    paths = bent_grid(random, area, spacing_m=(70.0, 90.0), angle=float(random.uniform(0, 3)), bend_m=10.0)
    for line in paths:
        pieces = polygons_of(line.buffer(1.1).intersection(area))
        plan.ground += [Surface(piece, "gravel") for piece in pieces]
        plan.tracks += pieces
    left, top, right, bottom = area.bounds
    for _ in range(max(int(area.area / 1500), 1)):
        clump = blob(random, random.uniform(left, right), random.uniform(top, bottom), random.uniform(7, 20))
        plan.woods += polygons_of(clump.intersection(inner))
    plan.yards.append(area)
