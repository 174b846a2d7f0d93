"""From the viewer to training: `satmask train --start` learns from what a person corrected, pixel by pixel."""

import json

import geopandas
import numpy as np
import pytest
from rasterio.features import rasterize

from reportless import reportless
from satmask.batches import TrainingBatches
from satmask.cli import main
from satmask.datasets import read_dataset
from satmask.datasets.town import draw_town, write_scene
from satmask.engines import open_engine
from satmask.prediction import predict_scene
from satmask.recipe import Recipe
from satmask.training import train
from satmask.viewing.corrections import Corrections
from satmask.viewing.shelf import open_shelf
from viewed import write_raster

SIZE = 96
TINY = ["network.filters=[4, 6]", "window=32", "batch=4", "windows_per_epoch=16", "compile=false", "epochs=1"]
PLAIN = ["augment.brightness=0", "augment.contrast=0"]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A run to begin with."""
    folder = tmp_path_factory.mktemp("start")
    for seed, split in enumerate(("train", "val")):
        write_scene(draw_town(SIZE, SIZE, seed=seed, gsd_m=0.5), folder / "data" / split, split)
    with reportless():
        return train(read_dataset(folder / "data"), folder / "start", Recipe.load(settings=TINY), quiet=True)


@pytest.fixture
def root(tmp_path, start):
    """A folder of scenes to train on, one of them predicted; each pixel of that one says by its values where it lies."""
    rows, columns = np.indices((SIZE, SIZE), np.uint8)
    scene = write_raster(tmp_path / "data" / "train" / "a.tif", np.stack([rows, columns, rows // 2], axis=-1))
    write_scene(draw_town(SIZE, SIZE, seed=4, gsd_m=0.5), tmp_path / "data" / "val", "b")
    engine = open_engine(start.model)
    predict_scene(engine, scene, tmp_path / "predicted", thresholds=[0.4])
    return tmp_path


def square(place, left, top, side):
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side), (left, top)]
    return {"type": "Polygon", "coordinates": [place.view.to_map(np.array(corners)).tolist()]}


def correct(root):
    """What a person does in the viewer: accepts or deletes what was proposed but one, draws, and leaves out."""
    place = next(place for place in open_shelf(root).places if place.name == "predicted/a")
    corrections = Corrections(place)
    by_area = sorted(corrections.labels, key=lambda id_: corrections.labels[id_].shape.area)
    for id_ in by_area[1:]:
        corrections.accept(id_) if id_ % 2 else corrections.delete(id_)
    corrections.draw(square(place, 10, 12, 20), 1)
    corrections.draw(square(place, 60, 50, 15), 1)
    corrections.ignore(square(place, 5, 60, 25))
    return corrections


def drawn(frame, grid):
    """A GDAL mask of polygons, which is no work of ours."""
    shapes = [(shape, 1) for shape in frame.geometry]
    return (
        rasterize(shapes, out_shape=grid.shape, transform=grid.transform) != 0 if shapes else np.zeros(grid.shape, bool)
    )


def test_training_from_a_start_sees_the_corrected_labels(root, start, monkeypatch):
    corrections = correct(root)
    assert corrections.path == root / "data" / "train" / "a.labels.gpkg"
    saved, grid = geopandas.read_file(corrections.path), corrections.place.grid
    ignored = drawn(saved[saved["ignore"]], grid)
    legend = read_dataset(root / "data").legend
    there = [drawn(saved[~saved["ignore"] & (saved["class_id"] == id_)], grid) for id_ in legend.ids]
    expected = np.stack(there, axis=-1)
    seen = []
    get = TrainingBatches.__getitem__
    monkeypatch.setattr(
        TrainingBatches, "__getitem__", lambda self, step: seen.append(batch := get(self, step)) or batch
    )
    settings = [*TINY[1:], *PLAIN]
    command = ["train", str(root / "data"), "--out", str(root / "run"), "--start", str(start.folder), "--quiet"]
    assert main([*command, *(part for one in settings for part in ("--set", one))]) == 0
    assert json.loads((root / "run" / "start.json").read_text())["name"] == "start"
    images, truth, weight = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    assert len(images) >= 16
    rows, columns = images[..., 0].astype(int), images[..., 1].astype(int)
    known = weight > 0
    np.testing.assert_array_equal(known, ~ignored[rows, columns])
    np.testing.assert_array_equal((truth > 0)[known], expected[rows, columns][known])
    assert expected[rows, columns][known][..., legend.channel(1)].any(), "something that was drawn was learned from"
    assert ignored[rows, columns].any(), "something that was left out was met"
