"""What is tried: thresholds, sizes and refinements of a class, in pixels or on the ground."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from satmask.refinements import Refinement

if TYPE_CHECKING:
    from collections.abc import Collection

    from satmask.model_info import ModelInfo

THRESHOLDS = (0.01, 0.02, *(round(0.05 * step, 2) for step in range(1, 20)), 0.98, 0.99)
# In pixels; on the ground, times the side or the area of a pixel of the training images.
AREAS_PX = (0, *(2**step for step in range(1, 15)))
REFINED_PX = {
    "separate": (0, 0.5, 1, 1.5, 2, 3, 4, 6),
    "opening": (0, 1, 1.5, 2, 3),
    "closing": (0, 1, 1.5, 2),
    "hole": (0, 8, 32, 128, 512),
}


# All that can be chosen.
PARTS = ("threshold", "area", *REFINED_PX)


@dataclass(frozen=True)
class Setting:
    """How a class is decided, but for the smallest area; in pixels and square pixels, or in metres.

    Attributes:
        threshold: Probability from which a pixel has it; None where classes exclude each other.
        separate: Depth at which objects are parted.
        opening: Radius of the opening.
        closing: Radius of the closing.
        hole: Size from which a hole stays.
    """

    threshold: float | None
    separate: float = 0.0
    opening: float = 0.0
    closing: float = 0.0
    hole: float = 0.0

    def refinement(self, name: str, *, in_m2: bool) -> Refinement:
        """What it does to masks of a class."""
        keys = ("open_m", "close_m", "min_hole_m2", "separate_m") if in_m2 else ("open_px", "close_px", "min_hole_px", "separate_px")  # fmt: skip
        return Refinement(name, **dict(zip(keys, (self.opening, self.closing, self.hole, self.separate), strict=True)))

    @property
    def plain(self) -> tuple[float, ...]:
        """All numbers but the threshold."""
        return tuple(getattr(self, field.name) for field in fields(self)[1:])


@dataclass(frozen=True)
class Choices:
    """What is tried for one class, rising; its own numbers are among them.

    Attributes:
        name: The class.
        own: How it is decided now.
        own_area: Place of its smallest area.
        thresholds: Thresholds; none where classes exclude each other.
        areas: Smallest areas.
        refined: Values of each other field of `Setting`.
        in_m2: Whether all this is in metres and square metres.
    """

    name: str
    own: Setting
    own_area: int
    thresholds: tuple[float, ...]
    areas: tuple[float, ...]
    refined: dict[str, tuple[float, ...]]
    in_m2: bool

    def only(self, parts: Collection[str]) -> Choices:
        """The same, but that all but some of `PARTS` stays as it is."""
        own = self.own.threshold
        return replace(
            self,
            thresholds=self.thresholds if "threshold" in parts or own is None else (own,),
            own_area=self.own_area if "area" in parts else 0,
            areas=self.areas if "area" in parts else (self.areas[self.own_area],),
            refined={key: values for key, values in self.refined.items() if key in parts},
        )


def choices(info: ModelInfo, at: int, *, in_m2: bool, objects: bool) -> Choices:
    """Say what is tried for a class.

    Args:
        info: How it is decided now, and what a pixel of the training images is.
        at: Its channel.
        in_m2: Whether sizes are metres and square metres.
        objects: Whether objects count, rather than pixels.

    Returns:
        What is tried. Parting objects changes no pixel, and masks of classes that exclude each other stay as they are.
    """
    low, high = info.gsd_m or (1.0, 1.0)
    area = low * high if in_m2 else 1.0
    rule = info.decision.refinement(info.legend.names[at])
    suffix, square = ("m", "m2") if in_m2 else ("px", "px")
    own = Setting(
        None if info.legend.exclusive else info.thresholds[at],
        separate=getattr(rule, f"separate_{suffix}"),
        opening=getattr(rule, f"open_{suffix}"),
        closing=getattr(rule, f"close_{suffix}"),
        hole=getattr(rule, f"min_hole_{square}"),
    )
    smallest = (info.min_area_m2 if in_m2 else info.min_area_px)[at]
    areas = _with([side * area for side in AREAS_PX], smallest)
    tried = [key for key in REFINED_PX if (objects if key == "separate" else not info.legend.exclusive)]
    unit = {"hole": area}
    refined = {
        key: _with([value * unit.get(key, float(np.sqrt(area))) for value in REFINED_PX[key]], getattr(own, key))
        for key in tried
    }
    thresholds = () if own.threshold is None else _with(THRESHOLDS, own.threshold)
    return Choices(info.legend.names[at], own, areas.index(smallest), thresholds, areas, refined, in_m2)


def _with(tried: list[float] | tuple[float, ...], own: float) -> tuple[float, ...]:
    return tuple(sorted({*map(float, tried), float(own)}))
