"""Whether a scene fits a model: it is opened as the model wants it, refused, or doubted in plain words."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from satmask.errors import ModelError, SceneError
from satmask.stack import open_imagery

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from satmask.model_file import ModelInfo
    from satmask.scene import Imagery
    from satmask.stack import Stack


def open_for(info: ModelInfo, image: str | Path | Stack, *, bands: Sequence[int | str] | None = None) -> Imagery:
    """Open a scene with the bands that a model wants, and refuse one that it can't understand.

    Bands are taken as named, else by the model's band names where the scene has them all, else as they come.

    Args:
        info: What the model file says.
        image: The scene: a raster, a stack file or a stack.
        bands: Bands by number from 1 or by name, in the model's order.

    Returns:
        The open scene.

    Raises:
        SceneError: If the scene can't be opened.
        ModelError: If bands or data type don't fit.
    """
    names = tuple(band.name for band in info.bands)
    scene = open_imagery(image, bands=bands)
    if bands is None and scene.bands != names and len(scene.bands) != 1:
        scene.close()
        scene = _open_by_name(image, names)
    problem = _misfit(info, scene)
    if problem:
        scene.close()
        raise ModelError(problem)
    return scene


def _open_by_name(image: str | Path | Stack, names: tuple[str, ...]) -> Imagery:
    """Open a scene whose bands aren't called as the model's: by name if all are there, else as many as it has."""
    with open_imagery(image) as scene:
        every = scene.all_bands
        plain = len(scene.bands)
    # Some may be computed from those there are.
    with contextlib.suppress(SceneError):
        return open_imagery(image, bands=names)
    # Four bands where the model wants four: the one taken for alpha is near infrared.
    whole = len(every) == len(names) != plain
    return open_imagery(image, bands=range(1, len(every) + 1) if whole else None)


def _misfit(info: ModelInfo, scene: Imagery) -> str:
    """What keeps a scene from being understood; empty if nothing does."""
    if len(scene.bands) != len(info.bands):
        wanted = ", ".join(band.name for band in info.bands)
        return (
            f"Scene must have the {len(info.bands)} bands of the model ({wanted}), got {len(scene.bands)} "
            f"({', '.join(scene.bands)}) in {scene.name}. Pass --bands to choose and order them."
        )
    model, values = np.dtype(info.dtype), scene.sample()
    largest = max((high for _, high in info.value_range), default=0.0)
    seen = float(np.percentile(values, 99)) if values.size else 0.0
    if model.itemsize == 1 and scene.dtype.itemsize > 1 and seen > largest:
        return (
            f"Scene must hold 8-bit values as in training (0 to {largest:g}), got {scene.dtype} with a 99th percentile of "
            f"{seen:g} in {scene.name}. Convert it to 8 bits, or use a model trained on such data."
        )
    if model.itemsize > 1 and model.kind in "ui" and scene.dtype == np.uint8 and largest > 255:
        return (
            f"Scene must hold {info.dtype} values up to about {largest:g} as in training, got uint8 in {scene.name}. "
            f"Use the original data, or a model trained on 8-bit images."
        )
    return ""


def doubts(info: ModelInfo, scene: Imagery) -> list[str]:
    """Say in plain words what makes a result doubtful although the scene can be read."""
    found = []
    if not info.local:
        found.append(
            f"Network {info.network!r} sees a whole window at once, so results change a little with the windows."
        )
    gsd_m = scene.grid.gsd_m
    if info.gsd_m and gsd_m and not info.gsd_m[0] / 1.5 <= gsd_m <= info.gsd_m[1] * 1.5:
        low, high = info.gsd_m
        found.append(f"{scene.name} has pixels of {gsd_m:.2f} m; the model was trained on {low:.2f} to {high:.2f} m.")
    values = scene.sample()
    if not values.size:
        return [*found, f"{scene.name} holds nothing but nodata."]
    high = np.percentile(values, 99, axis=0)
    for name, value, (smallest, largest) in zip(scene.bands, high, info.value_range, strict=True):
        # What can be negative, as an index can, isn't dark near 0.
        if smallest >= 0 and largest > 0 and value < largest / 8:
            found.append(
                f"Band {name!r} of {scene.name} is dark: 99 % lie below {value:g}, in training up to {largest:g}."
            )
        elif value > 1.5 * largest > 0:
            found.append(f"Band {name!r} of {scene.name} reaches {value:g}, in training only {largest:g}.")
    return found
