"""Places for ten classes: a village, fields, a riverside and a town, and what of DSTL's classes is where. Metres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon

from satmask.datasets.town import extras
from satmask.datasets.town.plan import Plan, Rings, Setting, plan_town
from satmask.datasets.town.streets import polygons_of

if TYPE_CHECKING:
    from shapely.geometry import Polygon

_FENCE_HALF_M = 0.3
"""Fences are labelled a little wider than they are, as annotators draw them."""


@dataclass(frozen=True)
class Theme:
    """A kind of place.

    Attributes:
        name: What it is.
        reach: From the centre to the edge of what is built, relative to the image's longer side.
        least_m: What this distance is at least.
        rings: What districts are, see `plan.Setting`.
        river: Chance of a river.
        ponds: Mean number of ponds.
        dirt: Share of streets that are dirt tracks.
        cars: Share of parking places taken, relative to a town.
    """

    name: str
    reach: float
    least_m: float
    rings: Rings
    river: float
    ponds: float
    dirt: float
    cars: float


THEMES = (
    Theme("village", 0.30, 120, ((1, {"suburb": 0.85, "works": 0.15}), (np.inf, {"fields": 0.9, "wood": 0.1})),
          river=0, ponds=2, dirt=0.6, cars=0.25),
    Theme("fields", 0.12, 10, ((1, {"suburb": 1.0}), (np.inf, {"fields": 0.93, "wood": 0.07})),
          river=0, ponds=2.5, dirt=0.8, cars=0.15),
    Theme("riverside", 0.22, 90, ((1, {"suburb": 0.8, "park": 0.2}), (np.inf, {"fields": 0.6, "wood": 0.4})),
          river=1, ponds=1.5, dirt=0.5, cars=0.25),
    Theme("town", 0.45, 180, ((0.4, {"dense": 0.5, "works": 0.5}), (1, {"suburb": 0.7, "works": 0.3}),
                         (np.inf, {"fields": 0.75, "wood": 0.25})),
          river=0, ponds=2.5, dirt=0.15, cars=0.4),
)  # fmt: skip


def plan_place(view: Polygon, *, theme: Theme, seed: int, date: int = 0) -> Plan:
    """Plan a place as it is on one date.

    Args:
        view: What the image will show, in metres; planned is what lies between the origin, this and as much again
            beyond it as before it.
        theme: What kind of place it is.
        seed: Fixes what stays.
        date: Fixes, with `seed`, what comes and goes: vehicles and crops.
    """
    left, top, right, bottom = view.bounds
    reach = max(theme.reach * max(right - left, bottom - top), theme.least_m)
    setting = Setting(reach, theme.rings, theme.river, theme.ponds)
    plan = plan_town(top + bottom, left + right, seed=seed, setting=setting)
    random = np.random.default_rng([seed, 11])
    extras.unpave(plan, random, share=theme.dirt)
    extras.cross_country(plan, random, view)
    extras.grow_in_fields(plan, random)
    extras.furnish(plan, random, view)
    today = np.random.default_rng([seed, 12, date])
    extras.change_date(plan, today, date=date, cars=theme.cars)
    extras.drive_lorries(plan, today, view)
    return plan


def ten_classes(plan: Plan, view: Polygon) -> dict[int, MultiPolygon]:
    """Where DSTL's classes 1 to 10 are, valid, cut to the view, in metres from its top left corner.

    They overlap as they do in reality: trees over roads, tracks and crops; vehicles on roads; fences under trees.
    """
    running = [piece for piece in polygons_of(plan.water) if piece.intersects(plan.river)]
    standing = [piece for piece in polygons_of(plan.water) if not piece.intersects(plan.river)]
    fences = shapely.buffer(np.array(plan.fences, dtype=object), _FENCE_HALF_M, cap_style="flat", join_style="mitre")
    houses = shapely.union_all([building.polygon for building in plan.buildings])
    shapes: dict[int, list[Any]] = {
        1: [houses],
        2: [shapely.union_all([*fences, *plan.structures]).difference(houses)],
        3: [plan.roads],
        4: plan.tracks,
        5: [crown.polygon for crown in plan.crowns],
        6: plan.fields,
        7: [shapely.union_all(running).difference(plan.roads)],
        8: [shapely.union_all([*standing, *plan.pools]).difference(plan.roads)],
        9: plan.lorries,
        10: [car.polygon for car in plan.cars],
    }
    return {class_id: _cut(parts, view) for class_id, parts in shapes.items()}


def _cut(shapes: list[Any], view: Polygon) -> MultiPolygon:
    """Unite shapes and cut them to a view, whose top left corner becomes the origin."""
    near = [shape for shape in shapely.make_valid(np.array(shapes, dtype=object)) if shape.intersects(view)]
    whole = shapely.union_all(near).intersection(view)
    left, top, _, _ = view.bounds
    moved = shapely.transform(whole, lambda points: points - (left, top))
    return MultiPolygon([piece for piece in polygons_of(moved) if piece.area > 0.05])
