"""Pixel scores against labels: polygons or masks drawn on the prediction's grid, window by window."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from pathlib import Path

from satmask.errors import DataError, SatmaskError
from satmask.grid import Grid
from satmask.labels import Labels
from satmask.scene import Scene
from satmask.scoring.pixels import Confusion, confusion
from satmask.scoring.rasters import FolderScore, id_reader, same_grid, windows_of
from satmask.stack import Stack, open_imagery


def score_labels(
    prediction: str | Path, labels: Labels, *, grid: Grid | None = None, mapping: Mapping[int, int] | None = None
) -> Confusion:
    """Score a raster of class ids against labels on the same grid.

    Pixels outside the prediction (its nodata) and unlabelled ones aren't counted.

    Args:
        prediction: Raster of class ids, one band; or the probabilities that predict wrote, for classes that overlap.
        labels: The truth; its legend's classes are scored.
        grid: The grid of the labels, to be compared with the prediction's.
        mapping: Class id of the labels for ids of the prediction that differ, such as `{1: 100}`.

    Returns:
        The counts.

    Raises:
        DataError: If the grids differ, or the prediction holds ids that the legend doesn't.
        SceneError: If the prediction can't be read.
    """
    legend = labels.legend
    with Scene(prediction) as scene:
        if grid is not None and (difference := same_grid(scene.grid, grid)):
            msg = f"Prediction must lie on the grid of its labels, got {difference} for {scene.path.name}."
            raise DataError(msg)
        total = Confusion.empty(legend)
        try:
            read = id_reader(scene, legend, mapping)
            for window in windows_of(scene.grid):
                said, known = read(window)
                truth = labels.read(window)
                total += confusion(truth.classes, said, legend, known & truth.labelled)
        except DataError as error:
            msg = f"{error} ({scene.path.name})"
            raise DataError(msg) from error
    return total


def score_samples(
    predictions: Mapping[str, Path],
    truths: Mapping[str, tuple[Labels, Path | Stack]],
    *,
    mapping: Mapping[int, int] | None = None,
) -> FolderScore:
    """Score the predictions of a data set's images against their labels.

    A prediction that can't be scored is reported, and the rest goes on.

    Args:
        predictions: Raster of class ids of each image, by name.
        truths: Labels and file of each image, by name; the labels share a legend.
        mapping: See `score_labels`.

    Returns:
        Counts in all and of each image, files without a partner, and images that failed.

    Raises:
        DataError: If no name is in both.
    """
    names = sorted(predictions.keys() & truths.keys())
    if not names:
        msg = f"Predictions must be named after the images, got {min(predictions, default='none')!r} "
        msg += f"and {min(truths, default='none')!r}."
        raise DataError(msg)
    parts: dict[str, Confusion] = {}
    failed: dict[str, str] = {}
    for name in names:
        labels, image = truths[name]
        try:
            with open_imagery(image) as scene:
                grid = scene.grid
            parts[name] = score_labels(predictions[name], labels, grid=grid, mapping=mapping)
        except SatmaskError as error:
            failed[name] = str(error)
    total = functools.reduce(operator.add, parts.values(), Confusion.empty(truths[names[0]][0].legend))
    alone = [predictions[name] for name in sorted(predictions.keys() - set(names))]
    alone += [Path(str(truths[name][1])) for name in sorted(truths.keys() - set(names))]
    return FolderScore(total, parts, tuple(alone), failed)
