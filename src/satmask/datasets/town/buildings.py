"""Houses and halls: footprints made of rectangles, each under a roof of its own. Metres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import Polygon

from satmask.datasets.town.streets import Frame, polygons_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry

FLAT, GABLE, HIP = 0, 1, 2

_PITCHED = (
    ("red tile", 0.30),
    ("brown tile", 0.2),
    ("grey shingle", 0.22),
    ("slate", 0.14),
    ("light metal", 0.1),
    ("blue metal", 0.04),
)
_LEVEL = (("roof gravel", 0.35), ("bitumen", 0.25), ("membrane", 0.2), ("light metal", 0.2))


@dataclass(frozen=True)
class Part:
    """A rectangle of a footprint and the roof over it.

    Attributes:
        frame: The rectangle; the ridge runs along it.
        kind: `FLAT`, `GABLE` or `HIP`.
        eave_m: Height of the walls.
        pitch: Rise of the roof a metre.
    """

    frame: Frame
    kind: int
    eave_m: float
    pitch: float

    @cached_property
    def polygon(self) -> Polygon:
        """The rectangle as a polygon."""
        half_length, half_width = self.frame.length / 2, self.frame.width / 2
        return self.frame.rectangle((-half_length, half_length), (-half_width, half_width))


@dataclass(frozen=True)
class Detail:
    """A small thing on a roof: a chimney, a solar panel, a machine.

    Attributes:
        polygon: Its outline.
        material: Name of its material.
        height_m: How far it rises over the roof.
    """

    polygon: Polygon
    material: str
    height_m: float


@dataclass(frozen=True)
class Building:
    """A building as seen from above.

    Attributes:
        parts: The main part first.
        material: Name of the roof's material.
        tone: Brightness of this roof relative to its material.
        details: What stands on the roof.
    """

    parts: tuple[Part, ...]
    material: str
    tone: float
    details: tuple[Detail, ...] = ()

    @cached_property
    def polygon(self) -> BaseGeometry:
        """The footprint: the union of the parts."""
        return shapely.union_all([part.polygon for part in self.parts])


def pick(random: np.random.Generator, choices: Sequence[tuple[str, float]]) -> str:
    """Draw a name by weight."""
    names, weights = zip(*choices, strict=True)
    shares = np.asarray(weights, np.float64)
    return str(names[int(random.choice(len(names), p=shares / shares.sum()))])


def house(random: np.random.Generator, frame: Frame, *, style: str, storeys: int) -> Building:
    """Draw a house with a pitched roof: a rectangle, or an L, T or U.

    Args:
        random: Where chance comes from.
        frame: The main wing; wings grow across it, towards positive.
        style: Material that most roofs of the street share.
        storeys: How tall it is.
    """
    kind = GABLE if random.random() < 0.68 else HIP
    eave, pitch = 2.6 * storeys + 0.4, float(random.uniform(0.38, 0.75))
    parts = [Part(frame, kind, eave, pitch)]
    shape, length, width = random.random(), frame.length, frame.width
    if shape > 0.45 and length > 9:
        thick = min(float(random.uniform(0.38, 0.55)) * length, width * 0.95)
        out = float(random.uniform(2.2, 5.0))
        middles = [(length - thick) / 2]
        if shape > 0.92:
            thick = 0.3 * length
            middles = [(length - thick) / 2, -(length - thick) / 2]
        elif shape > 0.8:
            middles = [float(random.uniform(-0.1, 0.1)) * length]
        elif random.random() < 0.5:
            middles = [-middles[0]]
        for middle in middles:
            x, y = frame.point(middle, (width / 2 + out) / 2)
            wing = Frame(x, y, frame.angle + np.pi / 2, width / 2 + out, thick)
            parts.append(Part(wing, kind, eave, pitch))
    material = style if random.random() < 0.6 else pick(random, _PITCHED)
    return Building(tuple(parts), material, tone(random), tuple(_house_details(random, parts[0])))


def _house_details(random: np.random.Generator, part: Part) -> list[Detail]:
    """A chimney here, solar panels there, windows in the roof."""
    frame, details = part.frame, []
    if random.random() < 0.55:
        u, v = random.uniform(-0.3, 0.3) * frame.length, random.uniform(-0.2, 0.2) * frame.width
        details.append(Detail(frame.rectangle((u - 0.35, u + 0.35), (v - 0.3, v + 0.3)), "brick", 1.1))
    side = 1 if random.random() < 0.5 else -1
    low, high = sorted((side * 0.12 * frame.width, side * 0.40 * frame.width))
    if random.random() < 0.14 and frame.length > 7:
        u = random.uniform(0.2, 0.36) * frame.length
        details.append(Detail(frame.rectangle((-u, u * 0.6), (low, high)), "solar panel", 0.0))
    elif random.random() < 0.3:
        middle = (low + high) / 2
        details += [
            Detail(frame.rectangle((u - 0.4, u + 0.4), (middle - 0.5, middle + 0.5)), "glass", 0.0)
            for u in (-0.22 * frame.length, 0.2 * frame.length)
        ]
    return details


def hall(random: np.random.Generator, frame: Frame, *, height_m: float) -> Building:
    """Draw a large building: flat with machines on its roof, or a low metal gable."""
    low_gable = random.random() < 0.3 and height_m < 9
    main = Part(frame, GABLE if low_gable else FLAT, height_m, 0.14 if low_gable else 0.0)
    parts = [main]
    if not low_gable and random.random() < 0.45:
        thick = float(random.uniform(0.3, 0.5)) * frame.length
        middle = (frame.length - thick) / 2 * (1 if random.random() < 0.5 else -1)
        out = float(random.uniform(0.25, 0.5)) * frame.width
        x, y = frame.point(middle, (frame.width / 2 + out) / 2)
        lower = max(height_m - float(random.choice([0.0, 3.0])), 3.0)
        parts.append(Part(Frame(x, y, frame.angle + np.pi / 2, frame.width / 2 + out, thick), FLAT, lower, 0.0))
    material = "light metal" if low_gable else pick(random, _LEVEL)
    details = [] if low_gable else _machines(random, frame)
    return Building(tuple(parts), material, tone(random), tuple(details))


def _machines(random: np.random.Generator, frame: Frame) -> list[Detail]:
    """Air handling units, hatches and skylights, in rows as engineers put them."""
    details = []
    for _ in range(int(random.integers(2, 4 + int(frame.length * frame.width / 160)))):
        u, v = random.uniform(-0.38, 0.38) * frame.length, random.uniform(-0.33, 0.33) * frame.width
        half_u, half_v = random.uniform(0.5, 1.6), random.uniform(0.5, 1.3)
        name, rise = (("equipment", 1.4), ("glass", 0.3), ("membrane", 0.5))[int(random.integers(3))]
        details.append(Detail(frame.rectangle((u - half_u, u + half_u), (v - half_v, v + half_v)), name, rise))
    return details


def shed(random: np.random.Generator, frame: Frame) -> Building:
    """Draw a shed or a garage."""
    kind = GABLE if random.random() < 0.6 else FLAT
    material = pick(random, (("light metal", 0.25), ("grey shingle", 0.3), ("bitumen", 0.25), ("red tile", 0.2)))
    part = Part(frame, kind, 2.2, 0.35 if kind else 0.0)
    return Building((part,), material, tone(random))


def tone(random: np.random.Generator) -> float:
    """Draw how light or dark, old or new, one specimen of a material is."""
    return float(np.clip(random.normal(1.0, 0.16), 0.65, 1.4))


def street_style(random: np.random.Generator) -> str:
    """Draw the roof material that a neighbourhood prefers."""
    return pick(random, _PITCHED)


def fits(building: Building, ground: BaseGeometry) -> bool:
    """Whether a building is one valid polygon that lies within its ground."""
    return len(polygons_of(building.polygon)) == 1 and bool(ground.contains(building.polygon))
