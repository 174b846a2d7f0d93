"""Scenes and predictions that the viewer's tests look at."""

import cv2
import numpy as np
import rasterio
from affine import Affine

from satmask.decisions import Decision
from satmask.legend import Legend
from satmask.prediction.finishing import class_kind, tags_of
from satmask.rasters import RasterKind, RasterWriter
from satmask.scene import Scene
from satmask.windows import Window

UTM = Affine(10, 0, 500_000, 0, -10, 4_000_000)
LEGEND = Legend.of(["house", "water"])


def write_raster(path, values, *, crs="EPSG:32633", transform=UTM, **options):
    """Write a GeoTIFF of `(height, width, bands)`, without a place where `crs` is None."""
    values = values[..., None] if values.ndim == 2 else values
    place = {"crs": crs, "transform": transform} if crs else {}
    height, width, count = values.shape
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64} if options.get("driver", "GTiff") == "GTiff" else {}
    settings = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": values.dtype.name}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **settings | place | tiled | options) as file:
        file.write(np.moveaxis(values, -1, 0))
    return path


def write_prediction(folder, name, probabilities, **place):
    """Write a scene, its probabilities and classes of two that overlap, as `satmask predict` does."""
    height, width = probabilities.shape[:2]
    write_raster(folder / f"{name}.tif", np.full((height, width, 3), 90, np.uint8), **place)
    decision = Decision(LEGEND)
    bands = [f"{entry.name} probability" for entry in LEGEND]
    kind = RasterKind(np.dtype(np.float32), bands, float("nan"), tags=tags_of(decision))
    masks = probabilities >= np.float32(0.5)
    classes = np.where(masks[..., 1], 2, masks[..., 0]).astype(np.uint8)
    classes[~np.isfinite(probabilities).all(axis=-1)] = LEGEND.nodata
    with Scene(folder / f"{name}.tif") as scene:
        for mark, what, values in (("probabilities", kind, probabilities), ("classes", class_kind(decision), classes)):
            with RasterWriter(folder / f"{name}.{mark}.tif", scene, what) as writer:
                writer.write(values, Window(0, 0, height, width))
                writer.finish()
    return classes


def write_mask(path, ids, *, crs="EPSG:32633"):
    """Write class ids as the truth of a scene."""
    return write_raster(path, ids.astype(np.uint8), crs=crs)


def blobs(shape, *, seed=0, side=8):
    """Smooth numbers from 0 to 1, float32, `(height, width, 2)`."""
    random = np.random.default_rng(seed).random((shape[0] // side + 1, shape[1] // side + 1, 2))
    smooth = cv2.resize(random, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip((smooth - 0.5) * 2 + 0.5, 0, 1).astype(np.float32)


def pixels_of(picture):
    """A PNG as red, green, blue and alpha."""
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.shape == (256, 256, 4)
    return cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA)


def tiles_of(view, zoom):
    """Every tile of a zoom that shows some of the scene."""
    left, top, right, bottom = (side * 2**zoom / 256 for side in view._extent)
    columns, rows = range(int(left), int(np.ceil(right))), range(int(top), int(np.ceil(bottom)))
    return [(zoom, column, row) for row in rows for column in columns]
