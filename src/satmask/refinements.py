"""Refinements: what is done to the masks of a class behind its threshold: opened, closed, holes filled, objects parted."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from satmask.errors import SettingError
from satmask.morphology import closed, filled, opened


@dataclass(frozen=True)
class Refinement:
    """What is done to one class, in this order; each in pixels, or on the ground where a pixel's size is known.

    Where both are given, the larger one counts.

    Attributes:
        name: The class.
        open_px: Radius of the disc that has to fit into what stays.
        open_m: The same in metres.
        close_px: Radius of the disc that has to fit into gaps that stay.
        close_m: The same in metres.
        min_hole_px: Holes with fewer pixels are filled.
        min_hole_m2: The same in square metres.
        separate_px: How far the distance from the edge has to fall between two objects for them to be parted, see
            `satmask.separation`; polygons are parted, masks aren't changed. 0 parts nothing.
        separate_m: The same in metres.

    Raises:
        SettingError: If a number is below 0.

    Examples:
        >>> Refinement("house", open_m=0.5).opening_px(0.25), Refinement("house").any
        (2.0, False)
    """

    name: str
    open_px: float = 0.0
    open_m: float = 0.0
    close_px: float = 0.0
    close_m: float = 0.0
    min_hole_px: float = 0.0
    min_hole_m2: float = 0.0
    separate_px: float = 0.0
    separate_m: float = 0.0

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        for key in KEYS:
            if not 0 <= getattr(self, key) < np.inf:
                msg = f"Refinement must have {key} of 0 or more, got {getattr(self, key)} for {self.name}."
                raise SettingError(msg)

    @property
    def any(self) -> bool:
        """Whether it does anything."""
        return self != Refinement(self.name)

    @property
    def changes_masks(self) -> bool:
        """Whether it does more than part objects."""
        return any((self.open_px, self.open_m, self.close_px, self.close_m, self.min_hole_px, self.min_hole_m2))

    def opening_px(self, gsd_m: float | None) -> float:
        """Radius of the opening, for pixels of a size in metres, or of none."""
        return _larger(self.open_px, self.open_m, gsd_m)

    def closing_px(self, gsd_m: float | None) -> float:
        """Radius of the closing."""
        return _larger(self.close_px, self.close_m, gsd_m)

    def hole_px(self, gsd_m: float | None) -> float:
        """Pixels from which a hole stays."""
        return _larger(self.min_hole_px, self.min_hole_m2, gsd_m and gsd_m**2)

    def depth_px(self, gsd_m: float | None) -> float:
        """Depth at which objects are parted."""
        return _larger(self.separate_px, self.separate_m, gsd_m)

    def to_dict(self) -> dict[str, float]:
        """What is done, as plain values; what isn't is left out."""
        return {key: value for key, value in asdict(self).items() if key in KEYS and value}


KEYS = ("open_px", "open_m", "close_px", "close_m", "min_hole_px", "min_hole_m2", "separate_px", "separate_m")


def widen(mask: np.ndarray, refinement: Refinement, *, gsd_m: float | None) -> np.ndarray:
    """Open and close a mask: what doesn't need to know groups of pixels as a whole.

    Args:
        mask: bool, `(height, width)`.
        refinement: What is done.
        gsd_m: Side of a pixel in metres, where known.

    Returns:
        A mask, bool, `(height, width)`; each pixel depends on those within `reach`.
    """
    return closed(opened(mask, refinement.opening_px(gsd_m)), refinement.closing_px(gsd_m))


def reach(refinement: Refinement, *, gsd_m: float | None) -> int:
    """Find how far pixels lie at most that `widen` looks at.

    Examples:
        >>> reach(Refinement("house", open_px=1.5, close_px=2), gsd_m=None)
        10
    """
    return sum(2 * int(np.ceil(radius)) + 1 for radius in (refinement.opening_px(gsd_m), refinement.closing_px(gsd_m)))


def refine(mask: np.ndarray, refinement: Refinement, *, gsd_m: float | None = None) -> np.ndarray:
    """Open and close a mask, and fill its holes.

    Args:
        mask: bool, `(height, width)`.
        refinement: What is done.
        gsd_m: Side of a pixel in metres, where known.

    Returns:
        A mask, bool, `(height, width)`.

    Examples:
        >>> mask = np.pad(np.ones((3, 3), bool), 2)
        >>> mask[3, 3] = False
        >>> int(refine(mask, Refinement("house", min_hole_px=2)).sum())
        9
    """
    return filled(widen(mask, refinement, gsd_m=gsd_m), refinement.hole_px(gsd_m))


def _larger(pixels: float, ground: float, unit: float | None) -> float:
    return max(pixels, ground / unit if unit else 0.0)
