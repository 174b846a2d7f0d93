"""The demo, made small: every file it names is there, and its scores are those of its files."""

import geopandas
import pytest
import rasterio
from sklearn.metrics import jaccard_score

from satmask import demo
from satmask.datasets.town import draw_town
from satmask.errors import SettingError


def test_the_demo_does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SIZE", 400)
    monkeypatch.setattr(demo, "TILES", 6)
    small = ["network.filters=[4, 6]", "epochs=1", "windows_per_epoch=4", "batch=2", "window=64", "compile=false"]
    monkeypatch.setattr(demo, "SETTINGS", small)
    result = demo.run_demo(tmp_path / "demo", quiet=True)
    for path in result["files"].values():
        assert (tmp_path / path).exists()
    with rasterio.open(result["files"]["classes"]) as file:
        said = file.read(1) == 100
    truth = draw_town(400, 400, seed=demo.SEED, gsd_m=demo.GSD_M).truth(1)
    assert result["scores"]["iou"] == pytest.approx(jaccard_score(truth.ravel(), said.ravel(), zero_division=0))
    assert result["scores"]["polygons"] == len(geopandas.read_file(result["files"]["polygons"]))
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "drawn by a program" in page
    with pytest.raises(SettingError, match="new or empty"):
        demo.run_demo(tmp_path / "demo", quiet=True)
