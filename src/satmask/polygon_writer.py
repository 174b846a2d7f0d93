"""Polygons found and written batch by batch, for scenes whose polygons don't fit into memory."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import geopandas
import numpy as np
import pandas as pd
import shapely

from satmask.errors import SettingError
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.polygons import (
    DRIVERS,
    channel_labels,
    check_areas,
    check_suffix,
    describe,
    keep_large,
    own_probabilities,
    placeless,
    put_in_place,
    write_draft,
)
from satmask.vector_io import pyogrio
from satmask.vectorise import trace_raster
from satmask.windows import Window

# Opening a file costs as much as writing some thousands of rows. What waits is bounded by its outlines too: those of ragged
# masks have more corners than thousands of houses.
BATCH = 20_000
BATCH_VERTICES = 400_000
# GDAL adds rows to these; files of the other formats are made of a GeoPackage when all rows are known.
GROWING = (".gpkg", ".shp")

# Class ids of a window, `(height, width)`, and probabilities, `(height, width, classes)`, or None.
Read = Callable[[Window], "tuple[np.ndarray, np.ndarray | None]"]


def stream_polygons(
    read: Read,
    grid: Grid,
    legend: Legend,
    *,
    block: tuple[int, int] | None = None,
    min_area_m2: float | Mapping[int, float] = 0.0,
    min_area_px: float = 0.0,
) -> Iterator[geopandas.GeoDataFrame]:
    """Turn classes into polygons, block by block.

    Memory is bounded by a row of blocks and by the outlines of what isn't complete yet, not by the size of the scene.

    Args:
        read: Gives class ids of a window, and what the network said, as `find_polygons` takes them.
        grid: Where the pixels lie.
        legend: The classes.
        block: Rows and columns to read at a time, see `satmask.vectorise.trace_raster`.
        min_area_m2: Leave out what is smaller on the ground; one number, or one for each class id.
        min_area_px: Leave out what has fewer pixels.

    Yields:
        Polygons that are complete after each row of blocks. Together they are those of `find_polygons`, in another order:
        that of their last row, then of their first pixel, whatever the blocks.

    Raises:
        SettingError: If areas in m² are asked of a grid without a CRS.

    Examples:
        >>> classes = np.eye(3, dtype=np.uint8)
        >>> parts = stream_polygons(lambda at: (classes[at.slices], None), Grid(3, 3), Legend.of(["house"]), block=(1, 3))
        >>> [len(part) for part in parts]
        [0, 1, 1, 1]
    """
    check_areas(grid, min_area_m2)

    def labelled(window: Window) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        classes, probabilities = read(window)
        labels = channel_labels(classes, legend)
        return labels if probabilities is None else (labels, own_probabilities(probabilities, labels))

    for traced in trace_raster(labelled, *grid.shape, block=block):
        yield keep_large(describe(traced, grid, legend), legend, min_area_m2=min_area_m2, min_area_px=min_area_px)


class PolygonWriter:
    """Writes polygons as they come; the file gets its name when it is whole, and leaves nothing behind if it isn't.

    GeoPackages and shapefiles grow batch by batch. FlatGeobuf and GeoJSON can't: their rows wait in a GeoPackage and are
    then streamed from there. GeoParquet takes all rows at once, so its memory grows with them.

    Args:
        path: `.gpkg`, `.fgb`, `.parquet`, `.geojson` or `.shp`.
        layer: Name of the layer in a GeoPackage; the file's stem by default.

    Raises:
        SettingError: If the suffix is none of these.

    Examples:
        >>> from satmask.polygons import find_polygons, read_polygons
        >>> frame = find_polygons(np.eye(2, dtype=np.uint8), Grid(2, 2), Legend.of(["house"]))
        >>> with tempfile.TemporaryDirectory() as folder, PolygonWriter(Path(folder) / "houses.fgb") as writer:
        ...     writer.write(frame)
        ...     writer.write(frame)
        ...     len(read_polygons(writer.finish()))
        4
    """

    def __init__(self, path: str | Path, *, layer: str | None = None) -> None:
        self.path, self.rows = Path(path), 0
        check_suffix(self.path)
        self._layer = layer or self.path.stem
        self._waiting: list[geopandas.GeoDataFrame] = []
        self._vertices = 0
        self._begun = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}."))
        self._whole = self._folder / "whole" / self.path.name
        self._whole.parent.mkdir()
        self._draft = self._whole if self._suffix in GROWING else self._folder / "draft.gpkg"

    @property
    def _suffix(self) -> str:
        return self.path.suffix.lower()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, frame: geopandas.GeoDataFrame) -> None:
        """Add polygons, at least once; they may be none. All must have the same columns and CRS.

        Raises:
            SettingError: If there is anything but polygons, such as a multipolygon.
            DataError: If a GeoJSON is asked of polygons without a CRS.
        """
        strange = set(frame.geom_type) - {"Polygon"}
        if strange:
            msg = f"Polygons that are written in batches must be polygons, got {', '.join(sorted(map(str, strange)))}. "
            msg += "Split them into their parts, or use write_polygons."
            raise SettingError(msg)
        if self._suffix == ".geojson" and frame.crs is None:
            raise placeless(self.path)
        self.rows += len(frame)
        if len(frame) or not self._begun:
            self._waiting.append(frame)
            self._vertices += int(shapely.get_num_coordinates(frame.geometry.array).sum())
        if sum(map(len, self._waiting)) >= BATCH or self._vertices >= BATCH_VERTICES:
            self._flush()

    def finish(self) -> Path:
        """Give the file its name.

        Returns:
            The path.

        Raises:
            SettingError: If nothing was written, not even a frame without rows.
            InstallError: If a GeoParquet is asked and pyarrow isn't there.
        """
        self._flush()
        if not self._begun:
            msg = f"Polygon file must be given a frame at least, got none for {self.path.name}."
            raise SettingError(msg)
        if self._suffix == ".parquet":
            write_draft(geopandas.read_file(self._draft), self._whole, self._layer)
        elif self._suffix not in GROWING:
            self._convert()
        put_in_place(self._whole.parent, self.path)
        return self.path

    def _flush(self) -> None:
        """Write what waits; frames without rows only where there is nothing else, for their columns."""
        frames = [frame for frame in self._waiting if len(frame)] or self._waiting[:1]
        if frames:
            write_draft(pd.concat(frames, ignore_index=True), self._draft, self._layer, more=self._begun)
            self._begun, self._waiting, self._vertices = True, [], 0

    def _convert(self) -> None:
        """Stream rows from the draft to a format that can't grow."""
        settings = {"RFC7946": "YES"} if self._suffix == ".geojson" else {}
        with warnings.catch_warnings(), pyogrio.raw.open_arrow(self._draft, use_pyarrow=False) as (meta, rows):
            # Tiles without a place on the ground have no CRS; that is no news to who asks for their polygons.
            warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
            pyogrio.raw.write_arrow(
                rows,
                self._whole,
                driver=DRIVERS[self._suffix],
                layer=self._layer,
                geometry_name=meta["geometry_name"],
                geometry_type=meta["geometry_type"],
                crs=meta["crs"],
                **settings,
            )
