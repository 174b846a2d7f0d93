"""Data sets: folders of imagery with labels, recognised by their layout."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from satmask.datasets.coco import ANNOTATIONS, read_coco
from satmask.datasets.dataset import Dataset, Problem, Sample
from satmask.datasets.dstl import is_dstl, read_dstl
from satmask.datasets.legend_file import find_legend, read_legend
from satmask.datasets.pairs import FOLDERS, list_images, read_pairs
from satmask.datasets.scenes import find_vectors, is_mask, read_scenes
from satmask.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from satmask.legend import Legend

    Read = tuple[tuple[Sample, ...], Legend, list[Problem]]

__all__ = ["Dataset", "Problem", "Sample", "read_dataset", "read_legend", "recognise"]


def read_dataset(
    folder: str | Path,
    *,
    legend: Legend | None = None,
    class_field: str | None = None,
    registration: Path | None = None,
) -> Dataset:
    """Read a folder of imagery with labels, whatever its layout.

    Four layouts are known, each directly in the folder or under `train/` and `val/`:

    - `coco`: `images/` and `annotation.json`, as in the crowdAI Mapping Challenge;
    - `pairs`: `images/` and `masks/` (or `img/` and `mask/`), masks as class ids or colours;
    - `scenes`: GeoTIFFs and vector files, or GeoTIFFs and `NAME_mask.tif`;
    - `dstl`: `three_band/` or `sixteen_band/` with `grid_sizes.csv` and `train_wkt_v4.csv`, as in the DSTL competition.

    A `legend.toml`, `legend.json` or `classes.json` in the folder names the classes. Pixels are not read here, so what
    only shows in decoding (a truncated tile) is found by `satmask.survey.survey`.

    Args:
        folder: The folder.
        legend: The classes, instead of what the folder says.
        class_field: Column of vector files that tells the class, instead of `class_id`, `class`, `label` or `category`.
        registration: Shifts of DSTL products, instead of `registration.json` in the folder.

    Returns:
        The data set, with its problems; what can't be used is left out of the splits.

    Raises:
        DataError: If no layout is recognised, or the folder can't be read at all.

    Examples:
        >>> read_dataset("data/buildings").legend.names  # doctest: +SKIP
        ('building',)
    """
    root = Path(folder)
    if not root.is_dir():
        msg = f"Data set must be a folder, got {str(folder)!r}."
        raise DataError(msg)
    legend = legend or find_legend(root)
    parts = {name: root / name for name in ("train", "val") if (root / name).is_dir()}
    if "train" not in parts or recognise(root):
        parts = {"train": root}
    layouts = {name: recognise(part) for name, part in parts.items()}
    if None in layouts.values() or len(set(layouts.values())) > 1:
        raise DataError(_unrecognised(parts, layouts))
    readers: dict[str, Callable[..., Read]] = {
        "coco": read_coco,
        "pairs": read_pairs,
        "scenes": partial(read_scenes, class_field=class_field),
        "dstl": partial(read_dstl, registration=registration),
    }
    if class_field and "scenes" not in layouts.values():
        msg = f"Class field must name a column of vector files, got {class_field!r} for {root}, which has none."
        raise DataError(msg)
    if registration and "dstl" not in layouts.values():
        msg = f"Registration must belong to data of the DSTL layout, got {str(registration)!r} for {root}, which has another."
        raise DataError(msg)
    splits: dict[str, tuple[Sample, ...]] = {}
    problems: list[Problem] = []
    for name, part in parts.items():
        layout = str(layouts[name])
        splits[name], legend, found = readers[layout](part, legend or find_legend(part))
        problems += [replace(problem, where=f"{name}: {problem.where}") for problem in found]
    return Dataset(root, str(layouts["train"]), legend, splits, tuple(problems))  # type: ignore[arg-type]


def recognise(folder: Path) -> str | None:
    """Name the layout of a folder; None if it has none of them."""
    if is_dstl(folder):
        return "dstl"
    if (folder / "images").is_dir() and any((folder / name).is_file() for name in ANNOTATIONS):
        return "coco"
    if any((folder / images).is_dir() and (folder / masks).is_dir() for images, masks in FOLDERS):
        return "pairs"
    rasters = list_images(folder)
    if any(not is_mask(path) for path in rasters) and (find_vectors(folder) or any(is_mask(path) for path in rasters)):
        return "scenes"
    return None


def _unrecognised(parts: dict[str, Path], layouts: dict[str, str | None]) -> str:
    folder = next((part for name, part in parts.items() if layouts[name] is None), None)
    if folder is None:
        return f"Data set must have one layout in all its splits, got {layouts}."
    found = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    more = f" and {len(found) - 8:,} more" if len(found) > 8 else ""
    return (
        "Data set must be images/ with annotation.json, images/ with masks/, GeoTIFFs with a vector file or "
        "NAME_mask.tif, or three_band/ and sixteen_band/ with grid_sizes.csv, directly or under train/ and val/, "
        f"got {', '.join(found[:8]) or 'nothing'}{more} in {folder}."
    )
