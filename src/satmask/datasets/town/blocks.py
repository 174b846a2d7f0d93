"""What stands on a block between streets: homes, a park, or large buildings with parking lots. Metres."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from shapely.geometry import Polygon

from satmask.datasets.town.buildings import fits, hall
from satmask.datasets.town.ground import Surface, green
from satmask.datasets.town.homes import build_homes
from satmask.datasets.town.streets import Frame, frame_of, mitred, polygons_of

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from satmask.datasets.town.plan import Plan


def fill(plan: Plan, random: np.random.Generator, block: Polygon, *, kind: str, style: str) -> None:
    """Build on a block of a district of some kind."""
    if block.area < 250:
        plan.yards.append(block)
        plan.ground.append(Surface(block, "grass"))
        return
    chance = random.random()
    if kind == "works" or (kind == "dense" and chance < 0.22) or (kind == "suburb" and chance < 0.04):
        _estate(plan, random, block, tall=kind == "dense" or random.random() < 0.25)
    elif chance > 0.955:
        green(plan, random, block, wood=False)
    else:
        build_homes(plan, random, block, dense=kind == "dense", style=style)


def _estate(plan: Plan, random: np.random.Generator, block: Polygon, *, tall: bool) -> None:
    """Fill a block with large buildings, parking lots and grass."""
    frame = frame_of(block)
    plan.ground.append(Surface(block, "grass" if tall else ("paving", "old asphalt")[int(random.integers(2))], 0.95))
    count = max(round(frame.length / random.uniform(48, 75)), 1)
    edges = np.linspace(-frame.length / 2, frame.length / 2, count + 1)
    for left, right in pairwise(edges.tolist()):
        parcel = max(
            polygons_of(frame.rectangle((left, right), (-frame.width / 2, frame.width / 2)).intersection(block)),
            key=lambda part: part.area,
            default=Polygon(),
        )
        if parcel.area > 500:
            _large(plan, random, parcel, frame_of(parcel), tall=tall)


def _large(plan: Plan, random: np.random.Generator, parcel: Polygon, frame: Frame, *, tall: bool) -> None:
    """Put one large building and a parking lot on a parcel."""
    ground = mitred(parcel, -2.0)
    length = frame.length * random.uniform(0.55, 0.85)
    width = random.uniform(11, 14) if tall else frame.width * random.uniform(0.34, 0.58)
    height = 3.0 * random.integers(3, 8) if tall else random.uniform(5, 10)
    end = frame.width / 2
    for _ in range(6):
        at = -frame.width / 2 + 4 + width / 2
        x, y = frame.point(0.0, at)
        building = hall(random, Frame(x, y, frame.angle, float(length), float(width)), height_m=float(height))
        if min(length, width) > 7 and fits(building, ground):
            plan.buildings.append(building)
            free = parcel.buffer(-2).difference(mitred(building.polygon, 2))
            _lot(plan, random, frame, free, (at + width / 2 + 4, end - 2))
            if tall:
                plan.yards += polygons_of(free)
            return
        length, width = length * 0.86, width * 0.9
    plan.ground.append(Surface(parcel, "meadow"))
    plan.yards.append(parcel)


def _lot(
    plan: Plan, random: np.random.Generator, frame: Frame, free: BaseGeometry, across: tuple[float, float]
) -> None:
    """Lay a parking lot with marked bays between two distances across a frame."""
    if across[1] - across[0] < 10 or random.random() < 0.15:
        return
    half = frame.length * random.uniform(0.3, 0.48)
    lot = frame.rectangle((-half, half), across).intersection(free)
    plan.ground += [Surface(piece, "asphalt", float(random.normal(1.15, 0.1))) for piece in polygons_of(lot)]
    inner, rows = lot.buffer(-0.4), np.arange(across[0] + 2.8, across[1] - 2.4, 8.4)
    for at in rows:
        for u in np.arange(-half + 1.5, half - 1.5, 2.6):
            bay = frame.rectangle((u - 1.3, u + 1.3), (at - 2.5, at + 2.5))
            if not inner.contains(bay):
                continue
            plan.ground.append(Surface(frame.rectangle((u - 1.36, u - 1.22), (at - 2.5, at + 2.5)), "road paint", 0.8))
            x, y = frame.point(u, at)
            plan.bays.append((x, y, frame.angle + np.pi / 2))
