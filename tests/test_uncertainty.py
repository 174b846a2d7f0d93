"""Laws of uncertainty: it is the entropy that others compute, 0 without doubt, 1 at a guess, NaN where nothing is known."""

import json

import numpy as np
import pytest
import rasterio
from scipy import stats

from satmask.cli import main
from satmask.uncertainty import entropy


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_exclusive_classes_have_scipy_s_entropy(classes):
    said = np.random.default_rng(classes).dirichlet(np.full(classes, 0.4), (20, 30))
    said[0, 0], said[0, 1] = np.eye(classes)[0], 1 / classes
    found = entropy(said.astype(np.float32), exclusive=True)
    assert found.shape == (20, 30)
    assert found.dtype == np.float32
    assert np.allclose(found, stats.entropy(said, base=classes, axis=-1), atol=1e-6)
    assert (found[0, 0], found[0, 1]) == (0, 1)


def test_overlapping_classes_have_the_mean_of_their_own():
    said = np.random.default_rng(1).random((9, 8, 3))
    said[0, 0], said[0, 1] = (0, 1, 0), 0.5
    brute = [[np.mean([stats.entropy([p, 1 - p], base=2) for p in pixel]) for pixel in row] for row in said]
    found = entropy(said, exclusive=False)
    assert np.allclose(found, brute, atol=1e-6)
    assert (found[0, 0], found[0, 1]) == (0, 1)
    assert np.array_equal(found, entropy(1 - said, exclusive=False))


@pytest.mark.parametrize("exclusive", [True, False])
def test_unknown_stays_unknown_and_one_class_is_no_choice(exclusive):
    said = np.full((2, 2, 3), 1 / 3)
    said[0, 0] = np.nan
    found = entropy(said, exclusive=exclusive)
    assert np.isnan(found).tolist() == [[True, False], [False, False]]
    assert entropy(np.ones((1, 1)), exclusive=exclusive).tolist() == [0]


def test_windows_have_the_bits_of_the_whole():
    said = np.random.default_rng(2).random((37, 41, 2)).astype(np.float32)
    whole = entropy(said, exclusive=False)
    for row, column in ((0, 3), (5, 0), (11, 17)):
        assert np.array_equal(
            entropy(said[row:, column : column + 9], exclusive=False), whole[row:, column : column + 9]
        )


def write_scene(path):
    pixels = np.random.default_rng(5).integers(0, 255, (1, 70, 90), dtype=np.uint8)
    pixels[:, :9, :11] = 0
    place = rasterio.Affine(0.5, 0, 600_000, 0, -0.5, 5_000_000)
    settings = {"driver": "GTiff", "height": 70, "width": 90, "count": 1, "dtype": "uint8", "nodata": 0}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=place, **settings) as file:
        file.write(pixels)


def test_predict_writes_the_entropy_of_the_probabilities_beside_them(tmp_path, write_model, capsys):
    write_scene(tmp_path / "scene.tif")
    model = write_model(tmp_path / "model.onnx", ["red"], ["house", "pond"], stride=16, halo=16)
    arguments = ["predict", str(model), str(tmp_path / "scene.tif"), "--quiet", "--json", "--out"]
    assert main([*arguments, str(tmp_path / "plain")]) == 0
    assert json.loads(capsys.readouterr().out)["scenes"][0]["uncertainty"] is None
    for folder, flags in (("one", []), ("two", ["--window", "48"])):
        assert main([*arguments, str(tmp_path / folder), "--uncertainty", *flags]) == 0
        told = json.loads(capsys.readouterr().out)["scenes"][0]
        with rasterio.open(told["uncertainty"]) as file, rasterio.open(told["probabilities"]) as said:
            assert (file.crs, file.transform, file.nodata is not None) == (said.crs, said.transform, True)
            assert file.descriptions == ("uncertainty",)
            found, expected = file.read(1), entropy(np.moveaxis(said.read(), 0, -1), exclusive=False)
        assert np.array_equal(found, expected, equal_nan=True)
        assert np.isnan(found[:9, :11]).all()
    # Such a raster is no scene.
    assert main(["predict", str(model), str(tmp_path / "one"), "--quiet", "--out", str(tmp_path / "three")]) == 2
    assert "folder without any" in capsys.readouterr().err
