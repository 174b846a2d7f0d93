"""Polygons traced while windows still come: begun early, ended at once when nothing more comes, dated alike."""

import threading
import time

import numpy as np
import pyogrio
import pytest
import rasterio
from pyogrio.errors import DataSourceError

from noisy_scenes import SIZE, contents, make_place
from satmask.engines import open_engine
from satmask.errors import SceneError
from satmask.polygon_writer import PolygonWriter
from satmask.prediction import finishing, predict_scene
from satmask.prediction.following import GivenUpError, Known
from satmask.prediction.outlining import _timeless
from satmask.rasters import RasterKind, RasterWriter
from satmask.scene import Scene
from satmask.windows import Window


@pytest.fixture(scope="module")
def place(tmp_path_factory, write_convolutions):
    return make_place(tmp_path_factory.mktemp("outlining"), write_convolutions)


@pytest.fixture(scope="module")
def engines(place, write_convolutions):
    """Networks whose classes follow from each pixel alone, and from objects: there is a smallest area."""
    local = write_convolutions(place / "local.onnx", ("river", "house"), layers=3, width=8)
    return {"pixels": open_engine(local), "objects": open_engine(place / "model.onnx")}


def test_waiting_ends_when_rows_are_there_or_never_will_be():
    known, said = Known(), []

    def wait(rows):
        try:
            known.wait(rows)
            said.append(rows)
        except GivenUpError:
            said.append(-rows)

    threads = [threading.Thread(target=wait, args=(rows,)) for rows in (3, 9)]
    for thread in threads:
        thread.start()
    known.tell(3)
    threads[0].join(10)
    assert said == [3]
    known.end()
    threads[1].join(10)
    assert said == [3, -9]


@pytest.mark.parametrize("decided", ["pixels", "objects"])
def test_polygons_come_while_windows_are_missing(engines, decided, place, tmp_path, monkeypatch):
    """Strips of the scene's width are decided and traced before its last row of windows is known."""
    engine = engines[decided]
    monkeypatch.setattr("satmask.vectorise.raster.STRIP_PX", 400 * 20)
    monkeypatch.setattr("satmask.prediction.finishing.STRIP_PX", 2 * 400 * 20)
    traced, at_end, write, finish = threading.Event(), [], PolygonWriter.write, finishing.Drafts.finish
    monkeypatch.setattr(PolygonWriter, "write", lambda self, frame: (write(self, frame), traced.set())[0])
    monkeypatch.setattr(finishing.Drafts, "finish", lambda self: (at_end.append(traced.wait(20)), finish(self))[1])
    predict_scene(engine, place / "scene.tif", tmp_path / "a", size=SIZE)
    assert at_end == [True]
    monkeypatch.undo()
    predict_scene(engine, place / "scene.tif", tmp_path / "b", size=SIZE)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("decided", ["pixels", "objects"])
def test_polygons_that_cannot_be_written_end_the_run_at_once(engines, decided, place, tmp_path, monkeypatch):
    def fail(*_):
        msg = "no room"
        raise DataSourceError(msg)

    monkeypatch.setattr("satmask.vectorise.raster.STRIP_PX", 400 * 20)
    monkeypatch.setattr("satmask.prediction.finishing.STRIP_PX", 2 * 400 * 20)
    monkeypatch.setattr(PolygonWriter, "write", fail)
    seen = []
    with pytest.raises(
        SceneError, match=r"Polygons must be written whole, got 'no room'.*windows of scene\.tif are kept"
    ):
        predict_scene(
            engines[decided],
            place / "scene.tif",
            tmp_path,
            size=SIZE,
            progress=lambda area: (seen.append(area), time.sleep(0.05)),
        )
    assert len(seen) < 25


def test_scenes_side_by_side_are_dated_alike():
    date = "OGR_CURRENT_DATE"
    before = pyogrio.get_gdal_config_option(date)
    first, second = _timeless(), _timeless()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert pyogrio.get_gdal_config_option(date) == "1970-01-01T00:00:00.000Z"
    second.__exit__(None, None, None)
    assert pyogrio.get_gdal_config_option(date) == before


@pytest.mark.parametrize("shape", [(1030, 700), (512, 514), (90, 512)])
def test_overviews_are_means_of_four_down_to_a_block(place, tmp_path, shape):
    values = np.random.default_rng(0).random(shape, np.float32)
    values[:8, :8] = np.nan
    profile = {
        "driver": "GTiff",
        "height": shape[0],
        "width": shape[1],
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:32633",
    }
    with rasterio.open(tmp_path / "scene.tif", "w", transform=rasterio.Affine(1, 0, 0, 0, -1, 0), **profile):
        pass
    kind = RasterKind(np.dtype(np.float32), ["amount"], np.nan)
    with Scene(tmp_path / "scene.tif") as scene, RasterWriter(tmp_path / "out.tif", scene, kind, verify=True) as writer:
        writer.write(values, Window(0, 0, *shape))
        np.testing.assert_array_equal(writer.read(Window(5, 9, 40, 30))[..., 0], values[5:45, 9:39])
        writer.finish()
    with rasterio.open(tmp_path / "out.tif") as file:
        factors = file.overviews(1)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert factors == [2**level for level in range(1, 8) if max(shape) > 512 * 2 ** (level - 1)]
    if factors:
        half = values[: shape[0] // 2 * 2, : shape[1] // 2 * 2].reshape(shape[0] // 2, 2, shape[1] // 2, 2).mean((1, 3))
        with rasterio.open(tmp_path / "out.tif", overview_level=0) as file:
            np.testing.assert_allclose(file.read(1)[: half.shape[0], : half.shape[1]], half, rtol=1e-5)
