"""From the plan to maps: which material each spot is of, how it is lit, how high it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from affine import Affine
from rasterio.features import rasterize

from satmask.datasets.town.buildings import FLAT, HIP, Building
from satmask.datasets.town.ground import Surface
from satmask.datasets.town.light import Sun, noise, shadows
from satmask.datasets.town.materials import MATERIALS, ROUGHNESS, material
from satmask.datasets.town.planting import WAVES, Car, Crown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from satmask.datasets.town.plan import Plan
    from satmask.datasets.town.streets import Frame


@dataclass
class Maps:
    """A painted town, finer than its pixels, before any sensor has seen it.

    Attributes:
        step_m: Side of a spot.
        material: Position in `MATERIALS`, uint8, `(height, width)`.
        shade: Brightness relative to the material lying flat in the sun, float32, `(height, width)`.
        height_cm: Height over the ground, uint16, `(height, width)`.
        shadow: Where the sun is blocked, bool, `(height, width)`.
    """

    step_m: float
    material: np.ndarray
    shade: np.ndarray
    height_cm: np.ndarray
    shadow: np.ndarray


def paint(plan: Plan, shape: tuple[int, int], *, step_m: float, seed: int) -> Maps:
    """Paint a plan: ground, roofs, cars, crowns, and the shadows that they cast.

    Args:
        plan: What lies where.
        shape: Rows and columns of the maps.
        step_m: Side of a spot.
        seed: Fixes the sun and the textures.
    """
    random = np.random.default_rng([seed, 4])
    sun = Sun.draw(random)
    maps = Maps(
        step_m,
        np.zeros(shape, np.uint8),
        np.ones(shape, np.float32),
        np.zeros(shape, np.uint16),
        np.zeros(shape, np.bool_),
    )
    grain = noise(random, shape, cell=1.0)
    _paint_ground(maps, plan, random, grain)
    _paint_roofs(maps, plan.buildings, sun)
    _paint_cars(maps, plan.cars)
    _paint_crowns(maps, plan.crowns, sun, random)
    grain *= 0.6
    grain += 0.8 * noise(random, shape, cell=max(0.9 / step_m, 1.0))
    grain *= np.take(ROUGHNESS, maps.material)
    grain += 1
    maps.shade *= np.maximum(grain, 0.2, out=grain)
    maps.shadow = shadows(maps.height_cm, sun, step_m=step_m)
    return maps


def _ids(maps: Maps, polygons: Iterable[Any]) -> np.ndarray:
    """Burn polygons in order and return 1 + the position of the topmost one at each spot, 0 for none."""
    shapes = [(polygon, number) for number, polygon in enumerate(polygons, start=1) if not polygon.is_empty]
    if not shapes:
        return np.zeros(maps.material.shape, np.int32)
    scale = Affine.scale(maps.step_m)
    return np.asarray(rasterize(shapes, out_shape=maps.material.shape, transform=scale, dtype="int32"))


def _paint_ground(maps: Maps, plan: Plan, random: np.random.Generator, grain: np.ndarray) -> None:
    """Paint surfaces, then let grass dry out in places and give fields their rows."""
    surfaces = [Surface(plan.area, "meadow"), *plan.ground, *plan.over]
    ids = _ids(maps, (surface.polygon for surface in surfaces))
    ids -= 1
    np.take(np.array([material(surface.material) for surface in surfaces], np.uint8), ids, out=maps.material)
    np.take(np.array([surface.tone for surface in surfaces], np.float32), ids, out=maps.shade)
    np.take(np.array([surface.height_m * 100 for surface in surfaces], np.uint16), ids, out=maps.height_cm)
    coarse = _coarse(random, ids.shape, maps.step_m)
    _dry_out(maps, coarse + 0.5 * grain)
    _draw_rows(maps, surfaces, ids, coarse)
    wet = np.isin(np.arange(len(MATERIALS)), [material("water"), material("pool")])
    change = np.take(np.where(wet, 0.02, 0.075).astype(np.float32), maps.material)
    change *= coarse
    change += 1
    maps.shade *= change


def _coarse(random: np.random.Generator, shape: tuple[int, ...], step_m: float) -> np.ndarray:
    """Draw the slow changes of ground: noise with lumps of 4, 17 and 70 m, made on a coarse grid to save time."""
    small = -(-shape[0] // 4), -(-shape[1] // 4)
    octaves = [noise(random, small, cell=cell / step_m / 4) for cell in (4.0, 17.0, 70.0)]
    mixed = np.sum(octaves, axis=0) / np.float32(np.sqrt(3))
    large = cv2.resize(mixed, (4 * small[1], 4 * small[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large)[: shape[0], : shape[1]]


def _draw_rows(maps: Maps, surfaces: Sequence[Surface], ids: np.ndarray, coarse: np.ndarray) -> None:
    """Give fields their rows, a little uneven where the ground is."""
    rows = np.array([surface.rows_m for surface in surfaces], np.float32)
    spots = np.nonzero(np.take(rows > 0, ids))
    if len(spots[0]):
        here = ids[spots]
        angles = np.array([surface.angle for surface in surfaces], np.float32)[here]
        across = (spots[0] * np.cos(angles) - spots[1] * np.sin(angles)) * maps.step_m + 0.25 * coarse[spots]
        maps.shade[spots] *= 1 + 0.13 * np.sin(2 * np.pi * across / rows[here]) + 0.05 * np.sin(across / 2.9)


def _dry_out(maps: Maps, dryness: np.ndarray) -> None:
    """Turn grass into dry grass and dry grass into soil where the ground is dry."""
    for fresh, dry, limit in (("dry grass", "soil", 1.5), ("grass", "dry grass", 1.15), ("meadow", "dry grass", 0.7)):
        maps.material[(maps.material == material(fresh)) & (dryness > limit)] = material(dry)
    maps.material[(maps.material == material("meadow")) & (dryness < -0.9)] = material("grass")


def _local(frames: Sequence[Frame], ids: np.ndarray, spots: tuple[np.ndarray, ...], step_m: float) -> Any:
    """Distances along and across each spot's frame, and the frame's table rows."""
    table = np.array([(f.x, f.y, np.cos(f.angle), np.sin(f.angle), f.length / 2, f.width / 2) for f in frames])
    rows = table.astype(np.float32)[ids].T
    x, y = (spots[1] + 0.5) * step_m - rows[0], (spots[0] + 0.5) * step_m - rows[1]
    return (x * rows[2] + y * rows[3]).astype(np.float32), (y * rows[2] - x * rows[3]).astype(np.float32), rows


def _paint_roofs(maps: Maps, buildings: Sequence[Building], sun: Sun) -> None:
    """Paint roofs facet by facet: where wings meet, the higher one is seen."""
    layers = max((len(building.parts) for building in buildings), default=0)
    for layer in range(layers):
        chosen = [building for building in buildings if len(building.parts) > layer]
        _paint_parts(maps, chosen, layer, sun)
    if not layers:
        return
    details = [detail for building in buildings for detail in building.details]
    ids = _ids(maps, (detail.polygon for detail in details))
    spots = np.nonzero(ids)
    here = ids[spots] - 1
    maps.material[spots] = np.array([material(detail.material) for detail in details], np.uint8)[here]
    maps.height_cm[spots] += np.array([detail.height_m * 100 for detail in details], np.uint16)[here]


def _paint_parts(maps: Maps, buildings: Sequence[Building], layer: int, sun: Sun) -> None:
    """Paint one part of each building."""
    parts = [building.parts[layer] for building in buildings]
    ids = _ids(maps, (part.polygon for part in parts))
    spots = np.nonzero(ids)
    here = ids[spots] - 1
    u, v, rows = _local([part.frame for part in parts], here, spots, maps.step_m)
    kind = np.array([part.kind for part in parts], np.uint8)[here]
    pitch = np.array([part.pitch for part in parts], np.float32)[here]
    inward_u, inward_v = rows[4] - np.abs(u), rows[5] - np.abs(v)
    hipped = (kind == HIP) & (inward_u < inward_v)
    rise = np.where(hipped, inward_u, inward_v) * pitch
    height = ((np.array([part.eave_m for part in parts], np.float32)[here] + rise) * 100).astype(np.uint16)
    slope_u, slope_v = np.where(hipped, -np.sign(u) * pitch, 0), np.where(hipped, 0, -np.sign(v) * pitch)
    shade = sun.on_slope(slope_u * rows[2] - slope_v * rows[3], slope_u * rows[3] + slope_v * rows[2])
    pitched, edge = kind != FLAT, np.minimum(inward_u, inward_v)
    shade *= _courses(pitched, edge, u, v)
    ridge = np.where(kind == HIP, np.minimum(np.abs(inward_u - inward_v), np.abs(v)), np.abs(v))
    shade *= np.where(pitched & (ridge < 0.22), 1.12, 1.0)
    height = np.where(~pitched & (edge < 0.35), height + 60, height).astype(np.uint16)
    seen = height >= maps.height_cm[spots] if layer else np.ones(len(here), np.bool_)
    where = spots[0][seen], spots[1][seen]
    tone = np.array([building.tone for building in buildings], np.float32)[here]
    maps.material[where] = np.array([material(building.material) for building in buildings], np.uint8)[here][seen]
    maps.shade[where] = (tone * shade)[seen]
    maps.height_cm[where] = height[seen]


def _courses(pitched: np.ndarray, edge: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Brightness of what runs along a roof: courses of tiles and dark gutters, or the light rim of a flat roof."""
    tiles = (1 + 0.045 * np.sin(2 * np.pi * v / 0.9) + 0.03 * np.sin(u * 1.7)) * np.where(edge < 0.25, 0.88, 1.0)
    return np.asarray(np.where(pitched, tiles, np.where(edge < 0.45, 1.3, 1.0)), np.float32)


def _paint_cars(maps: Maps, cars: Sequence[Car]) -> None:
    """Paint cars with their windscreens."""
    if not cars:
        return
    ids = _ids(maps, (car.polygon for car in cars))
    spots = np.nonzero(ids)
    here = ids[spots] - 1
    u, v, rows = _local([car.frame for car in cars], here, spots, maps.step_m)
    at = u / np.maximum(rows[4], 1e-3)
    glass = ((at > 0.2) & (at < 0.46)) | ((at < -0.62) & (at > -0.84))
    maps.material[spots] = np.array([material(car.material) for car in cars], np.uint8)[here]
    maps.material[tuple(axis[glass] for axis in spots)] = material("glass")
    maps.shade[spots] = 1 - 0.12 * (np.abs(v) > 0.65)
    maps.height_cm[spots] = np.where(np.abs(at) < 0.7, 145, 95)


def _paint_crowns(maps: Maps, crowns: Sequence[Crown], sun: Sun, random: np.random.Generator) -> None:
    """Paint crowns as lumpy domes, lit from the sun's side."""
    if not crowns:
        return
    ids = _ids(maps, (crown.polygon for crown in crowns))
    spots = np.nonzero(ids)
    here = ids[spots] - 1
    table = np.array(
        [(c.x, c.y, c.radius_m, c.height_m, c.tone, *c.swings, *c.phases) for c in crowns], np.float32
    ).reshape(-1, 5 + 2 * len(WAVES))[here]
    x, y = (spots[1] + 0.5) * maps.step_m - table[:, 0], (spots[0] + 0.5) * maps.step_m - table[:, 1]
    angle = np.arctan2(y, x)
    swing = sum(table[:, 5 + k] * np.sin(wave * angle + table[:, 9 + k]) for k, wave in enumerate(WAVES))
    ratio = np.clip(np.hypot(x, y) / (table[:, 2] * (1 + swing)), 0, 1).astype(np.float32)
    lumps = noise(random, ids.shape, cell=1.3 / maps.step_m)
    # Leaves lie in clumps: the slopes of a smooth map of lumps tilt the dome's own.
    tilt = [cv2.Sobel(lumps, cv2.CV_32F, *axis, ksize=3)[spots] / (8 * maps.step_m) for axis in ((1, 0), (0, 1))]
    steep = -0.85 * ratio / np.maximum(np.hypot(x, y), 1e-3)
    shade = sun.on_slope(steep * x + 0.42 * tilt[0], steep * y + 0.42 * tilt[1])
    height = table[:, 3] * (0.45 + 0.55 * np.sqrt(1 - ratio**2)) + 0.25 * lumps[spots]
    maps.material[spots] = np.array([material(crown.material) for crown in crowns], np.uint8)[here]
    maps.shade[spots] = table[:, 4] * shade * (1 + 0.12 * lumps[spots]) * (1.05 - 0.25 * ratio**4)
    maps.height_cm[spots] = np.maximum(height * 100, 50).astype(np.uint16)
