"""Products over their reference, before and after registration. Arrays in, figures out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from satmask.bands import Registration, overlay, resample
from satmask.figures import BEST, INK, SHEET, SMALL, TEXT, at_most, blank, show, wrapped
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure

CLOSEST, FARTHEST = 240, 1500  # sides of what is shown, in pixels of the reference
COARSE = 60  # pixels of the product along a side
TINTED = "#FFB866"  # what the product's squares look like where it is bright


def registration_sheet(
    fixed: npt.NDArray[np.generic],
    rows: Sequence[tuple[str, npt.NDArray[np.generic], Registration]],
    *,
    title: str = "",
) -> Figure:
    """Draw the middle of each product over the reference as a chequerboard: as it came, and as it is put.

    Args:
        fixed: The reference, `(height, width, bands)`; NaN is nodata.
        rows: Name, pixels `(h, w, bands)` and registration of each product.
        title: Title of the sheet.

    Returns:
        A figure for `figures.save` or `png_bytes`.
    """
    key = [("reference", "#B0B0B0"), ("product", TINTED)]
    panel = SHEET / 2 - 0.1
    figure = blank(SHEET, (panel + 0.45) * len(rows), title=title, key=key)
    axes = figure.subplots(len(rows), 2, squeeze=False)
    for line, (name, moving, found) in zip(axes, rows, strict=True):
        for axis, shift, when in zip(line, ((0.0, 0.0), found.shift), ("before", "after"), strict=True):
            show(axis, at_most(_middle(moving, fixed, shift), 900), interpolation="nearest")
            axis.set_title(f"{name}, {when}", fontsize=TEXT, color=INK, pad=4, loc="left")
        said = f"{found.reason}; stands out by {found.score:.0%}"
        line[1].set_xlabel(wrapped(said, 48), fontsize=SMALL, color=INK if found.accepted else BEST, loc="left")
    return figure


def _middle(
    moving: npt.NDArray[np.generic], fixed: npt.NDArray[np.generic], shift: tuple[float, float]
) -> npt.NDArray[np.uint8]:
    """The middle of both, so large that the product's pixels can be told apart."""
    height, width = fixed.shape[:2]
    wanted = int(np.clip(COARSE * height / moving.shape[0], CLOSEST, FARTHEST))
    tall, wide = min(wanted, height), min(wanted, width)
    window = Window((height - tall) // 2, (width - wide) // 2, tall, wide)
    laid = resample(moving, (height, width), window=window, shift=shift)
    return overlay(laid.mean(axis=-1), fixed[window.slices])
