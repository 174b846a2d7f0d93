"""How a layer is painted, and the painting: values in, red, green, blue and alpha out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from satmask.errors import SettingError
from satmask.legend import Legend
from satmask.pictures import ERRORS

UNKNOWN = -2
"""What `channels` holds where nothing is known."""
NOTHING = -1
"""What `channels` holds where there is no class."""


@dataclass(frozen=True)
class TileStyle:
    """How a layer is painted; what doesn't apply to a layer changes nothing.

    Attributes:
        bands: Of an image, places of the bands shown as red, green and blue, from 0; by default as `display` chooses.
        percent: Of an image, share of pixels shown as black and below white; 2 and 98, and 8-bit values as they are.
        hidden: Ids of classes that are switched off.
        class_id: The class whose probability or error is shown; the first one's probability, all classes' errors.
        threshold: Of probabilities: shows where they reach it, rather than a ramp.
        grey: Of probabilities and uncertainty: grey from 0 to 255, to be coloured by who asked.

    Raises:
        SettingError: If a number is out of range.
    """

    bands: tuple[int, int, int] | None = None
    percent: tuple[float, float] | None = None
    hidden: tuple[int, ...] = ()
    class_id: int | None = None
    threshold: float | None = None
    grey: bool = False

    def __post_init__(self) -> None:
        """Hold the rules of the docstring; equal styles are equal whatever the order of what is hidden."""
        object.__setattr__(self, "hidden", tuple(sorted(set(self.hidden))))
        if self.bands is not None and (len(self.bands) != 3 or min(self.bands) < 0):
            msg = f"Bands must be three places from 0, got {self.bands}."
            raise SettingError(msg)
        if self.percent is not None and not (len(self.percent) == 2 and 0 <= self.percent[0] < self.percent[1] <= 100):
            msg = f"Percent must be two rising numbers from 0 to 100, got {self.percent}."
            raise SettingError(msg)
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            msg = f"Threshold must lie in 0 to 1, got {self.threshold}."
            raise SettingError(msg)


def paint_classes(channels: np.ndarray, legend: Legend, hidden: Sequence[int] = ()) -> np.ndarray:
    """Paint classes in their colours; what isn't one, or is hidden, is transparent.

    Args:
        channels: Place of each pixel's class in the legend, or `NOTHING` or `UNKNOWN`, `(height, width)`.
        legend: The classes.
        hidden: Ids that are switched off.

    Returns:
        uint8, `(height, width, 4)`.
    """
    table = np.zeros((len(legend) + 2, 4), np.uint8)
    for channel, entry in enumerate(legend):
        if entry.id not in hidden:
            table[channel] = (*entry.rgb, 255)
    # -1 and -2 look up the two last rows, which are transparent.
    return np.asarray(table[channels])


def paint_errors(truth: np.ndarray, said: np.ndarray, channel: int | None) -> np.ndarray:
    """Paint what is right, missed, invented, or taken for another class, in the colours of `satmask.pictures.ERRORS`.

    Args:
        truth: Place of each pixel's true class in the legend, or `NOTHING` or `UNKNOWN`, `(height, width)`.
        said: The same of the prediction.
        channel: The one class that counts; all by default.

    Returns:
        uint8, `(height, width, 4)`; transparent where neither has a class, or one isn't known.
    """
    known = (truth != UNKNOWN) & (said != UNKNOWN)
    there, found = (truth >= 0, said >= 0) if channel is None else (truth == channel, said == channel)
    right = there & found & (truth == said)
    picture = np.zeros((*truth.shape, 4), np.uint8)
    kinds = (right, found & ~there, there & ~found, there & found & ~right)
    for colour, kind in zip(ERRORS.values(), kinds, strict=True):
        value = int(colour[1:], 16)
        picture[kind & known] = (value >> 16, value >> 8 & 255, value & 255, 255)
    return picture


def paint_ramp(values: np.ndarray, valid: np.ndarray, name: str) -> np.ndarray:
    """Paint numbers from 0 to 1 by a colour map of matplotlib's; the smaller, the more transparent.

    Returns:
        uint8, `(height, width, 4)`.
    """
    steps = _steps(values, valid)
    picture: np.ndarray = _colour_map(name)[steps]
    picture[..., 3] = np.where(valid, np.minimum(steps.astype(np.int32) * 2, 255), 0)
    return picture


def paint_grey(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 1 as grey, opaque where something is known; uint8, `(height, width, 4)`."""
    grey = _steps(values, valid)
    return np.stack([grey, grey, grey, np.where(valid, 255, 0).astype(np.uint8)], axis=-1)


def paint_reached(values: np.ndarray, valid: np.ndarray, threshold: float, rgb: tuple[int, int, int]) -> np.ndarray:
    """Where probabilities reach a threshold, in a class's colour; compared as decisions are, in float32."""
    reached = valid & (values >= np.float32(threshold))
    return np.asarray(reached[..., None] * np.array([*rgb, 255]), np.uint8)


def _steps(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(np.clip(np.where(valid, values, 0), 0, 1) * 255), np.uint8)


@lru_cache(maxsize=4)
def _colour_map(name: str) -> np.ndarray:
    from matplotlib import colormaps

    return np.asarray(np.rint(colormaps[name](np.arange(256)) * 255), np.uint8)
