"""Mask images: files of class ids, palette indexes or colours to arrays of class ids, and back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import rasterio
from rasterio.errors import RasterioError

from satmask.errors import DataError, SceneError, SettingError
from satmask.legend import Legend, LegendClass
from satmask.masks.classes import flatten
from satmask.rasters import RasterKind, RasterWriter, legend_tags, read_legend_tags
from satmask.scene import Scene
from satmask.windows import Window

# What no legend knows, in `match`.
UNLABELLED = -1
# A file with more values than this, and no legend, is a picture rather than a mask.
MOST_CLASSES = 100


def read_mask(path: str | Path, legend: Legend | None = None) -> tuple[np.ndarray, Legend]:
    """Read a mask image as class ids, whatever it holds: class ids, palette indexes, or the legend's colours.

    Under a legend of one class, a mask of 0 and one other value, such as 255, means that class. Without a legend, 0 and
    255 alone mean "class 1".

    Args:
        path: One band of whole numbers, or red, green and blue; any format that `Scene` opens.
        legend: The classes; needed for colours. By default those that the file names itself, as satmask's own do, else
            the values it holds.

    Returns:
        Class ids, `(height, width)` of the legend's dtype: 0 where there is no class, and the legend's nodata value
        where the legend doesn't know the file's; and the legend.

    Raises:
        SceneError: If the file can't be opened or decoded.
        DataError: If it holds neither ids nor colours, or colours and there is no legend.

    Examples:
        >>> legend = Legend.of(["house", "tree"])
        >>> folder = getfixture("tmp_path")
        >>> ids, found = read_mask(write_mask(folder / "a.png", np.array([[0, 1, 2]]), legend))
        >>> ids.tolist(), found.names
        ([[0, 1, 2]], ('house', 'tree'))
    """
    path = Path(path)
    with Scene(path) as scene:
        coloured, palette = len(scene.bands) == 3, scene.palette
        values = mask_codes(scene, Window(0, 0, *scene.shape), colours=coloured)
    found = np.unique(values).tolist()
    legend = legend or read_legend_tags(path) or _legend_of(found, palette, path, coloured=coloured)
    known = {int(entry.colour[1:], 16) if coloured else entry.id: entry.id for entry in legend}
    if not legend.exclusive:
        known.setdefault(0, 0)
    others = [value for value in found if value not in known]
    if len(legend) == 1 and not coloured and len(others) == 1 and not set(found) & {*legend.ids}:
        known[others[0]] = legend.ids[0]
    ids = match(values, known)
    return np.where(ids == UNLABELLED, legend.nodata, ids).astype(legend.dtype), legend


def write_mask(path: str | Path, classes: np.ndarray, legend: Legend, *, scene: Scene | None = None) -> Path:
    """Write class ids as an image in the legend's colours, which names its classes; it appears whole or not at all.

    Args:
        path: `.png`, of 8 bits with a palette where ids allow; or `.tif`, on the grid of a scene.
        classes: Class ids, `(height, width)`.
        legend: The classes.
        scene: Gives the place on the ground of a GeoTIFF.

    Returns:
        The path.

    Raises:
        SettingError: If the suffix is neither, or a GeoTIFF is asked without a scene of its size.
        SceneError: If the file can't be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".tif", ".tiff"):
        msg = f"Mask image must end in .png or .tif, got {path.name!r}."
        raise SettingError(msg)
    if suffix == ".png":
        _write_png(path, classes, legend)
        return path
    if scene is None or scene.shape != classes.shape:
        given = "none" if scene is None else f"one of {scene.shape}"
        msg = f"GeoTIFF must have a scene of {classes.shape} to lie on, got {given} for {path.name}. Write a .png."
        raise SettingError(msg)
    colours = legend.colour_table() if legend.dtype == np.uint8 else None
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = RasterKind(legend.dtype, ["class"], legend.nodata, colours, "mode", legend_tags(legend))
    with RasterWriter(path, scene, kind) as writer:
        writer.write(classes, Window(0, 0, *classes.shape))
        return writer.finish()


def write_masks(path: str | Path, masks: np.ndarray, legend: Legend, *, scene: Scene | None = None) -> list[Path]:
    """Write one mask a class: as one image where no classes overlap, else as one for each class that is there.

    Args:
        path: The image without its suffix, which is `.tif` on a scene with a CRS, else `.png`; names of classes come
            between.
        masks: Anything but 0 is inside, `(height, width, classes)`.
        legend: The classes.
        scene: Gives the place on the ground.

    Returns:
        The images.

    Raises:
        DataError: If scene and masks differ in size.
        SceneError: If a file can't be written.
    """
    path, inside = Path(path), masks != 0
    if scene is not None and scene.shape != masks.shape[:2]:
        msg = f"Mask must have the size of its image, {scene.shape}, got {masks.shape[:2]} for {scene.path.name}."
        raise DataError(msg)
    suffix = ".png" if scene is None or scene.grid.crs is None else ".tif"
    if inside.sum(axis=-1, dtype=np.uint16).max(initial=0) <= 1:
        return [write_mask(f"{path}{suffix}", flatten(inside, legend), legend, scene=scene)]
    parts = [(Legend((entry,)), inside[..., [channel]]) for channel, entry in enumerate(legend)]
    return [
        write_mask(f"{path}.{_file_name(part.names[0])}{suffix}", flatten(mask, part), part, scene=scene)
        for part, mask in parts
        if mask.any()
    ]


def write_picture(path: str | Path, rgb: np.ndarray) -> Path:
    """Write a picture as PNG, JPEG or WebP; it appears whole or not at all.

    Args:
        path: `.png`, `.jpg` or `.webp`.
        rgb: uint8, `(height, width, 3)`.

    Returns:
        The path.

    Raises:
        SettingError: If the suffix is another.
        SceneError: If the file can't be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        msg = f"Picture must end in .png, .jpg or .webp, got {path.name!r}."
        raise SettingError(msg)
    _, content = cv2.imencode(path.suffix.lower(), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    with _whole(path) as draft:
        draft.write_bytes(content.tobytes())
    return path


def mask_codes(mask: Scene, window: Window, *, colours: bool) -> np.ndarray:
    """Read a window of a mask as one whole number a pixel: the class id, or the colour as 0xRRGGBB.

    Nodata tags are left aside: in masks they often name a class.

    Returns:
        int64, `(height, width)`.

    Raises:
        DataError: If the file can't be read that way.
    """
    values = mask.raw(window)
    if colours and values.shape[2] == 1 and mask.palette is not None:
        values = mask.palette[values[..., 0]]
    if values.dtype.kind not in "ui" or values.shape[2] != (3 if colours else 1):
        want = "red, green and blue" if colours else "1 band of class ids"
        msg = f"Mask must hold {want}, got {values.shape[2]} band(s) of {values.dtype} in {mask.path.name}."
        raise DataError(msg)
    values = values.astype(np.int64)
    return values @ np.array([1 << 16, 1 << 8, 1]) if colours else values[..., 0]


def match(values: np.ndarray, known: Mapping[int, int]) -> np.ndarray:
    """Look up each value, `UNLABELLED` where it isn't known; int32, the shape of `values`."""
    keys = np.array(sorted(known), dtype=np.int64)
    targets = np.array([known[int(key)] for key in keys], dtype=np.int32)
    places = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
    return np.where(keys[places] == values, targets[places], UNLABELLED).astype(np.int32)


def _legend_of(found: list[int], palette: np.ndarray | None, path: Path, *, coloured: bool) -> Legend:
    """Classes for a mask that names none: a class for each value."""
    values = [value for value in found if value]
    if coloured:
        shown = ", ".join(f"#{value:06X}" for value in found[:5])
        msg = f"Mask of colours must come with a legend, got none for {shown} in {path.name}. Pass --legend FILE.toml."
        raise DataError(msg)
    if len(values) > MOST_CLASSES or min(found) < 0 or max(found) > 65534:
        what = f"{len(found)} values from {min(found)} to {max(found)}"
        msg = f"Mask without a legend must hold at most {MOST_CLASSES} class ids of 0 to 65534, got {what} in {path.name}."
        raise DataError(msg)
    if values in ([], [255]):
        return Legend.of({1: "class 1"})
    painted = {} if palette is None else {value: "#{:02X}{:02X}{:02X}".format(*palette[value]) for value in values}
    return Legend.of({value: f"class {value}" for value in values}, colours=painted)


def merge_legends(legends: Iterable[Legend]) -> Legend:
    """Put the classes of several masks together, in order of id.

    Raises:
        DataError: If an id has several names.

    Examples:
        >>> merge_legends([Legend.of({2: "tree"}), Legend.of({1: "house"})]).names
        ('house', 'tree')
    """
    legends = list(legends)
    found: dict[int, LegendClass] = {}
    for entry in (entry for legend in legends for entry in legend):
        if found.setdefault(entry.id, entry).name != entry.name:
            names = f"{found[entry.id].name!r} and {entry.name!r}"
            msg = f"Class id must have one name in all masks, got {names} for {entry.id}. Pass --legend FILE.toml."
            raise DataError(msg)
    entries = tuple(found[id_] for id_ in sorted(found))
    return Legend(entries, exclusive=len(entries) > 1 and any(legend.exclusive for legend in legends))


def _file_name(name: str) -> str:
    """A class's name without what file systems don't like."""
    return re.sub(r"[^\w-]+", "_", name).strip("_") or "class"


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Write beside a file first: it gets its name at the end of a `with` block, and nothing is left if that fails."""
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except (RasterioError, OSError) as error:
        msg = f"Picture must be written whole, got {str(error).splitlines()[0]!r:.200} for {path}."
        raise SceneError(msg) from error
    finally:
        draft.unlink(missing_ok=True)


def _write_png(path: Path, classes: np.ndarray, legend: Legend) -> None:
    height, width = classes.shape
    # The classes' names go into the file's own text; without the setting, GDAL would put them beside it.
    settings = {"driver": "PNG", "count": 1, "height": height, "width": width, "WRITE_METADATA_AS_TEXT": "YES"}
    with (
        _whole(path) as draft,
        rasterio.Env(GDAL_PAM_ENABLED=False),
        rasterio.open(draft, "w", dtype=legend.dtype, **settings) as file,
    ):
        file.write(classes.astype(legend.dtype), 1)
        file.update_tags(**legend_tags(legend))
        if legend.dtype == np.uint8:
            file.write_colormap(1, legend.colour_table())
