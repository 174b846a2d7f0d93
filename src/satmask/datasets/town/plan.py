"""The plan of a town: what lies where, in metres from the top left corner, y downwards. No pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import shapely
import shapely.ops
from shapely.geometry import LineString, Point, Polygon, box

from satmask.datasets.town import planting
from satmask.datasets.town.blocks import fill
from satmask.datasets.town.buildings import street_style
from satmask.datasets.town.ground import Surface, farm, green
from satmask.datasets.town.streets import bent_grid, blob, faces, lines_of, mitred, polygons_of, wandering

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

    from satmask.datasets.town.buildings import Building

MARGIN_M = 60.0
"""Ground planned beyond the image, so that things are cut by its edge as they are in real images."""
MAIN_M, STREET_M, WALK_M = 11.0, 6.6, 1.7


Rings = tuple[tuple[float, dict[str, float]], ...]
RINGS: Rings = (
    (0.38, {"dense": 0.5, "works": 0.28, "suburb": 0.22}),
    (1.02, {"suburb": 0.76, "works": 0.14, "dense": 0.06, "park": 0.04}),
    (np.inf, {"fields": 0.58, "suburb": 0.22, "wood": 0.2}),
)
"""Shares of kinds of districts, by distance from the centre up to a limit (1 is the edge of the town)."""


@dataclass(frozen=True)
class Setting:
    """What kind of place is planned; the default is a town that fills its image.

    Attributes:
        reach_m: From the centre to the edge of the town; by default 330 m, or 0.42 of a longer side.
        rings: What districts are, by distance from the centre.
        river: Chance of a river through the image; by default one through most large towns.
        ponds: Mean number of small ponds inside the image; by default a larger one here and there.
    """

    reach_m: float | None = None
    rings: Rings = RINGS
    river: float | None = None
    ponds: float | None = None


TOWN = Setting()


@dataclass
class Plan:
    """What a town holds; the drawing functions fill it, painting reads it.

    Attributes:
        area: The planned ground: the image and a margin.
        roads: All roads as one geometry.
        water: All water as one geometry.
        centre_lines: Middle of each street and its width in metres.
        ground: Surfaces in the order in which they are painted.
        over: Surfaces painted over the roads: kerbs, markings.
        buildings: They never overlap.
        woods: Where trees stand close together.
        yards: Where single trees may stand.
        fields: What is farmed.
        bays: Parking places: x, y, direction of the car.
        crowns: Outlines of trees, lowest first.
        cars: Outlines of cars.
        river: The part of the water that flows.
        tracks: Ways without asphalt.
        fences: Lines along which fences stand.
        pools: Swimming pools.
        structures: Containers, tanks, covered heaps.
        lorries: Outlines of lorries.
    """

    area: Polygon
    roads: BaseGeometry = field(default_factory=Polygon)
    water: BaseGeometry = field(default_factory=Polygon)
    centre_lines: list[tuple[LineString, float]] = field(default_factory=list)
    ground: list[Surface] = field(default_factory=list)
    over: list[Surface] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    woods: list[Polygon] = field(default_factory=list)
    yards: list[Polygon] = field(default_factory=list)
    fields: list[Polygon] = field(default_factory=list)
    bays: list[tuple[float, float, float]] = field(default_factory=list)
    crowns: list[planting.Crown] = field(default_factory=list)
    cars: list[planting.Car] = field(default_factory=list)
    river: BaseGeometry = field(default_factory=Polygon)
    tracks: list[Polygon] = field(default_factory=list)
    fences: list[BaseGeometry] = field(default_factory=list)
    pools: list[Polygon] = field(default_factory=list)
    structures: list[BaseGeometry] = field(default_factory=list)
    lorries: list[Polygon] = field(default_factory=list)


def plan_town(height_m: float, width_m: float, *, seed: int, setting: Setting = TOWN) -> Plan:
    """Plan a town: water, main roads, districts, streets, blocks, houses, then trees and cars.

    Args:
        height_m: Height of the image.
        width_m: Width of the image.
        seed: Fixes the plan.
        setting: What kind of place it is.

    Returns:
        The plan, which reaches `MARGIN_M` beyond the image.
    """
    random = np.random.default_rng([seed, 1])
    plan = Plan(box(-MARGIN_M, -MARGIN_M, width_m + MARGIN_M, height_m + MARGIN_M))
    _add_water(plan, random, setting)
    angle = float(random.uniform(0, np.pi / 2))
    spacing = (float(random.uniform(250, 330)), float(random.uniform(280, 400)))
    main = bent_grid(random, plan.area, spacing_m=spacing, angle=angle, bend_m=float(random.uniform(8, 30)))
    plan.centre_lines += [(part, MAIN_M) for line in main for part in lines_of(line.intersection(plan.area))]
    reach = setting.reach_m or max(330.0, 0.42 * max(height_m, width_m))
    middle = Point(width_m * random.uniform(0.35, 0.65), height_m * random.uniform(0.35, 0.65))
    for district in faces(plan.area, main):
        distance = (district.centroid.distance(middle) + random.uniform(-40, 40)) / reach
        kind = _kind(random, distance, setting.rings)
        _add_district(plan, random, district, kind=kind, angle=angle)
    _add_roads(plan, random)
    planting.plant(plan, np.random.default_rng([seed, 2]))
    planting.park(plan, np.random.default_rng([seed, 3]))
    return plan


def _add_water(plan: Plan, random: np.random.Generator, setting: Setting) -> None:
    """Lay a river through most large towns and some small ones, and a pond here and there."""
    left, top, right, bottom = plan.area.bounds
    side = max(right - left, bottom - top)
    chance = (0.75 if side > 500 else 0.3) if setting.river is None else setting.river
    if random.random() < chance:
        # A river that was asked for shall be seen, also where the image is smaller than its margin.
        within = side if setting.river is None else side - 2 * MARGIN_M
        offset = float(random.choice([-1, 1]) * random.uniform(0.1, 0.38) * within)
        angle = float(random.uniform(0, np.pi))
        plan.river = wandering(random, plan.area, width_m=float(random.uniform(14, 38)), angle=angle, offset_m=offset)
    margin = 0.0 if setting.ponds is None else MARGIN_M
    smallest, largest = (16.0, 48.0) if setting.ponds is None else (3.0, min(22.0, 4 + 0.08 * (side - 2 * MARGIN_M)))
    pieces = [plan.river]
    for _ in range(int(random.poisson(side * side / 6e5 if setting.ponds is None else setting.ponds))):
        x, y = random.uniform(left + margin, right - margin), random.uniform(top + margin, bottom - margin)
        pieces.append(blob(random, x, y, float(random.uniform(smallest, largest)), points=48))
    plan.water = shapely.union_all([piece for piece in pieces if not piece.is_empty])


def _kind(random: np.random.Generator, distance: float, rings: Rings) -> str:
    """Draw what a district is, by its distance from the centre (1 is the edge of the town)."""
    shares = next(shares for limit, shares in rings if distance < limit)
    return str(random.choice(list(shares), p=list(shares.values())))


def _add_district(plan: Plan, random: np.random.Generator, face: Polygon, *, kind: str, angle: float) -> None:
    """Lay the streets of a district and fill its blocks."""
    dry = plan.water.buffer(11)
    ground = mitred(face, -MAIN_M / 2 - WALK_M).difference(dry)
    turn = angle + float(random.choice([0.0, 0.0, random.uniform(0.2, 1.2)]))
    for part in polygons_of(ground):
        if kind == "fields":
            farm(plan, random, part, turn)
        elif kind in {"wood", "park"}:
            green(plan, random, part, wood=kind == "wood")
        else:
            _add_streets(plan, random, part, kind=kind, turn=turn)


def _add_streets(plan: Plan, random: np.random.Generator, part: Polygon, *, kind: str, turn: float) -> None:
    """Cut a district into blocks along streets, and build on them."""
    spacing = {"suburb": (68, 150), "dense": (62, 100), "works": (130, 150)}[kind]
    bend = float(random.choice([0, 4, 14])) if kind == "suburb" else float(random.choice([0, 3]))
    lines = bent_grid(random, part, spacing_m=spacing, angle=turn, bend_m=bend)
    reaching = mitred(part, MAIN_M / 2 + WALK_M).difference(plan.water.buffer(5))
    inner = part.buffer(-24)
    pieces = [piece for line in lines for piece in lines_of(line.intersection(reaching))]
    # A street that only follows the edge of its district would run beside the next road.
    lines = [piece for piece in pieces if piece.intersection(inner).length > 0.5 * piece.length]
    plan.centre_lines += [(line, STREET_M) for line in lines]
    style = street_style(random)
    for block in faces(part, lines):
        for inner in polygons_of(mitred(block, -STREET_M / 2 - WALK_M)):
            fill(plan, random, inner, kind=kind, style=style)


def _add_roads(plan: Plan, random: np.random.Generator) -> None:
    """Join the streets to one network with rounded corners, and lay pavements and markings."""
    pieces = [line.buffer(width / 2, quad_segs=3, cap_style="flat") for line, width in plan.centre_lines]
    network = shapely.union_all(pieces).buffer(3.5, quad_segs=4).buffer(-3.5, quad_segs=4)
    plan.roads = network.intersection(plan.area)
    walks = plan.roads.buffer(WALK_M, quad_segs=3)
    plan.ground.insert(0, Surface(walks.buffer(1.6), "grass"))
    plan.ground += [Surface(piece, name) for piece, name in _banks(plan, random)]
    plan.ground += [Surface(piece, "shallow water") for piece in polygons_of(plan.water)]
    plan.ground += [Surface(piece, "water") for piece in polygons_of(plan.water.buffer(-1.2))]
    plan.ground += [Surface(piece, "water", 0.9) for piece in polygons_of(plan.water.buffer(-4.5))]
    plan.ground += [Surface(piece, "concrete", 0.88) for piece in polygons_of(walks)]
    plan.over += [Surface(piece, "concrete") for piece in polygons_of(plan.roads)]
    plan.over += [Surface(piece, "asphalt") for piece in polygons_of(plan.roads.buffer(-0.25))]
    for line, width in sorted(plan.centre_lines, key=lambda street: street[1]):
        wear = float(random.normal(1.0, 0.1))
        name = "old asphalt" if random.random() < 0.35 else "asphalt"
        lane = line.buffer(width / 2 - 0.3, quad_segs=2, cap_style="flat").intersection(plan.roads)
        plan.over += [Surface(piece, name, wear) for piece in polygons_of(lane)]
    crossings = _crossings(plan)
    for line, width in plan.centre_lines:
        if width == MAIN_M or random.random() < 0.25:
            plan.over += _markings(line, crossings, solid=width == MAIN_M and random.random() < 0.4)


def _banks(plan: Plan, random: np.random.Generator) -> list[tuple[Polygon, str]]:
    """Bare soil along the water, and sand where it has been washed up."""
    banks = [(piece, "soil") for piece in polygons_of(plan.water.buffer(0.9))]
    for piece in polygons_of(plan.water):
        for at in random.uniform(0, piece.length, int(piece.length / 60)):
            spot = piece.exterior.interpolate(at)
            beach = blob(random, spot.x, spot.y, float(random.uniform(3, 8)))
            banks.append((beach, "sand"))
    return banks


def _crossings(plan: Plan) -> BaseGeometry:
    """Where roads meet: there are no markings there."""
    lines = [line for line, _ in plan.centre_lines]
    first, second = shapely.STRtree(lines).query(lines, predicate="intersects")
    points = [shapely.intersection(lines[a], lines[b]) for a, b in zip(first, second, strict=True) if a < b]
    return shapely.union_all(points).buffer(8)


def _markings(line: LineString, crossings: BaseGeometry, *, solid: bool) -> list[Surface]:
    """The line along the middle of a road, dashed or solid."""
    if solid:
        stripes: list[BaseGeometry] = [line]
    else:
        starts = np.arange(2, line.length - 4, 6.0)
        stripes = [shapely.ops.substring(line, start, start + 3) for start in starts]
    drawn = shapely.union_all(stripes).difference(crossings).buffer(0.11, quad_segs=1, cap_style="flat")
    return [Surface(drawn, "road paint")] if not drawn.is_empty else []
