"""Pieces: what a network says about a window, and the classes that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.legend import Legend
    from satmask.model_file import ModelInfo
    from satmask.windows import Tile


@dataclass(frozen=True)
class Piece:
    """What the network says about one window.

    Attributes:
        tile: Its core is the part of the scene that this is about.
        probabilities: float32, `(height, width, classes)` of the core; NaN where not valid.
        valid: False for nodata, bool, `(height, width)` of the core.
    """

    tile: Tile
    probabilities: np.ndarray
    valid: np.ndarray


def decide(probabilities: np.ndarray, legend: Legend, thresholds: Sequence[float]) -> np.ndarray:
    """Turn probabilities into class ids.

    Exclusive classes: the most probable one. Overlapping classes: the last in draw order whose probability reaches its
    threshold; 0 where none does.

    Args:
        probabilities: `(height, width, classes)`; NaN where unknown.
        legend: The classes.
        thresholds: One for each class, 0 to 1.

    Returns:
        Ids in the legend's data type, `(height, width)`; the legend's nodata where unknown.
    """
    ids = np.asarray(legend.ids, legend.dtype)
    unknown = np.isnan(probabilities[..., 0])
    if legend.exclusive:
        classes = ids[np.argmax(probabilities, axis=-1)]
    else:
        classes = np.zeros(probabilities.shape[:2], legend.dtype)
        for channel, id_ in enumerate(ids):
            classes[probabilities[..., channel] >= np.float32(thresholds[channel])] = id_
    return np.where(unknown, np.asarray(legend.nodata, legend.dtype), classes)


def decide_pixels(probabilities: np.ndarray, info: ModelInfo) -> np.ndarray:
    """Decide each pixel as the model file says: class ids where classes exclude each other, else a mask a class."""
    if info.legend.exclusive:
        return decide(probabilities, info.legend, info.thresholds)
    return np.asarray(probabilities >= np.asarray(info.thresholds, np.float32))


def check_thresholds(thresholds: Sequence[float] | None, info: ModelInfo) -> tuple[float, ...]:
    """One threshold for each class, from what the user gave or the model file says.

    Raises:
        SettingError: If their number or size is wrong.
    """
    return info.decision.with_thresholds(thresholds).thresholds
