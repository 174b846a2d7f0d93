"""Tables of polygons that are too large for memory: rows collected in any order, put in order, and judged by GEOS."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import shapely
from shapely.errors import GEOSException
from shapely.geometry import MultiPolygon

from satmask.datasets.wkt import EMPTY, HEADER
from satmask.errors import DataError

Key = tuple[str, int]
_ROWS_AT_ONCE = 20


class RowSpool:
    """Rows kept in a file until all are known; in memory is only where each lies.

    Args:
        file: An open file that may be written and read.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[Key, tuple[int, int]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    @property
    def images(self) -> list[str]:
        """Images of which there are rows, in the order in which they came."""
        return list(dict.fromkeys(name for name, _ in self._places))

    def add(self, key: Key, text: str) -> None:
        """Keep the row of an image and a class."""
        offset = self._file.seek(0, io.SEEK_END)
        self._places[key] = offset, self._file.write(_row(*key, text))

    def write(self, path: Path, rows: Iterable[Key]) -> None:
        """Write a table with these rows in their order; those that weren't kept are empty."""
        with path.open("wb") as table:
            table.write(_row(*HEADER))
            for key in rows:
                if key in self:
                    offset, length = self._places[key]
                    self._file.seek(offset)
                    table.write(self._file.read(length))
                else:
                    table.write(_row(*key, EMPTY))


def check_table(path: str | Path, rows: Sequence[Key]) -> int:
    """Read a table of polygons as its judge would, a few rows at a time, and refuse what isn't right.

    Args:
        path: The file.
        rows: Image and class of each row, in order.

    Returns:
        Polygons in the table.

    Raises:
        DataError: If rows are missing or in another order, or a text is no valid `MULTIPOLYGON`.
    """
    import pandas as pd

    polygons, number, name = 0, 0, Path(path).name
    with pd.read_csv(path, dtype=str, keep_default_na=False, chunksize=_ROWS_AT_ONCE) as chunks:
        for chunk in chunks:
            for image, class_id, text in zip(*(chunk.iloc[:, column] for column in range(3)), strict=True):
                wanted = rows[number] if number < len(rows) else ("no image", 0)
                if (image, class_id) != (wanted[0], str(wanted[1])):
                    msg = f"Row {number + 2} must be of {wanted[0]}, {wanted[1]}, got {image}, {class_id} in {name}."
                    raise DataError(msg)
                polygons += _judge(text, f"row {number + 2} ({image}, class {class_id}) of {name}")
                number += 1
    if number != len(rows):
        msg = f"Table must have {len(rows):,} rows, got {number:,} in {name}."
        raise DataError(msg)
    return polygons


def _row(*values: str | int) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode()


def _judge(text: str, place: str) -> int:
    """Refuse text that isn't a valid multipolygon to GEOS; counts its polygons."""
    try:
        geometry = shapely.from_wkt(text)
    except GEOSException as error:
        msg = f"Polygons must be MULTIPOLYGON text, got {str(error)!r:.100} in {place}."
        raise DataError(msg) from error
    if not isinstance(geometry, MultiPolygon) or not geometry.is_valid:
        msg = f"Polygons must be valid, got {geometry.geom_type}, {shapely.is_valid_reason(geometry)} in {place}."
        raise DataError(msg)
    return len(geometry.geoms)
