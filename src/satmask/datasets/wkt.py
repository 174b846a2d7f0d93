"""Polygons as DSTL writes them: well-known text in grid coordinates, in tables with fields of a million characters.

Text is judged before GEOS sees it: GEOS crashes the process on brackets nested 50,000 deep, stops reading at a null
byte, and takes `nan` for a coordinate. What passes may still be an invalid polygon; `satmask.datasets.repair` sees to
that.
"""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.errors import GEOSException
from shapely.geometry import MultiPolygon, Polygon

from satmask.errors import DataError
from satmask.masks import FARTHEST_PX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from shapely.geometry.base import BaseGeometry

DECIMALS = 9
"""Digits after the point in which polygons are written: a pixel is 2.7e-6 wide, so this is 1/2700 of one."""
CLASSES = range(1, 11)
HEADER = ("ImageId", "ClassType", "MultipolygonWKT")
EMPTY = "MULTIPOLYGON EMPTY"

_START = re.compile(r"\s*(MULTI)?POLYGON\b", re.IGNORECASE)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TOKENS = re.compile(rf"(?:\s|[(),]|MULTIPOLYGON|POLYGON|EMPTY|ZM|Z|M|{_NUMBER})*+", re.IGNORECASE)


@dataclass(frozen=True)
class GridSize:
    """Size of an image in grid coordinates, which have their origin at its top left corner.

    The transform is the competition's, which scales by `W·W/(W+1)` rather than by the width `W`.

    Attributes:
        xmax: x of the right edge, more than 0.
        ymin: y of the bottom edge, less than 0: y points upwards.

    Examples:
        >>> size = GridSize(xmax=0.009188, ymin=-0.00904)
        >>> corner = size.to_pixels(shapely.Point(0.009188, -0.00904), height=3348, width=3392)
        >>> round(corner.x, 4), round(corner.y, 4)
        (3391.0003, 3347.0003)
    """

    xmax: float
    ymin: float

    def __post_init__(self) -> None:
        if not 0 < self.xmax < np.inf or not 0 < -self.ymin < np.inf:
            msg = f"Grid size must have Xmax above 0 and Ymin below 0, got {self.xmax!r} and {self.ymin!r}."
            raise DataError(msg)

    def scale(self, height: int, width: int) -> np.ndarray:
        """Pixels a unit of x and of y, float64, `(2,)`; that of y is negative."""
        return np.array([width * width / (width + 1) / self.xmax, height * height / (height + 1) / self.ymin])

    def to_pixels(self, geometry: BaseGeometry, height: int, width: int) -> BaseGeometry:
        """Turn grid coordinates into pixels of a raster of the image: x is the column, y the row.

        Args:
            geometry: In grid coordinates.
            height: Rows of the raster; each product of an image has its own.
            width: Columns of the raster.
        """
        scale = self.scale(height, width)
        return shapely.transform(geometry, lambda points: points * scale)

    def to_grid(self, geometry: BaseGeometry, height: int, width: int) -> BaseGeometry:
        """Turn pixels of a raster of the image into grid coordinates, the inverse of `to_pixels`."""
        scale = self.scale(height, width)
        return shapely.transform(geometry, lambda points: points / scale)


def read_wkt(text: str, *, place: str = "") -> MultiPolygon:
    """Read a `MULTIPOLYGON` or `POLYGON` from well-known text, whoever wrote it.

    Args:
        text: The text, of any length.
        place: Where it stands, for messages: `row 12 of train_wkt_v4.csv`.

    Returns:
        The polygons in two dimensions, without empty ones; they may be invalid.

    Raises:
        DataError: If it is anything else, or a coordinate lies beyond ±10⁹.

    Examples:
        >>> read_wkt("MULTIPOLYGON (((0 0, 2 0, 2 1, 0 0)))").area
        1.0
        >>> read_wkt("MULTIPOLYGON EMPTY").is_empty
        True
    """
    where = f" in {place}" if place else ""
    if reason := _refusal(text):
        msg = f"Polygons must be MULTIPOLYGON text, got {_short(text)}{where}: {reason}."
        raise DataError(msg)
    try:
        # Numbers like 1e999 are told apart below.
        with np.errstate(over="ignore", invalid="ignore"):
            geometry = shapely.from_wkt(text)
    except GEOSException as error:
        msg = f"Polygons must be MULTIPOLYGON text, got {_short(text)}{where}: {_reason(error)}."
        raise DataError(msg) from error
    parts = [part for part in shapely.get_parts(shapely.force_2d(geometry)) if not part.is_empty]
    found = MultiPolygon(parts)
    largest = np.abs(shapely.get_coordinates(found)).max(initial=0.0)
    if largest > FARTHEST_PX:
        msg = f"Polygons must have coordinates within ±1e9, got {largest:g}{where}."
        raise DataError(msg)
    return found


def _refusal(text: object) -> str:
    """Why a text must not reach GEOS; empty where it may."""
    if not isinstance(text, str):
        return "it isn't text"
    if not _START.match(text):
        return "it starts otherwise"
    end = _TOKENS.match(text)
    at = end.end() if end else 0
    if at < len(text):
        return f"character {at + 1} is no part of a number, a bracket or a known word"
    depth = _deepest(text)
    return f"its brackets are nested {depth} deep" if depth > 3 else ""


def _deepest(text: str) -> int:
    """How deep brackets are nested; GEOS sees to those that don't match."""
    letters = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
    steps = (letters == ord("(")).astype(np.int8) - (letters == ord(")")).astype(np.int8)
    return int(np.cumsum(steps, dtype=np.int64).max(initial=0))


def _short(text: object) -> str:
    """A value as it fits into a message."""
    shown = repr(text[:40] if isinstance(text, str) else text)
    return f"{shown[:60]}…" if isinstance(text, str) and len(text) > 40 else shown[:60]


def _reason(error: GEOSException) -> str:
    return str(error).partition(": ")[2].rstrip(".") or str(error)


def write_wkt(polygons: MultiPolygon | Polygon, decimals: int = DECIMALS) -> str:
    """Write polygons as `MULTIPOLYGON` text with plain decimal numbers, no exponents.

    Rounding may make polygons invalid: pass them through `satmask.datasets.repair.round_valid` first.

    Args:
        polygons: The polygons.
        decimals: Digits after the point, 0 to 15.

    Examples:
        >>> write_wkt(shapely.box(0, 0, 0.00001, 2), decimals=5)
        'MULTIPOLYGON (((0.00001 0, 0.00001 2, 0 2, 0 0, 0.00001 0)))'
        >>> write_wkt(Polygon())
        'MULTIPOLYGON EMPTY'
    """
    parts = [part for part in shapely.get_parts(polygons) if not part.is_empty]
    if not parts:
        return EMPTY
    body = ", ".join(
        "(" + ", ".join(_ring(ring.coords, decimals) for ring in (part.exterior, *part.interiors)) + ")"
        for part in parts
    )
    return f"MULTIPOLYGON ({body})"


def _ring(points: Iterable[Sequence[float]], decimals: int) -> str:
    return "(" + ", ".join(f"{_plain(point[0], decimals)} {_plain(point[1], decimals)}" for point in points) + ")"


def _plain(value: float, decimals: int) -> str:
    written = f"{value:.{decimals}f}"
    short = written.rstrip("0").rstrip(".") if "." in written else written
    return "0" if short == "-0" else short


def read_grid_sizes(path: str | Path) -> dict[str, GridSize]:
    """Read `grid_sizes.csv`: image id, Xmax, Ymin; the header of its first column is blank, or anything.

    Raises:
        DataError: If the table can't be read, a number is none, or an image occurs twice.
    """
    sizes: dict[str, GridSize] = {}
    for number, (image_id, xmax, ymin) in enumerate(_rows(path, "Xmax"), start=2):
        if image_id in sizes:
            msg = f"Image must stand in a table of sizes once, got {image_id!r} again in row {number} of {_name(path)}."
            raise DataError(msg)
        try:
            sizes[image_id] = GridSize(float(xmax), float(ymin))
        except (ValueError, DataError) as error:
            msg = f"Grid size must be two numbers, above and below 0, got {xmax!r}, {ymin!r} in row {number} of "
            raise DataError(msg + f"{_name(path)}.") from error
    return sizes


def read_table(path: str | Path) -> dict[tuple[str, int], str]:
    """Read a table of polygons: `train_wkt_v4.csv`, `sample_submission.csv` or a submission.

    Args:
        path: The file; its fields may be of any length.

    Returns:
        The text of each image and class, in the order of the file; `read_wkt` makes polygons of it.

    Raises:
        DataError: If the table can't be read, a class isn't 1 to 10, or an image and class occur twice.
    """
    found: dict[tuple[str, int], str] = {}
    for number, (image_id, class_id, text) in enumerate(_rows(path, HEADER[1]), start=2):
        place = f"row {number} of {_name(path)}"
        if class_id not in _CLASS_NAMES:
            msg = f"Class must be 1 to 10, got {class_id[:20]!r} in {place}."
            raise DataError(msg)
        key = (image_id, int(class_id))
        if key in found:
            msg = f"Image and class must stand in a table once, got {image_id}, {class_id} again in {place}."
            raise DataError(msg)
        found[key] = text
    return found


_CLASS_NAMES = frozenset(map(str, CLASSES))


def write_table(path: str | Path, rows: Mapping[tuple[str, int], str]) -> Path:
    """Write a table of polygons; the file gets its name once it is complete.

    Args:
        path: The file.
        rows: The text of each image and class, in the order in which they are written.

    Returns:
        The path.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows((image_id, class_id, text) for (image_id, class_id), text in rows.items())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _rows(path: str | Path, second: str) -> Iterable[tuple[str, str, str]]:
    """The rows of a table of three columns, without its header, whose second name is known."""
    # The csv module refuses fields over 131,072 characters, and its limit is one for the whole process.
    import pandas as pd

    try:
        # Without a header pandas refuses rows that are longer than the first, instead of cutting them.
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, header=None, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        msg = f"Table must be a CSV file of three columns, got {_name(path)!r}: {str(error).strip()[:120]}."
        raise DataError(msg) from error
    if frame.shape[1] != 3:
        msg = f"Table must have 3 columns, got {frame.shape[1]} in {_name(path)}."
        raise DataError(msg)
    columns = [frame.iloc[:, column].tolist() for column in range(3)]
    if columns[1][0].strip().lower() != second.lower():
        msg = f"Table must begin with a header whose second name is {second}, got {columns[1][0][:20]!r} in "
        raise DataError(msg + f"{_name(path)}.")
    return zip(*(column[1:] for column in columns), strict=True)


def _name(path: str | Path) -> str:
    return Path(path).name
