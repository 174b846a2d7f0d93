"""What the countryside has and the plain town lacks: dirt roads, tanks and containers, lorries, trees in fields. Metres.

All of it is added to a plan that is otherwise complete; what changes from date to date (`change_date`) is kept apart
from what stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import LineString, Point, Polygon

from satmask.datasets.town import planting
from satmask.datasets.town.ground import Surface
from satmask.datasets.town.plan import MAIN_M, WALK_M
from satmask.datasets.town.streets import Frame, lines_of, polygons_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shapely.geometry.base import BaseGeometry

    from satmask.datasets.town.plan import Plan

_CROPS = ("crop", "young crop", "wheat", "dark soil", "meadow")
_BODIES = ("white paint", "white paint", "silver paint", "blue paint", "red paint")


def unpave(plan: Plan, random: np.random.Generator, *, share: float) -> None:
    """Turn a share of the streets, and a little less of the main roads, into dirt tracks with green verges."""
    chances = [share * (0.8 if width == MAIN_M else 1) for _, width in plan.centre_lines]
    dirt = [street for street, chance in zip(plan.centre_lines, chances, strict=True) if random.random() < chance]
    if not dirt:
        return
    gone = {id(line) for line, _ in dirt}
    paved = [line.buffer(w / 2, quad_segs=3, cap_style="flat") for line, w in plan.centre_lines if id(line) not in gone]
    before = plan.roads
    plan.roads = shapely.union_all(paved).buffer(3.5, quad_segs=4).buffer(-3.5, quad_segs=4).intersection(plan.area)
    verge = before.buffer(WALK_M + 0.2).difference(plan.roads.buffer(WALK_M)).difference(plan.water)
    plan.over += [Surface(piece, "meadow", 1.05) for piece in polygons_of(verge)]
    joined = before.difference(plan.roads.buffer(-0.3))
    for line, _ in dirt:
        _lay_track(plan, line, half_m=float(random.uniform(1.5, 2.3)), within=joined)


def _lay_track(plan: Plan, line: LineString, *, half_m: float, within: BaseGeometry) -> None:
    """Lay one track along a line: bare soil, with what is left of the grass between the wheels."""
    pieces = [piece for piece in polygons_of(line.buffer(half_m).intersection(within)) if piece.area > 12]
    plan.tracks += pieces
    plan.over += [Surface(piece, "soil", 1.12) for piece in pieces]
    if half_m < 1.9:
        middle = line.buffer(0.3, cap_style="flat").intersection(within)
        plan.over += [Surface(piece, "dry grass") for piece in polygons_of(middle)]


def cross_country(plan: Plan, random: np.random.Generator, view: Polygon) -> None:
    """Lay winding tracks through fields and woods, around houses, yards and water."""
    left, top, right, bottom = view.bounds
    blocked = shapely.union_all(
        [*(building.polygon.buffer(4) for building in plan.buildings), *plan.yards, plan.water.buffer(1), plan.roads]
    )
    free = plan.area.difference(blocked)
    for _ in range(max(round(max(right - left, bottom - top) / 300), 1)):
        x, y = random.uniform(left, right), random.uniform(top, bottom)
        _lay_track(plan, _winding(random, plan, x, y), half_m=float(random.uniform(1.3, 2.0)), within=free)
    taken = shapely.union_all(plan.tracks)
    plan.fields = [piece for plot in plan.fields for piece in polygons_of(plot.difference(taken)) if piece.area > 30]


def _winding(random: np.random.Generator, plan: Plan, x: float, y: float) -> LineString:
    """A line through a point, across the whole plan, in bends."""
    left, top, right, bottom = plan.area.bounds
    reach = float(np.hypot(right - left, bottom - top))
    along = np.arange(-reach, reach, 4.0)
    waves, angle = random.uniform((120, 35), (300, 70)), random.uniform(0, np.pi)
    across = 14 * np.sin(along / waves[0] * 2 * np.pi) + 3 * np.sin(along / waves[1] * 2 * np.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    points = np.column_stack([x + along * cosine - across * sine, y + along * sine + across * cosine])
    return LineString(points)


def furnish(plan: Plan, random: np.random.Generator, view: Polygon) -> None:
    """Put containers, tanks and covered heaps into yards, a few at least into the open."""
    blocked = _solid(plan)
    yards = [yard for yard in plan.yards if yard.intersects(view)]
    places: list[Polygon] = [yard for yard in yards if random.random() < 0.35] + [view] * 5
    for place in places:
        left, top, right, bottom = place.bounds
        for _ in range(8):
            x, y = float(random.uniform(left, right)), float(random.uniform(top, bottom))
            surface = _structure(random, x, y)
            if place.contains(surface.polygon) and not blocked.intersects(surface.polygon):
                plan.over.append(surface)
                plan.structures.append(surface.polygon)
                blocked = blocked.union(surface.polygon.buffer(0.5))
                break


def _structure(random: np.random.Generator, x: float, y: float) -> Surface:
    """Draw a container, a tank or a covered heap."""
    chance, tone = random.random(), float(random.uniform(0.85, 1.1))
    if chance < 0.3:
        name = str(random.choice(["light metal", "equipment", "concrete"]))
        return Surface(Point(x, y).buffer(float(random.uniform(1.2, 3.6))), name, tone, float(random.uniform(2, 5)))
    long = 6.1 if chance < 0.75 else float(random.uniform(2.5, 9))
    wide = 2.5 if chance < 0.75 else float(random.uniform(1.5, 4))
    frame = Frame(x, y, float(random.uniform(0, np.pi)), long, wide)
    names = ["red paint", "blue paint", "equipment"] if chance < 0.75 else ["tarpaulin", "wood", "light metal"]
    outline = frame.rectangle((-long / 2, long / 2), (-wide / 2, wide / 2))
    return Surface(outline, str(random.choice(names)), tone, 2.6 if chance < 0.75 else 1.5)


def _solid(plan: Plan) -> BaseGeometry:
    """Where nothing more fits."""
    shapes = [building.polygon.buffer(0.6) for building in plan.buildings]
    ways = [track.buffer(0.5) for track in plan.tracks]
    return shapely.union_all([*shapes, *ways, *plan.structures, plan.roads.buffer(1), plan.water.buffer(1)])


def drive_lorries(plan: Plan, random: np.random.Generator, view: Polygon) -> None:
    """Put lorries on roads, or on tracks where there are no roads; cars make way."""
    wanted = 2 + int(random.poisson(view.area / 4e5))
    solid = shapely.union_all([*(building.polygon.buffer(0.5) for building in plan.buildings), *plan.structures])
    for frame in _lorry_places(plan, random, view):
        outline = frame.rectangle((-frame.length / 2, frame.length / 2), (-1.27, 1.27))
        if view.contains(outline) and not outline.intersects(solid):
            _paint_lorry(plan, random, frame)
            plan.lorries.append(outline)
            solid = solid.union(outline.buffer(1))
        if len(plan.lorries) == wanted:
            break
    space = shapely.union_all([lorry.buffer(0.4) for lorry in plan.lorries])
    plan.cars = [car for car in plan.cars if not car.polygon.intersects(space)]


def _lorry_places(plan: Plan, random: np.random.Generator, view: Polygon) -> Iterator[Frame]:
    """Places on roads in random order, then on tracks."""
    inner = view.buffer(-5)
    lines = [
        (piece, width)
        for line, width in plan.centre_lines
        for piece in lines_of(line.intersection(inner))
        if piece.length > 12
    ]
    for _ in range(20 if lines else 0):
        line, width = lines[int(random.integers(len(lines)))]
        at = float(random.uniform(0, line.length - 1))
        here, ahead = line.interpolate(at), line.interpolate(at + 1)
        angle = float(np.arctan2(ahead.y - here.y, ahead.x - here.x))
        lane = Frame(here.x, here.y, angle, 1, 1).point(0, float(random.choice([-1, 1])) * (width / 4 + 0.2))
        yield Frame(*lane, angle + np.pi * int(random.integers(2)), float(random.uniform(8.5, 14)), 2.54)
    tracks = [piece for track in plan.tracks for piece in polygons_of(track.intersection(inner))]
    for _ in range(20 if tracks else 0):
        track = tracks[int(random.integers(len(tracks)))]
        spot, angle = track.representative_point(), float(random.uniform(0, np.pi))
        yield Frame(spot.x, spot.y, angle, float(random.uniform(7, 10)), 2.54)


def _paint_lorry(plan: Plan, random: np.random.Generator, frame: Frame) -> None:
    """Paint the body and the cab of a lorry."""
    half, body = frame.length / 2, _BODIES[int(random.integers(len(_BODIES)))]
    plan.over += [
        Surface(frame.rectangle((-half, half - 2.6), (-1.27, 1.27)), body, 1.0, 3.6),
        Surface(frame.rectangle((half - 2.2, half), (-1.2, 1.2)), "red paint", 1.0, 2.8),
        Surface(frame.rectangle((half - 0.7, half - 0.2), (-1.1, 1.1)), "glass", 1.0, 2.4),
    ]


def grow_in_fields(plan: Plan, random: np.random.Generator) -> None:
    """Let single trees stand in fields and rows of trees along some of their edges."""
    spots: list[tuple[float, float, float]] = []
    for plot in plan.fields:
        left, top, right, bottom = plot.bounds
        for _ in range(int(random.poisson(plot.area / 2500))):
            x, y = float(random.uniform(left, right)), float(random.uniform(top, bottom))
            if plot.buffer(-3).contains(Point(x, y)):
                spots.append((x, y, float(random.uniform(1.6, 4.2))))
        if random.random() < 0.3:
            start, length = random.uniform(0, plot.length), random.uniform(0.1, 0.3) * plot.length
            places = (plot.exterior.interpolate((start + at) % plot.length) for at in np.arange(0, length, 5.2))
            spots += [(place.x, place.y, float(random.uniform(1.5, 3.2))) for place in places]
    blocked = shapely.union_all([plan.roads.buffer(1.5), plan.water.buffer(1), *(b.polygon for b in plan.buildings)])
    kept = [spot for spot in spots if not blocked.dwithin(Point(spot[0], spot[1]), spot[2])]
    plan.crowns += [planting.grow(random, *spot) for spot in kept]
    plan.crowns.sort(key=lambda crown: crown.height_m)


def change_date(plan: Plan, random: np.random.Generator, *, date: int, cars: float) -> None:
    """Make it another day: other cars on the same streets, other crops on the same fields.

    Args:
        plan: The plan.
        random: Where chance comes from; another one a date.
        date: 0 leaves the fields as planned.
        cars: Share of cars that are there at all.
    """
    planting.park(plan, random)
    plan.cars = [car for car in plan.cars if random.random() < cars]
    if date:
        plan.ground = [
            replace(surface, material=_CROPS[int(random.integers(len(_CROPS)))]) if surface.rows_m else surface
            for surface in plan.ground
        ]
