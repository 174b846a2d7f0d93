"""The DSTL challenge's table of polygons: predicted masks to `MULTIPOLYGON`s in grid coordinates, one a row.

Memory holds one image at a time. The rows are collected in a file, put into the order of the sample, read again from
the text that was written and judged by GEOS; only then does the table get its name.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry import MultiPolygon

from satmask.datasets.repair import round_valid
from satmask.datasets.wkt import CLASSES, DECIMALS, EMPTY, GridSize, read_grid_sizes, read_table
from satmask.decisions import Decision, read_decision
from satmask.errors import DataError, SettingError
from satmask.legend import Legend
from satmask.rasters import read_legend_tags
from satmask.scene import Scene
from satmask.submission.tables import RowSpool, check_table
from satmask.vectorise import trace
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Mapping

MARKS = (".probabilities.tif", ".classes.tif")
BAND_MARK = " probability"


@dataclass(frozen=True)
class PredictedImage:
    """What was predicted for one image.

    Attributes:
        image_id: The image's id in the challenge, such as `6120_2_2`.
        class_ids: The challenge's ids of the classes, 1 to 10.
        masks: Where they are, bool, `(height, width, classes)`; the size is that of the raster that was predicted, which
            fixes the transform.
    """

    image_id: str
    class_ids: tuple[int, ...]
    masks: np.ndarray


@dataclass(frozen=True)
class Written:
    """What a table of polygons holds.

    Attributes:
        path: The file.
        rows: Rows below the head.
        images: Images with a prediction.
        polygons: Polygons in all of them.
        unpredicted: Images of the sample that have no prediction; their rows are empty.
        unasked: Predicted images that the sample doesn't have; they were left out.
    """

    path: Path
    rows: int
    images: int
    polygons: int
    unpredicted: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()


def write_dstl(
    path: str | Path,
    images: Iterable[PredictedImage],
    sizes: str | Path | Mapping[str, GridSize],
    *,
    sample: str | Path | None = None,
    simplify_px: float = 0.0,
    decimals: int = DECIMALS,
    progress: Callable[[str], None] = lambda _: None,
) -> Written:
    """Write the challenge's table; it is read again and checked before it gets its name.

    Args:
        path: The file to write, usually named `.csv`.
        images: The predictions, as `find_images` finds them; only one is held at a time.
        sizes: `grid_sizes.csv`, or its content.
        sample: `sample_submission.csv`: its rows are written, in its order; without it ten rows for each prediction.
        simplify_px: How far an outline may be moved to save vertices, in pixels; 0 keeps each mask to the pixel.
        decimals: Digits after the point.
        progress: Called with the id of each image once it is done.

    Returns:
        What was written.

    Raises:
        DataError: If an image occurs twice or has no size, none is in the sample, or the text is found invalid.
        SettingError: If `simplify_px` is negative.
    """
    if not simplify_px >= 0:
        msg = f"Outlines must move by 0 or more pixels, got {simplify_px}."
        raise SettingError(msg)
    path = Path(path)
    known = sizes if not isinstance(sizes, str | Path) else read_grid_sizes(sizes)
    asked = list(read_table(sample)) if sample else None
    wanted = None if asked is None else {name for name, _ in asked}
    settings = {"simplify_px": simplify_px, "decimals": decimals}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            spool, unasked = RowSpool(file), list[str]()
            for image in images:
                if wanted is None or image.image_id in wanted:
                    _add(spool, image, known.get(image.image_id), settings)
                else:
                    unasked.append(image.image_id)
                progress(image.image_id)
            rows = asked or [(name, class_id) for name in spool.images for class_id in CLASSES]
            _refuse_nothing(spool, unasked)
            spool.write(partial, rows)
        polygons = check_table(partial, rows)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    missing = sorted({name for name, _ in rows} - set(spool.images))
    return Written(path, len(rows), len(spool.images), polygons, tuple(missing), tuple(unasked))


def _refuse_nothing(spool: RowSpool, unasked: Sequence[str]) -> None:
    if not spool.images:
        msg = f"Predictions must be of images of the sample, got {', '.join(unasked[:3]) or 'none'}."
        raise DataError(msg)


def mask_to_wkt(mask: np.ndarray, size: GridSize, *, simplify_px: float = 0.0, decimals: int = DECIMALS) -> str:
    """Write a mask as `MULTIPOLYGON` text in grid coordinates, valid as it stands.

    Args:
        mask: bool, `(height, width)`; its size fixes the transform.
        size: The image's size in grid coordinates.
        simplify_px: See `write_dstl`.
        decimals: Digits after the point.

    Returns:
        The text; `MULTIPOLYGON EMPTY` where nothing is.

    Raises:
        DataError: If no valid text was found.

    Examples:
        >>> mask_to_wkt(np.ones((1, 1), bool), GridSize(0.5, -0.5), decimals=2)
        'MULTIPOLYGON (((0.00 0.00, 0.00 -1.00, 1.00 -1.00, 1.00 0.00, 0.00 0.00)))'
    """
    shape: MultiPolygon = MultiPolygon(list(trace(mask).polygons))
    if shape.is_empty:
        return EMPTY
    if simplify_px:
        # All at once: outlines that touch are kept from crossing.
        shape = shapely.simplify(shape, simplify_px, preserve_topology=True)
    placed = size.to_grid(shape, *mask.shape)
    factor = 10.0**decimals
    # What is divided here is what the text says, to the last bit; 0 is added for its sign.
    rounded = shapely.transform(placed, lambda points: np.round(points * factor) / factor + 0.0)
    if not rounded.is_valid:
        rounded = round_valid(placed, decimals)
    return EMPTY if rounded.is_empty else str(shapely.to_wkt(rounded, rounding_precision=decimals, trim=False))


def find_images(
    folder: str | Path, *, decision: str | Path | None = None, thresholds: Sequence[float] | None = None
) -> Iterator[PredictedImage]:
    """Find the images that `satmask predict` wrote, one at a time, and decide as it did.

    Probabilities are preferred to classes: where classes overlap, a raster of classes shows only the uppermost. They are
    read class by class.

    Args:
        folder: Holds `<ImageId>.probabilities.tif` or `<ImageId>.classes.tif`.
        decision: File that changes how is decided, see `satmask.decisions`.
        thresholds: One for each class, or one for all.

    Yields:
        The images in order of name.

    Raises:
        DataError: If there are none, or classes aren't the challenge's.
        SettingError: If a decision is asked of a raster of classes, or doesn't fit.
    """
    paths = _find(Path(folder))
    for name, path in paths.items():
        yield _read(name, path, decision, thresholds)


def _find(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for mark in MARKS:
        for path in sorted(folder.glob(f"*{mark}")):
            found.setdefault(path.name.removesuffix(mark), path)
    if not found:
        msg = f"Folder must hold images named <ImageId>{MARKS[0]} or <ImageId>{MARKS[1]}, got none in {str(folder)!r}."
        raise DataError(msg)
    return dict(sorted(found.items()))


def _read(name: str, path: Path, decision: str | Path | None, thresholds: Sequence[float] | None) -> PredictedImage:
    legend = read_legend_tags(path)
    if legend is None or not set(legend.ids) <= set(CLASSES):
        found = "no classes" if legend is None else ", ".join(map(str, legend.ids))
        msg = f"Classes must have the challenge's ids 1 to 10, got {found} in {path.name}."
        raise DataError(msg)
    with Scene(path) as scene:
        whole = Window(0, 0, *scene.shape)
        if scene.dtype.kind != "f":
            if decision or thresholds:
                msg = f"Decision and thresholds must come with probabilities, got classes in {path.name}."
                raise SettingError(msg)
            classes = scene.raw(whole)[..., :1]
            return PredictedImage(name, legend.ids, np.asarray(classes == np.asarray(legend.ids)))
        legend = in_band_order(legend, scene.bands)
        tags, count = scene.tags, len(scene.bands)
    if legend.exclusive:
        return _read(name, path.with_name(f"{name}{MARKS[1]}"), decision, thresholds)
    chosen = Decision.from_tags(tags, legend)
    chosen = (read_decision(decision, chosen) if decision else chosen).with_thresholds(thresholds)
    return PredictedImage(name, legend.ids, chosen.masks(_bands(path, count)))


def in_band_order(legend: Legend, bands: Sequence[str]) -> Legend:
    """The classes of a legend in the order of the bands that predict named after them.

    Raises:
        DataError: If bands and classes don't agree.
    """
    by_name = {entry.name: entry for entry in legend}
    names = [band.removesuffix(BAND_MARK) for band in bands]
    if set(names) != set(by_name):
        msg = f"Probabilities must have a band for each of {', '.join(legend.names)}, got {', '.join(names)}."
        raise DataError(msg)
    return Legend(tuple(by_name[name] for name in names), exclusive=legend.exclusive)


def _bands(path: Path, count: int) -> Iterator[np.ndarray]:
    for index in range(1, count + 1):
        with Scene(path, bands=[index]) as scene:
            yield scene.raw(Window(0, 0, *scene.shape))[..., 0]


def _add(spool: RowSpool, image: PredictedImage, size: GridSize | None, settings: Mapping[str, Any]) -> None:
    name = image.image_id
    if size is None:
        msg = f"Image must have a grid size, got none for {name}."
        raise DataError(msg)
    for channel, class_id in enumerate(image.class_ids):
        if (name, class_id) in spool:
            msg = f"Image must be predicted once, got {name} a second time."
            raise DataError(msg)
        spool.add((name, class_id), mask_to_wkt(image.masks[..., channel], size, **settings))
