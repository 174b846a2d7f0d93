"""Labelling: the windows of a place in which labels would help most, the uncertain ones that look like none labelled yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import shapely

from satmask.errors import SettingError
from satmask.grid import Grid
from satmask.novelty import choose_windows, describe_windows
from satmask.scene import Scene
from satmask.viewing.corrections import Label
from satmask.viewing.counting import CELL, Counts
from satmask.viewing.findings import Finding, placed
from satmask.viewing.shelf import Place
from satmask.windows import Window

LEAST = 0.25
"""Share of the largest window's pixels that one must have: slivers at edges look unlike everything else."""


@dataclass(frozen=True, eq=False)
class Looks:
    """What the windows of a place look like.

    Attributes:
        descriptors: See `satmask.novelty.describe_windows`, float64, `(rows, columns, numbers)`.
        pixels: Valid pixels, int64, `(rows, columns)`.
    """

    descriptors: np.ndarray
    pixels: np.ndarray


def describe_place(place: Place) -> Looks:
    """Describe the windows of 256 × 256 pixels of a place's image, a row of them at a time.

    Raises:
        SettingError: If it has no image.
        SceneError: If it can't be read.
    """
    image = place.first("image")
    if image is None or image.file is None:
        msg = f"Place must have its image for windows to be compared, got none for {place.name}. Start with --scenes."
        raise SettingError(msg)
    scene = image.file.open(Scene, Scene.close)
    with scene:
        parts = [_describe_row(scene, row) for row in range(0, scene.grid.height, CELL)]
    return Looks(np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]))


def _describe_row(scene: Scene, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Describe a row of windows, some of them at a time."""
    height, step = min(CELL, scene.grid.height - row), 4 * CELL
    found = []
    for column in range(0, scene.grid.width, step):
        pixels = scene.read(Window(row, column, height, min(step, scene.grid.width - column)))
        found.append(describe_windows(pixels.values, pixels.valid, CELL))
    return np.concatenate([one[0] for one in found], axis=1), np.concatenate([one[1] for one in found], axis=1)


def labelled_windows(grid: Grid, labels: Iterable[Label]) -> np.ndarray:
    """Say in which windows somebody has said something: labels that nobody looked at don't count.

    Args:
        grid: Of the scene.
        labels: Labels, in the scene's CRS.

    Returns:
        bool, `(rows, columns)`.
    """
    rows, columns = -(-grid.height // CELL), -(-grid.width // CELL)
    a, b, c, d, e, f = tuple(~grid.transform)[:6]
    turn, shift = np.array([[a, d], [b, e]]), np.array([c, f])
    shapes = [shapely.transform(one.shape, lambda at: at @ turn + shift) for one in labels if one.status != "proposed"]
    top, left = (part.ravel() * CELL for part in np.indices((rows, columns)))
    boxes = shapely.STRtree(shapely.box(left, top, left + CELL, top + CELL))
    found = np.zeros(rows * columns, bool)
    if shapes:
        found[boxes.query(shapes, predicate="intersects")[1]] = True
    return found.reshape(rows, columns)


def label_queue(place: Place, counts: Counts, looks: Looks, labelled: np.ndarray, *, count: int = 50) -> list[Finding]:
    """List the windows in which labels would help most, see `satmask.novelty.choose_windows`.

    Args:
        place: The place.
        counts: What was counted of it: how uncertain its windows are.
        looks: What they look like.
        labelled: Of `labelled_windows`.
        count: How many at most.

    Raises:
        SettingError: If it has no probabilities, or its image lies on another grid.
    """
    unsure = counts.uncertainty
    if unsure is None or unsure.shape != looks.pixels.shape:
        msg = f"Place must have probabilities to say where labels would help, got none for {place.name}."
        raise SettingError(msg)
    whole = looks.pixels >= max(LEAST * looks.pixels.max(), 1)
    known = whole & np.isfinite(unsure) & np.isfinite(looks.descriptors).all(axis=-1)
    rows, columns = np.nonzero(known)
    chosen = choose_windows(looks.descriptors[known], unsure[known], labelled[known], count=count)
    return [
        _finding(place, int(rows[at]), int(columns[at]), float(unsure[rows[at], columns[at]]), novelty)
        for at, novelty in chosen
    ]


def _finding(place: Place, row: int, column: int, unsure: float, novelty: float) -> Finding:
    top, left = row * CELL, column * CELL
    bottom, right = min(top + CELL, place.grid.height), min(left + CELL, place.grid.width)
    about = placed(
        place, "label", "", bounds=(left, top, right, bottom), inner=((left + right) / 2, (top + bottom) / 2), area_px=0.0
    )  # fmt: skip
    return Finding(**about, iou=None, certainty=1 - unsure, wrong_px=0.0, novelty=novelty)
