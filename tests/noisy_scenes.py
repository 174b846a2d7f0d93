"""Scenes of smooth noise for tests of whole predictions: a model sees much in them, and a corner holds nothing."""

import cv2
import numpy as np
import rasterio
from affine import Affine

from satmask.engines import open_engine
from satmask.prediction import predict_scene

SIZE = 96


def write_scene(path, side, *, seed=1):
    """Write smooth noise, a corner of it nodata, so that some windows hold nothing."""
    noise = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    image = np.clip((cv2.GaussianBlur(noise, (0, 0), 2).astype(float) - 128) * 6 + 128, 1, 255).astype(np.uint8)
    image[: side // 2, : side // 2] = 0
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint8", "nodata": 0}
    grid = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 4e6)}
    with rasterio.open(path, "w", **profile, **grid) as file:
        file.write(np.moveaxis(image, -1, 0))
    return path


def make_place(folder, write_convolutions, *, side=400, width=8):
    """Write a model, a scene, of 25 windows if 400 pixels wide, and into `whole` what an undisturbed run makes of them."""
    model = write_convolutions(folder / "model.onnx", ("river", "house"), min_area_px=(9, 0), layers=3, width=width)
    scene = write_scene(folder / "scene.tif", side)
    predict_scene(open_engine(model, threads=1), scene, folder / "whole", size=SIZE)
    return folder


def contents(folder):
    """Names and bytes of a folder's files, hidden ones too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
