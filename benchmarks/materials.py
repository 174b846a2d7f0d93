"""What the benchmarks work on: scenes, tiles and model files, made on the fly or from the user's data."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

from measure import widths
from satmask.datasets import read_dataset
from satmask.legend import Legend
from satmask.scene import Scene
from satmask.windows import Window

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from satmask.datasets import Dataset

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

FULL = (32, 64, 128, 256, 512)  # the U-Net of the aims
LEGEND = Legend.of(["building"])
GSD_M = 0.3


def make_tiles(folder: Path, *, count: int = 40, size: int = 300) -> Path:
    """Write tiles of a synthetic town in the crowdAI layout: JPEG, decoded again at each draw."""
    from satmask.datasets.town import write_tiles

    return write_tiles(folder / "tiles", count=count, size=size)


def open_data(data: Path | None, folder: Path) -> Dataset:
    """Read the user's data, or synthetic tiles where there is none."""
    return read_dataset(data if data is not None else make_tiles(folder))


def make_scene(path: Path, *, size: int, data: Path | None = None) -> Path:
    """Write a square RGB GeoTIFF of real tiles side by side, or of one synthetic town.

    It is tiled and compressed as deliveries are, so that reading costs what reading costs.
    """
    image = _mosaic(data, size) if data is not None else _town(size)
    profile = {
        "driver": "GTiff", "height": size, "width": size, "count": 3, "dtype": "uint8", "crs": "EPSG:32637",
        "transform": from_origin(500_000, 4_600_000, GSD_M, GSD_M), "photometric": "RGB",
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 2,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.moveaxis(image, -1, 0))
    return path


def add_scene(parser: argparse.ArgumentParser, *, size: int) -> None:
    """Let the command line name a scene, or what one is to be made of."""
    parser.add_argument("--scene", type=Path, help="RGB GeoTIFF; by default one made of --data or of a synthetic town")
    parser.add_argument("--data", type=Path, help="data set in any layout whose 8-bit images make the scene")
    parser.add_argument("--size", type=int, default=size, help="side of the scene made, in pixels")


def chosen_scene(options: argparse.Namespace, folder: Path) -> Path:
    """The scene that the command line names, or one made in a folder."""
    return options.scene or make_scene(folder / "scene.tif", size=options.size, data=options.data)


def add_model(parser: argparse.ArgumentParser, *, filters: tuple[int, ...] = FULL) -> None:
    """Let the command line name a model file, or how wide an untrained one is to be."""
    parser.add_argument("--model", type=Path, help="model file; by default an untrained U-Net")
    shown = ",".join(map(str, filters))
    parser.add_argument("--filters", type=widths, default=filters, help=f"of the untrained U-Net; {shown}")


def chosen_model(options: argparse.Namespace, folder: Path, scene: Path | None = None) -> Path:
    """The model file that the command line names, or an untrained one made in a folder."""
    return options.model or make_model(folder, filters=options.filters, scene=scene)


def _town(size: int) -> np.ndarray:
    """A town of at most 1024 × 1024, repeated: to draw 4096 × 4096 would take longer than to predict it."""
    from satmask.datasets.town import draw_town

    side = min(size, 1024)
    image = draw_town(side, side, seed=1, gsd_m=GSD_M).image
    times = -(-size // side)
    return np.tile(image, (times, times, 1))[:size, :size]


def _mosaic(data: Path, size: int) -> np.ndarray:
    """The data's 8-bit images side by side, row after row, from the first again where they run out."""
    image = np.zeros((size, size, 3), np.uint8)
    paths = [sample.image for samples in read_dataset(data).splits.values() for sample in samples]
    place = row = 0
    while row < size:
        column = deepest = 0
        while column < size:
            with Scene(paths[place % len(paths)]) as scene:
                values = scene.read(Window(0, 0, *scene.grid.shape)).values[: size - row, : size - column, :3]
            height, width = values.shape[:2]
            image[row : row + height, column : column + width] = values
            place, column, deepest = place + 1, column + width, max(deepest, height)
        row += deepest
    return image


def make_model(folder: Path, *, filters: Sequence[int], scene: Path | None = None) -> Path:
    """Export an untrained U-Net; its arithmetic costs what a trained one's does.

    Its threshold is set so that 0.5 % of the scene's first window is "building", some 500 objects in a megapixel as in a
    dense town: at 0.5 it would decide half of all pixels at random, and tracing that noise would be all that is
    measured. `model.keras` lies beside it.
    """
    import keras

    from satmask.engines import open_engine
    from satmask.model_file import export
    from satmask.models import measure_reach, unet

    keras.utils.set_random_seed(0)
    network = unet(3, 1, filters=filters)
    reach = measure_reach(network)
    path = folder / "model.onnx"
    network.save(path.with_suffix(".keras"))
    untrained = partial(model_info, reach, network="unet", options={"filters": list(filters)})
    export(network, path, untrained(thresholds=(0.5,)))
    if scene is not None:
        engine = open_engine(path)
        with Scene(scene) as file:
            side = 512 // reach.stride * reach.stride
            image = file.read(Window(0, 0, side, side)).filled(engine.info.fill)
        threshold = float(np.quantile(engine.run(image[None]), 0.995))
        export(network, path, untrained(thresholds=(threshold,)))
    return path


def model_info(reach: Any, **settings: Any) -> Any:
    """What the model file of an untrained network for RGB images says; `settings` are more of its fields."""
    from satmask.model_file import BandInfo, ModelInfo

    return ModelInfo(
        legend=LEGEND,
        bands=tuple(BandInfo(name=name) for name in ("red", "green", "blue")),
        dtype="uint8",
        value_range=((0, 255),) * 3,
        fill=(0.0,) * 3,
        stride=reach.stride,
        halo=reach.halo,
        local=reach.local,
        activation="sigmoid",
        training={"data": "none: untrained, for benchmarks"},
        **settings,
    )
