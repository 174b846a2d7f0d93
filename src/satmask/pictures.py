"""Labels and errors over images, as 8-bit RGB: arrays in, arrays out.

Where classes or errors have colours, colour-blind people can tell them apart; where a pixel is unknown, it looks unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from satmask.errors import SettingError
from satmask.stretching import checker, display, known_pixels, stretch, value_range

if TYPE_CHECKING:
    from satmask.legend import Legend

__all__ = [
    "ERRORS",
    "UNCLASSED",
    "WRONG",
    "Example",
    "display",
    "enlargement",
    "error_map",
    "hatch",
    "known_pixels",
    "layers",
    "overlay",
    "paint",
    "panel_key",
    "panels",
    "repeat",
    "smooth",
    "stretch",
    "value_range",
]

# Kinds of a pixel in an error map, with their colours: `tests/test_pictures.py` holds that they stay apart for
# protanopes, deuteranopes and tritanopes, and from the grey of the dimmed image.
ERRORS = {
    "true positive": "#509BE6",
    "false positive": "#FFD84D",
    "false negative": "#DD3B1E",
    "wrong class": "#FFFFFF",
}
WRONG = "#DD3B1E"
UNCLASSED = "#E9EAEC"


@dataclass(frozen=True)
class Example:
    """An image with its truth and its prediction: one row of a comparison.

    Attributes:
        rgb: uint8, `(height, width, 3)`; see `stretch`.
        truth: Class ids `(height, width)`, or bool `(height, width, classes)`.
        prediction: The same of the prediction.
        valid: False where truth is unknown, bool `(height, width)`; None where all is known.
        title: What the row is called.
    """

    rgb: npt.NDArray[np.uint8]
    truth: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None = None
    title: str = ""


def layers(labels: npt.NDArray[Any], legend: Legend) -> npt.NDArray[np.bool_]:
    """Spread labels into one mask a class.

    Args:
        labels: Class ids `(height, width)`; or a mask a class, `(height, width, classes)`; or, where the legend has one
            class, its bool mask `(height, width)`. Numbers in masks are true from 0.5.
        legend: The classes.

    Returns:
        bool, `(height, width, classes)`.

    Raises:
        SettingError: If there isn't one mask a class.
    """
    if labels.ndim == 2 and labels.dtype == np.bool_:
        labels = labels[..., None]
    if labels.ndim == 2:
        return np.stack([labels == id_ for id_ in legend.ids], axis=-1)
    if labels.shape[-1] != len(legend):
        msg = f"Labels must have one mask a class ({', '.join(legend.names)}), got shape {labels.shape}."
        raise SettingError(msg)
    return labels if labels.dtype == np.bool_ else labels >= 0.5


def paint(classes: npt.NDArray[Any], legend: Legend) -> npt.NDArray[np.uint8]:
    """Paint class ids in the legend's colours.

    Args:
        classes: Class ids or masks, as `layers` takes them.
        legend: The classes; where they overlap, a later one covers an earlier one.

    Returns:
        uint8, `(height, width, 3)`: pale grey where there is no class, a checkerboard at the legend's nodata value.

    Examples:
        >>> from satmask.legend import Legend
        >>> paint(np.array([[7]]), Legend.of({7: "water"}, colours={7: "#0000FF"})).tolist()
        [[[0, 0, 255]]]
    """
    picture = np.empty((*classes.shape[:2], 3), np.uint8)
    picture[:] = _rgb(UNCLASSED)
    if classes.ndim == 2 and classes.dtype != np.bool_:
        unknown = classes == legend.nodata
        picture[unknown] = checker(*unknown.shape)[unknown]
    return overlay(picture, classes, legend, alpha=1, outline=False)


def overlay(
    rgb: npt.NDArray[np.uint8],
    labels: npt.NDArray[Any],
    legend: Legend,
    *,
    alpha: float = 0.35,
    outline: bool = True,
) -> npt.NDArray[np.uint8]:
    """Lay the classes over an image: a see-through fill, and a crisp outline as wide as the image's size asks.

    The outline lies inside its class, so pixels without a class keep their values. Fills follow the legend's draw
    order; the outlines come above all fills, so that a covered class still shows.

    Args:
        rgb: uint8, `(height, width, 3)`.
        labels: Class ids or masks, as `layers` takes them.
        legend: The classes.
        alpha: Strength of the fill, 0 to 1.
        outline: Whether to draw outlines.

    Returns:
        uint8, `(height, width, 3)`; the input is left alone.
    """
    masks = layers(labels, legend)
    picture = rgb.astype(np.float32)
    for channel, entry in enumerate(legend):
        mask = masks[..., channel]
        picture[mask] += alpha * (np.asarray(entry.rgb, np.float32) - picture[mask])
    if outline:
        for channel, entry in enumerate(legend):
            picture[_inner_edge(masks[..., channel])] = entry.rgb
    return np.rint(picture).astype(np.uint8)


def hatch(rgb: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Grey and hatch the pixels that don't count.

    Args:
        rgb: uint8, `(height, width, 3)`.
        where: True at the pixels that don't count, bool `(height, width)`.

    Returns:
        uint8, `(height, width, 3)`; the input is left alone.
    """
    step = max(max(where.shape) // 32, 4)
    rows, columns = np.ogrid[: where.shape[0], : where.shape[1]]
    stripes = (rows + columns) % step < max(step // 4, 1)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None]
    picture = np.where(stripes[..., None], 214, grey // 4 + 92)
    return np.where(where[..., None], picture, rgb).astype(np.uint8)


def error_map(
    truth: npt.NDArray[Any],
    prediction: npt.NDArray[Any],
    *,
    valid: npt.NDArray[np.bool_] | None = None,
    rgb: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Colour each pixel by how prediction and truth differ, in the colours of `ERRORS`.

    Of masks: true positive, false positive, false negative, and, with several classes, wrong class, where one is missed
    and another one is too much. Of class ids, which exclude each other: only what is wrong is coloured (`WRONG`).

    Args:
        truth: bool masks `(height, width)` or `(height, width, classes)`, or class ids, integers `(height, width)`.
        prediction: The same of the prediction.
        valid: False where truth is unknown, bool `(height, width)`; shown as a checkerboard.
        rgb: The image, uint8 `(height, width, 3)`; it lies below, dark and grey. Without it, the ground is plain grey.

    Returns:
        uint8, `(height, width, 3)`.

    Raises:
        SettingError: If the shapes of truth and prediction differ.

    Examples:
        >>> error_map(np.array([[True]]), np.array([[False]])).tolist()  # missed
        [[[221, 59, 30]]]
    """
    if truth.shape != prediction.shape:
        msg = f"Prediction must have the shape of its truth, got {prediction.shape} and {truth.shape}."
        raise SettingError(msg)
    picture = _dimmed(rgb, *truth.shape[:2])
    if truth.ndim == 2 and truth.dtype != np.bool_:
        picture[truth != prediction] = _rgb(WRONG)
    else:
        truth, prediction = np.atleast_3d(truth) > 0, np.atleast_3d(prediction) > 0
        hit = (truth & prediction).any(axis=-1)
        extra, missed = (prediction & ~truth).any(axis=-1), (truth & ~prediction).any(axis=-1)
        kinds = (hit & ~extra & ~missed, extra & ~missed, missed & ~extra, extra & missed)
        for colour, kind in zip(ERRORS.values(), kinds, strict=True):
            picture[kind] = _rgb(colour)
    if valid is not None:
        picture[~valid] = checker(*valid.shape)[~valid]
    return picture


def panels(example: Example, legend: Legend, *, side: int = 480) -> dict[str, npt.NDArray[np.uint8]]:
    """Draw an example four times: image, truth, prediction and error.

    Args:
        example: Image, truth and prediction.
        legend: The classes.
        side: Small images are enlarged by a whole number until their longer side has this many pixels, so that
            outlines come out fine.

    Returns:
        uint8 RGB pictures of one size under "image", "truth", "prediction" and "error".
    """
    factor = enlargement(example.rgb, side)
    rgb = smooth(example.rgb, factor)
    truth, prediction = repeat(example.truth, factor), repeat(example.prediction, factor)
    valid = None if example.valid is None else repeat(example.valid, factor)
    known = np.ones(rgb.shape[:2], np.bool_) if valid is None else valid
    drawn = [
        overlay(rgb, labels, legend, alpha=0.6 if legend.exclusive else 0.35, outline=not legend.exclusive)
        for labels in (truth, prediction)
    ]
    compared = [
        _as_ids(labels, legend) if legend.exclusive else layers(labels, legend) for labels in (truth, prediction)
    ]
    return {
        "image": rgb,
        "truth": hatch(drawn[0], ~known),
        "prediction": drawn[1],
        "error": error_map(compared[0], compared[1], valid=valid, rgb=rgb),
    }


def panel_key(legend: Legend) -> list[tuple[str, str]]:
    """Name the colours of `panels`: name and `#RRGGBB` of each class, then of each kind of error."""
    kinds = ERRORS if len(legend) > 1 else {kind: ERRORS[kind] for kind in list(ERRORS)[:3]}
    errors = [("wrong", WRONG)] if legend.exclusive else list(kinds.items())
    return [(entry.name, entry.colour) for entry in legend] + errors


def _rgb(colour: str) -> tuple[int, int, int]:
    value = int(colour[1:], 16)
    return value >> 16, value >> 8 & 255, value & 255


def _dimmed(rgb: npt.NDArray[np.uint8] | None, height: int, width: int) -> npt.NDArray[np.uint8]:
    """The image in dark grey, or plain dark grey without one."""
    if rgb is None:
        return np.full((height, width, 3), 64, np.uint8)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) // 3 + 14
    return np.repeat(grey[..., None], 3, axis=2)


def _inner_edge(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The rim of a mask, inside it; none along the image's edge, where the object may go on."""
    wide = max(round(max(mask.shape) / 320), 1)
    kernel = np.ones((2 * wide + 1, 2 * wide + 1), np.uint8)
    inside = cv2.erode(mask.astype(np.uint8), kernel)
    return np.asarray(mask & (inside == 0), np.bool_)


def enlargement(rgb: npt.NDArray[np.uint8], side: int) -> int:
    """How many times larger an image must be for its longer side to reach `side`."""
    return max(-(-side // int(max(rgb.shape[:2]))), 1)


def smooth(rgb: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Enlarge an image without making its pixels visible."""
    if factor == 1:
        return rgb
    larger: npt.NDArray[np.uint8] = cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return larger


def repeat(array: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    """Enlarge labels `(height, width, …)` by a whole number, so that none are invented."""
    return np.repeat(np.repeat(array, factor, axis=0), factor, axis=1)


def _as_ids(labels: npt.NDArray[Any], legend: Legend) -> npt.NDArray[Any]:
    """Class ids of exclusive labels; where a pixel has no class, nodata."""
    if labels.ndim == 2:
        return labels
    masks = layers(labels, legend)
    return np.where(masks.any(axis=-1), np.asarray(legend.ids)[masks.argmax(axis=-1)], legend.nodata)
