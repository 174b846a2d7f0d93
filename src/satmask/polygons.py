"""Polygons: from classes to map features with true areas, and to files that a GIS opens."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import shapely
from pyproj import CRS, Transformer

import satmask.vector_io  # noqa: F401  # geopandas then finds pyogrio loaded as it must be
from satmask.areas import ring_areas
from satmask.errors import DataError, InstallError, SettingError
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.vectorise import Traced, Tracer

DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON", ".shp": "ESRI Shapefile"}
SUFFIXES = (*DRIVERS, ".parquet")
# Shapefiles cut names after ten letters.
SHAPEFILE_NAMES = {
    "mean_probability": "mean_prob",
    "min_probability": "min_prob",
    "perimeter_m": "perim_m",
    "orientation_deg": "orient_deg",
    "right_angles": "right_angl",
    "touches_edge": "at_edge",
}
# Pixels traced at a time, so that a large scene needs no second copy of itself.
STRIP_PX = 1 << 21


def find_polygons(
    classes: np.ndarray,
    grid: Grid,
    legend: Legend,
    *,
    probabilities: np.ndarray | None = None,
    min_area_m2: float | Mapping[int, float] = 0.0,
    min_area_px: float = 0.0,
) -> geopandas.GeoDataFrame:
    """Turn classes into polygons, one for each group of pixels that share edges and a class.

    Args:
        classes: Class ids, `(height, width)`; or one mask a class where classes overlap, bool,
            `(height, width, classes)`. Ids that the legend doesn't hold give no polygons.
        grid: Where the pixels lie.
        legend: The classes.
        probabilities: What the network said, `(height, width, classes)`: 0 to 1 as floats, or 0 to the type's largest
            value as unsigned integers.
        min_area_m2: Leave out what is smaller on the ground; one number, or one for each class id.
        min_area_px: Leave out what has fewer pixels.

    Returns:
        One row a polygon, sorted by channel: `class_id` (int32), `class` (its name), `area_m2` (true area on the
        ellipsoid, NaN where the grid has no CRS), `area_px` (int64), `mean_probability` and
        `min_probability` (float64, NaN without probabilities), `score` (the mean under the name that GIS and detection
        formats have for it; as honest as the network is calibrated, see `satmask.calibration`) and
        `geometry`, in the grid's CRS.

    Raises:
        SettingError: If shapes don't agree, or areas in m² are asked of a grid without a CRS.

    Examples:
        >>> frame = find_polygons(np.eye(2, dtype=np.uint8), Grid(2, 2), Legend.of(["house"]))
        >>> frame[["class", "area_px"]].values.tolist()
        [['house', 1], ['house', 1]]
    """
    _check(classes, grid, legend, probabilities)
    check_areas(grid, min_area_m2)
    traced = Traced.join([*_trace(classes, legend, probabilities)])
    frame = describe(traced.take(np.argsort(traced.labels, kind="stable")), grid, legend)
    return keep_large(frame, legend, min_area_m2=min_area_m2, min_area_px=min_area_px)


def check_areas(grid: Grid, min_area_m2: float | Mapping[int, float]) -> None:
    """Refuse areas in m² where pixels have none.

    Raises:
        SettingError: If the grid has no CRS and an area isn't 0.
    """
    if grid.crs is None and np.any([*min_area_m2.values()] if isinstance(min_area_m2, Mapping) else min_area_m2):
        msg = f"Smallest area in m² must have a scene with a CRS, got {min_area_m2} m² for one without. Use pixels."
        raise SettingError(msg)


def keep_large(
    frame: geopandas.GeoDataFrame,
    legend: Legend,
    *,
    min_area_m2: float | Mapping[int, float] = 0.0,
    min_area_px: float = 0.0,
) -> geopandas.GeoDataFrame:
    """Leave out polygons that are too small; settings as in `find_polygons`."""
    if isinstance(min_area_m2, Mapping):
        smallest = frame["class_id"].map({id_: min_area_m2.get(id_, 0.0) for id_ in legend.ids}).to_numpy(np.float64)
    else:
        smallest = np.full(len(frame), float(min_area_m2))
    small = (frame["area_m2"].to_numpy() < smallest) | (frame["area_px"].to_numpy() < min_area_px)
    return frame[~small].reset_index(drop=True)


def channel_labels(classes: np.ndarray, legend: Legend) -> np.ndarray:
    """Label classes by their channels, for `satmask.vectorise` to trace.

    Args:
        classes: Class ids, `(height, width)`.
        legend: The classes.

    Returns:
        Channels counted from 1, 0 where the legend doesn't hold an id, uint8 or uint16, `(height, width)`.

    Examples:
        >>> channel_labels(np.array([[7, 3, 0]]), Legend.of({3: "house", 7: "water"})).tolist()
        [[2, 1, 0]]
    """
    dtype = np.min_scalar_type(len(legend))
    if classes.dtype in (np.uint8, np.uint16):
        table = np.zeros(np.iinfo(classes.dtype).max + 1, dtype)
        for channel, id_ in enumerate(legend.ids):
            table[id_ : id_ + 1] = channel + 1  # none where the type can't hold the id
        return table.take(classes)
    labels = np.zeros(classes.shape, dtype)
    for channel, id_ in enumerate(legend.ids):
        labels[classes == id_] = channel + 1
    return labels


def own_probabilities(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Pick each pixel's probability of the class that it was given.

    Args:
        probabilities: `(height, width, classes)`.
        labels: As `channel_labels` gives them.

    Returns:
        `(height, width)`; of the first class where the label is 0.
    """
    if probabilities.shape[2] == 1:
        return np.asarray(probabilities[..., 0])
    channels = np.maximum(labels, 1)[..., None].astype(np.intp) - 1
    return np.asarray(np.take_along_axis(probabilities, channels, axis=2)[..., 0])


def describe(traced: Traced, grid: Grid, legend: Legend) -> geopandas.GeoDataFrame:
    """Place traced regions on the ground, and name and measure them.

    Args:
        traced: Regions whose labels are those of `channel_labels`.
        grid: Where the pixels lie.
        legend: The classes.

    Returns:
        The columns of `find_polygons`, a row for each region, in their order.
    """
    geometry, channels = place(traced.polygons, grid), traced.labels - 1
    columns: dict[str, Any] = {
        "class_id": np.asarray(legend.ids, np.int32)[channels],
        "class": pd.Series(np.asarray(legend.names, object)[channels], dtype="str"),
        "area_m2": true_areas(geometry, grid.crs),
        "area_px": traced.areas_px,
        "mean_probability": traced.means,
        "min_probability": traced.minima,
        "score": traced.means,
    }
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs=grid.crs)


def place(polygons: np.ndarray, grid: Grid) -> np.ndarray:
    """Move polygons from pixel coordinates to the ground; rotated and south-up grids included.

    Args:
        polygons: shapely geometries.
        grid: The grid whose pixels they are drawn in.

    Returns:
        shapely geometries in the grid's CRS, an array of objects.

    Examples:
        >>> from affine import Affine
        >>> grid = Grid(10, 10, Affine(0.5, 0, 100, 0, -0.5, 200))
        >>> place(np.array([shapely.box(0, 0, 2, 2)]), grid)[0].bounds
        (100.0, 199.0, 101.0, 200.0)
    """
    a, b, c, d, e, f = tuple(grid.transform)[:6]
    turn, shift = np.array([[a, d], [b, e]]), np.array([c, f])
    moved = shapely.transform(polygons, lambda points: points @ turn + shift)
    return np.asarray(moved, dtype=object)


def true_areas(polygons: np.ndarray, crs: CRS | None) -> np.ndarray:
    """Measure polygons on the ellipsoid, whatever their projection does to areas; see `satmask.areas`.

    Args:
        polygons: shapely polygons or multipolygons.
        crs: The CRS of their coordinates.

    Returns:
        Square metres, float64, `(polygons,)`; NaN without a CRS that is tied to the earth.

    Examples:
        >>> kilometre = shapely.box(0, 0, 1000, 1000)
        >>> float(true_areas(np.array([kilometre]), CRS("EPSG:3035"))[0].round(-4))
        1000000.0
    """
    geod = crs.get_geod() if crs is not None else None
    if geod is None or crs is None or crs.geodetic_crs is None or not len(polygons):
        return np.full(len(polygons), np.nan)
    rings, owners, inner = _rings(polygons)
    points, numbers = shapely.get_coordinates(rings, return_index=True)
    to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    longitudes, latitudes = to_degrees.transform(points[:, 0], points[:, 1])
    ends = np.cumsum(np.bincount(numbers, minlength=len(rings)))
    areas = ring_areas(longitudes, latitudes, ends, geod)
    areas_m2 = np.bincount(owners, np.where(inner, -1.0, 1.0) * areas, minlength=len(polygons))
    return np.where(np.isfinite(areas_m2), areas_m2, np.nan)


def write_polygons(frame: geopandas.GeoDataFrame, path: str | Path, *, layer: str | None = None) -> Path:
    """Write polygons in the format that the file's suffix names; the file appears whole or not at all.

    Files without polygons keep their columns and CRS. GeoJSON is written in WGS 84, as its standard demands.

    Args:
        frame: The polygons, as `find_polygons` gives them or with other columns.
        path: `.gpkg`, `.fgb`, `.parquet`, `.geojson` or `.shp`.
        layer: Name of the layer in a GeoPackage; the file's stem by default.

    Returns:
        The path.

    Raises:
        SettingError: If the suffix is none of these.
        DataError: If a GeoJSON is asked of polygons without a CRS.
        InstallError: If a GeoParquet is asked and pyarrow isn't there.

    Examples:
        >>> frame = find_polygons(np.eye(2, dtype=np.uint8), Grid(2, 2), Legend.of(["house"]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     len(read_polygons(write_polygons(frame, Path(folder) / "houses.gpkg")))
        2

    References:
        RFC 7946, "The GeoJSON format", section 4.
    """
    path = Path(path)
    check_suffix(path)
    if path.suffix.lower() == ".geojson" and frame.crs is None:
        raise placeless(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        write_draft(frame, Path(folder) / path.name, layer or path.stem)
        put_in_place(Path(folder), path)
    return path


def check_suffix(path: Path) -> None:
    """Refuse polygon files of a format that isn't written.

    Raises:
        SettingError: If the suffix is none of `SUFFIXES`.
    """
    if path.suffix.lower() not in SUFFIXES:
        msg = f"Polygon file must end in one of {', '.join(SUFFIXES)}, got {path.name!r}."
        raise SettingError(msg)


def placeless(path: Path) -> DataError:
    """What to raise where a GeoJSON is asked of polygons without a CRS."""
    msg = f"GeoJSON must lie in WGS 84, got polygons without a CRS for {path.name}. Use .gpkg or .fgb."
    return DataError(msg)


def put_in_place(folder: Path, path: Path) -> None:
    """Give all files of a folder their place beside `path`.

    A shapefile is several files; the .shp comes last, so that it never stands without the others.
    """
    for file in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
        os.replace(file, path.parent / file.name)  # noqa: PTH105 (Path.replace does the same; the pair reads alike)


def read_polygons(path: str | Path, *, layer: str | None = None) -> geopandas.GeoDataFrame:
    """Read polygons that `write_polygons`, or a GIS, wrote.

    Args:
        path: A vector file of any format that GDAL reads, or `.parquet`.
        layer: The layer to read, where a file has several; the first by default.

    Returns:
        The polygons in the file's CRS, with its columns.

    Raises:
        DataError: If the file isn't there or can't be read.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"Polygon file must exist, got {str(path)!r}."
        raise DataError(msg)
    if _points_elsewhere(path):
        msg = f"Polygon file must hold its polygons itself, got one that points elsewhere: {path.name}."
        raise DataError(msg)
    try:
        if path.suffix.lower() == ".parquet":
            frame = geopandas.read_parquet(path)
        else:
            frame = geopandas.read_file(path, engine="pyogrio", **({"layer": layer} if layer else {}))
    except ImportError as error:
        raise _no_pyarrow() from error
    except Exception as error:  # pyogrio and pyarrow have error classes of their own, without a base in common
        msg = f"Polygon file must be a vector file, got {str(error)!r:.120} for {path.name}."
        raise DataError(msg) from error
    return frame.rename(columns={short: name for name, short in SHAPEFILE_NAMES.items()})


def _points_elsewhere(path: Path) -> bool:
    """Whether GDAL would open another file or address that this one names."""
    with path.open("rb") as file:
        head = file.read(4096)
    if b"<OGRVRT" in head:
        return True
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return begin.startswith((b"{", b"loadGeoJSON(", b"jsonp(")) and _links_crs(path)


def _links_crs(path: Path) -> bool:
    """Whether a GeoJSON leaves its CRS to an address, which GDAL fetches; or is none, and who knows what GDAL makes of it."""
    text = path.read_bytes()
    if b"crs" not in text and b"\\u" not in text:  # nor one that is written in escapes
        return False
    linked = False

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal linked
        for key, value in pairs:
            if key == "crs" and isinstance(value, dict):
                linked |= str(value.get("type")).lower() in ("link", "url")
        return dict(pairs)

    try:
        json.loads(text.decode("utf-8-sig"), object_pairs_hook=look)
    except (ValueError, RecursionError):
        return True
    return linked


def _check(classes: np.ndarray, grid: Grid, legend: Legend, probabilities: np.ndarray | None) -> None:
    for what, array, shapes in (
        ("Classes", classes, (grid.shape, (*grid.shape, len(legend)))),
        ("Probabilities", probabilities, ((*grid.shape, len(legend)),)),
    ):
        if array is not None and array.shape not in shapes:
            msg = f"{what} must have the shape {' or '.join(map(str, shapes))}, got {array.shape}."
            raise SettingError(msg)


def _trace(classes: np.ndarray, legend: Legend, probabilities: np.ndarray | None) -> Iterator[Traced]:
    """Trace classes strip by strip, and where they overlap one by one; labels are channels from 1."""
    height, width = classes.shape[:2]
    rows = max(STRIP_PX // max(width, 1), 1)
    for channel in range(1 if classes.ndim == 2 else len(legend)):
        tracer = Tracer(width)
        for at in range(0, height, rows):
            part = slice(at, at + rows)
            if classes.ndim == 2:
                labels = channel_labels(classes[part], legend)
            else:
                labels = (classes[part, :, channel] != 0) * np.uint16(channel + 1)
            yield tracer.add(labels, None if probabilities is None else own_probabilities(probabilities[part], labels))
        yield tracer.finish()


def _rings(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All rings, the index of the polygon that each belongs to, and whether it is a hole."""
    parts, owners = shapely.get_parts(polygons, return_index=True)
    rings, part_of = shapely.get_rings(parts, return_index=True)
    inner = np.ones(len(rings), bool)
    inner[np.unique(part_of, return_index=True)[1]] = False
    return rings, owners[part_of], inner


def write_draft(frame: geopandas.GeoDataFrame, path: Path, layer: str, *, more: bool = False) -> None:
    """Write polygons to a file that may be left behind half; `more` adds them to what it holds."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        try:
            frame.to_parquet(path, index=False)
        except ImportError as error:
            raise _no_pyarrow() from error
        return
    several = bool((frame.geom_type == "MultiPolygon").any())
    settings: dict[str, Any] = {"geometry_type": "MultiPolygon" if several else "Polygon", "promote_to_multi": several}
    if suffix == ".geojson":
        # GDAL then turns to WGS 84, orients the rings, and cuts at the antimeridian.
        settings["RFC7946"] = "YES"
    if suffix == ".shp":
        frame = frame.rename(columns=SHAPEFILE_NAMES)
        settings |= {"geometry_type": "Polygon", "promote_to_multi": False, "encoding": "UTF-8"}
    else:
        settings["layer"] = layer
    with warnings.catch_warnings():
        # Tiles without a place on the ground have no CRS; that is no news to who asks for their polygons.
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
        frame.to_file(
            path, driver=DRIVERS[suffix], engine="pyogrio", index=False, mode="a" if more else "w", **settings
        )


def _no_pyarrow() -> InstallError:
    return InstallError("GeoParquet must have pyarrow to be read and written, got none. Run `pip install pyarrow`.")
