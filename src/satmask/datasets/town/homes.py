"""Parcels with houses, and what people put around them. Metres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from shapely.geometry import Polygon

from satmask.datasets.town.buildings import Building, fits, house, shed
from satmask.datasets.town.ground import Surface
from satmask.datasets.town.streets import Frame, blob, frame_of, mitred, polygons_of

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from satmask.datasets.town.plan import Plan


def build_homes(plan: Plan, random: np.random.Generator, block: Polygon, *, dense: bool, style: str) -> None:
    """Cut a block into parcels back to back, and put a house on most of them."""
    frame = frame_of(block)
    plan.ground.append(Surface(block, "grass" if not dense else "paving"))
    rows = [(-frame.width / 2, 0.0, 1), (0.0, frame.width / 2, -1)]
    if frame.width < (26 if dense else 36):
        rows = [(-frame.width / 2, frame.width / 2, 1 if random.random() < 0.5 else -1)]
    mean = random.uniform(9, 14) if dense else random.uniform(14, 21)
    for low, high, side in rows:
        left = -frame.length / 2
        while left < frame.length / 2 - mean * 0.5:
            right = left + mean * random.uniform(0.85, 1.25)
            right = frame.length / 2 if right > frame.length / 2 - mean * 0.6 else right
            cut = frame.rectangle((left, right), (low, high)).intersection(block)
            for parcel in polygons_of(cut):
                _home(plan, random, parcel, angle=frame.angle + (0 if side == 1 else np.pi), dense=dense, style=style)
            left = right


def _home(plan: Plan, random: np.random.Generator, parcel: Polygon, *, angle: float, dense: bool, style: str) -> None:
    """Lay out a parcel: house, drive, terrace, shed, fence, pool."""
    frame = _facing(parcel, angle)
    if parcel.area < 110 or min(frame.length, frame.width) < 7:
        plan.yards.append(parcel)
        return
    _yard(plan, random, parcel, dense=dense)
    if random.random() < 0.05:
        return
    building = _settle(random, parcel, frame, dense=dense, style=style)
    if building is None:
        return
    plan.buildings.append(building)
    free = parcel.buffer(-0.5).difference(mitred(building.polygon, 0.8))
    if not dense or random.random() < 0.75:
        plan.yards += polygons_of(free)
    main = building.parts[0].frame
    across = (
        -frame.width / 2 - 1.2,
        (main.y - frame.y) * np.cos(frame.angle) - (main.x - frame.x) * np.sin(frame.angle),
    )
    edge = (frame.length / 2 - 3.4) * (1 if random.random() < 0.5 else -1)
    if not dense and random.random() < 0.85:
        drive = frame.rectangle((edge - 1.6, edge + 1.6), across)
        name = ("concrete", "paving", "asphalt", "gravel")[int(random.integers(4))]
        plan.ground.append(Surface(drive, name, float(random.normal(0.95, 0.1))))
        if random.random() < 0.55 and not drive.buffer(-0.3).intersects(building.polygon):
            x, y = frame.point(edge, across[0] + 4.2)
            plan.bays.append((x, y, frame.angle + np.pi / 2))
    _behind(plan, random, frame, free, building)


def _facing(parcel: Polygon, angle: float) -> Frame:
    """The frame of a parcel with negative `across` towards its street."""
    frame = frame_of(parcel)
    turns = round((angle - frame.angle) / (np.pi / 2))
    sides = (frame.length, frame.width) if turns % 2 == 0 else (frame.width, frame.length)
    return Frame(frame.x, frame.y, frame.angle + turns * np.pi / 2, *sides)


def _yard(plan: Plan, random: np.random.Generator, parcel: Polygon, *, dense: bool) -> None:
    """Cover a parcel with lawn, dry grass, soil or paving, and fence it."""
    names = ("grass", "dry grass", "meadow", "soil", "paving")
    shares = (0.34, 0.12, 0.1, 0.1, 0.34) if dense else (0.56, 0.18, 0.14, 0.07, 0.05)
    name = str(random.choice(names, p=shares))
    plan.ground.append(Surface(parcel, name, float(random.normal(1, 0.08))))
    if random.random() < 0.5:
        plan.ground.append(Surface(parcel.exterior.buffer(0.13, quad_segs=1, join_style="mitre"), "wood", 1.0, 1.3))
        plan.fences.append(parcel.exterior)


def _settle(random: np.random.Generator, parcel: Polygon, frame: Frame, *, dense: bool, style: str) -> Building | None:
    """Draw houses for a parcel until one fits; None where none does."""
    ground = mitred(parcel, -0.35 if dense else -0.8)
    storeys = int(random.integers(2, 5)) if dense else 1 + int(random.random() < 0.35)
    gap = 0.8 if dense else float(random.uniform(2.0, 4.5))
    length = min(frame.length - gap, 18.0)
    width = min(float(random.uniform(8.0, 12.5)), frame.width - 3)
    setback = float(random.uniform(0.6, 1.6)) if dense else float(random.uniform(3.5, 7.5))
    turn = 0.0 if dense or random.random() < 0.85 else float(random.normal(0, 0.15))
    for _ in range(6):
        if min(length, width) < 4.5:
            return None
        shift = 0.0 if dense else float(random.uniform(-0.5, 0.5)) * max(frame.length - length - 2, 0)
        x, y = frame.point(shift, -frame.width / 2 + setback + width / 2)
        angle = frame.angle + turn
        building = house(random, Frame(x, y, angle, length, width), style=style, storeys=storeys)
        if fits(building, ground):
            return _ridge_along(building)
        length, width, setback = length * 0.88, width * 0.94, setback + 0.5
    return None


def _ridge_along(building: Building) -> Building:
    """Turn the ridge of a main part that is wider than long, so that roofs don't grow too high."""
    main = building.parts[0]
    if main.frame.width <= main.frame.length * 1.15:
        return building
    frame = Frame(main.frame.x, main.frame.y, main.frame.angle + np.pi / 2, main.frame.width, main.frame.length)
    parts = (type(main)(frame, main.kind, main.eave_m, main.pitch), *building.parts[1:])
    return Building(parts, building.material, building.tone, ())


def _behind(plan: Plan, random: np.random.Generator, frame: Frame, free: BaseGeometry, building: Building) -> None:
    """Add what lies behind a house: a terrace, a shed, a pool, a tarpaulin, a bare spot the colour of tiles."""
    back = frame.width / 2
    if random.random() < 0.4:
        main = building.parts[0].frame
        out = main.rectangle((-2.5, 2.5), (main.width / 2, main.width / 2 + 3.2))
        plan.ground += [Surface(piece, "paving", 1.15) for piece in polygons_of(out.intersection(free.buffer(0.9)))]
    spots = [float(spot) for spot in random.uniform(-0.32, 0.32, 3) * frame.length]
    if random.random() < 0.3:
        size = float(random.uniform(2.6, 5.5)), float(random.uniform(2.4, 3.6))
        x, y = frame.point(spots[0], back - 0.9 - size[1] / 2)
        extra = shed(random, Frame(x, y, frame.angle, *size))
        if free.contains(extra.polygon):
            plan.buildings.append(extra)
            return
    chance = random.random()
    if chance < 0.1:
        x, y = frame.point(spots[1], back - 6)
        pool = Frame(x, y, frame.angle, 7, 3.6).rectangle((-3.5, 3.5), (-1.8, 1.8))
        if free.contains(pool):
            plan.ground += [Surface(pool.buffer(1.2), "paving", 1.2), Surface(pool, "pool")]
            plan.pools.append(pool)
    elif chance < 0.3:
        x, y = frame.point(spots[2], back - 4)
        half_u, half_v = random.uniform(1.2, 3.2), random.uniform(1.0, 2.4)
        cover = Frame(x, y, frame.angle + random.normal(0, 0.3), 1, 1).rectangle((-half_u, half_u), (-half_v, half_v))
        name = ("tarpaulin", "soil", "red tile", "concrete")[int(random.integers(4))]
        plan.ground += [Surface(piece, name, 1.05) for piece in polygons_of(cover.intersection(free))]
    elif chance < 0.5:
        x, y = frame.point(spots[2], back - 3.5)
        spot = blob(random, x, y, float(random.uniform(1.5, 4))).intersection(free)
        plan.ground += [Surface(piece, "soil") for piece in polygons_of(spot)]
