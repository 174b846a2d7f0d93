"""The demo: the whole pipeline on a synthetic town, offline, in a few minutes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from satmask.datasets import read_dataset
from satmask.datasets.town import draw_town, write_scene, write_tiles
from satmask.engines import open_engine
from satmask.errors import SettingError
from satmask.figures import png_bytes
from satmask.legend import Legend
from satmask.maps import polygons_over
from satmask.pictures import Example, panel_key, panels
from satmask.polygons import read_polygons
from satmask.prediction import predict_scene
from satmask.progress import track
from satmask.recipe import Recipe
from satmask.report import Page, Picture, Section, Table, write_page
from satmask.scene import Scene
from satmask.scoring.pixels import Confusion, confusion
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import geopandas

    from satmask.datasets.town import Town

BUILDINGS = Legend.of({100: "building"})
SEED = 77  # of the unseen town
SIZE = 1500  # its side, in pixels
GSD_M = 0.3
TILES = 100
SETTINGS = (
    "network.filters=[16, 32, 48, 64]",
    "epochs=8",
    "windows_per_epoch=320",
    "window=128",
    "batch=16",
    "learning_rate=3e-3",
    "augment.brightness=0.1",
    "augment.contrast=0.1",
)
SYNTHETIC = "Everything here is drawn by a program: the scores say that the pipeline works, nothing about real imagery."


def run_demo(out: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Draw a town, train a small U-Net on it, predict a larger town that it hasn't seen, and score that.

    Args:
        out: A new or empty folder for everything.
        quiet: Show no progress.

    Returns:
        `files`, `scores`, and `lines` that say it in words.

    Raises:
        SettingError: If the folder holds something already.
    """
    from satmask.training import train

    if out.is_dir() and any(out.iterdir()):
        msg = f"Demo folder must be new or empty, got {str(out)!r}. Name another with --out, or remove it."
        raise SettingError(msg)
    begun = time.perf_counter()
    with track("Drawing a synthetic town", 1, quiet=quiet) as advance:
        tiles = write_tiles(out / "tiles", count=TILES, size=300, seed=1)
        town = draw_town(SIZE, SIZE, seed=SEED, gsd_m=GSD_M)
        scene = write_scene(town, out / "town", "town")
        advance(1, f"{TILES} tiles to learn from, and a town of {SIZE} × {SIZE} to predict")
    run = train(read_dataset(tiles), out / "run", Recipe.load(settings=SETTINGS), quiet=quiet)
    engine = open_engine(run.model)
    with track("Predicting the unseen town", SIZE**2 / 1e6, unit="MP", quiet=quiet) as advance:
        outputs = predict_scene(engine, scene, out / "prediction", progress=advance)
    frame = read_polygons(out / "prediction" / "town.gpkg", layer="polygons")
    predicted = _read(out / "prediction" / "town.classes.tif")
    truth = np.where(town.truth(1), BUILDINGS.ids[0], 0)
    score = confusion(truth, predicted, BUILDINGS)
    scores = {"iou": float(score.iou[0]), "f1": float(score.f1[0]), "polygons": len(frame)}
    report = out / "report.html"
    write_page(_page(town, frame, Example(town.image, truth, predicted), score), report)
    lines = [
        f"Building IoU {scores['iou']:.3f}, F1 {scores['f1']:.3f} on a synthetic town that the network hadn't seen.",
        SYNTHETIC,
        f"{len(frame):,} polygons in {outputs.polygons}; open it in a GIS over {scene}.",
        f"Report: {report}. Training: {run.folder / 'report.html'}. All in {time.perf_counter() - begun:.0f} s.",
    ]
    files = {"report": str(report), "run": str(run.folder), "scene": str(scene), "classes": str(outputs.classes)}
    files |= {"probabilities": str(outputs.probabilities), "polygons": str(outputs.polygons), "model": str(run.model)}
    return {"files": files, "scores": scores, "lines": lines}


def _read(path: Path) -> np.ndarray:
    """The only band of a raster."""
    with Scene(path) as scene:
        return scene.raw(Window(0, 0, *scene.grid.shape))[..., 0]


def _page(town: Town, frame: geopandas.GeoDataFrame, whole: Example, score: Confusion) -> Page:
    """The report: the town with its predicted polygons, a part of it from close by, and the scores."""
    pixels = shapely.transform(frame.geometry.array, _to_pixels(town))
    chart = polygons_over(
        town.image, list(pixels), frame["class_id"].tolist(), BUILDINGS, areas_m2=frame["area_m2"].tolist(), gsd_m=GSD_M
    )
    headers, *rows = score.table()
    middle = Window(SIZE // 2 - 180, SIZE // 2 - 180, 360, 360).slices
    part = Example(whole.rgb[middle], whole.truth[middle], whole.prediction[middle])
    photos = tuple(
        Picture.photo(picture, alt=f"The middle of the town: {name}", caption=name.capitalize())
        for name, picture in panels(part, BUILDINGS).items()
    )
    seen = Picture(png_bytes(chart, dpi=150), alt="The synthetic town with its predicted buildings outlined")
    return Page(
        "satmask demo: buildings of a synthetic town",
        SYNTHETIC,
        (
            Section("A town that the network hadn't seen", "Outlines are what it predicts.", pictures=(seen,)),
            Section("From close by", pictures=photos, columns=4, key=panel_key(BUILDINGS)),
            Section("Scores", SYNTHETIC, tables=(Table(headers, rows, "Pixels of the whole town"),)),
        ),
    )


def _to_pixels(town: Town) -> Callable[[np.ndarray], np.ndarray]:
    a, b, c, d, e, f = tuple(~town.grid.transform)[:6]
    return lambda points: np.asarray(points @ np.array([[a, d], [b, e]]) + (c, f))
