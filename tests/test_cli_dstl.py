"""DSTL's folder and stack files on the command line: the same as in the library."""

import json
import shutil

import numpy as np
import pytest
import rasterio

from satmask.cli import main
from satmask.datasets.dstl import LEGEND, list_stacks
from satmask.datasets.registrations import read_registrations
from satmask.datasets.town.dstl import write_dstl
from satmask.engines import open_engine
from satmask.prediction import predict_scene
from satmask.stack import Stack

# rasterio 1.4 multiplies transforms the way that affine 3.1 is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_dstl(tmp_path_factory.mktemp("dstl") / "set", images=4, labelled=3, size=(130, 140), seed=6)


@pytest.fixture(scope="module")
def model(tmp_path_factory, write_model):
    names = dict(zip(LEGEND.ids, LEGEND.names, strict=True))
    return write_model(
        tmp_path_factory.mktemp("model") / "m.onnx",
        ["red", "m_nir1", "swir3", "ndwi"],
        names,
        dtype="float32",
        top=9000,
    )


def test_a_folder_is_predicted_as_its_stacks_are(made, model, tmp_path, capsys):
    assert main(["predict", str(model), str(made.folder), "--out", str(tmp_path / "cli"), "-q"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    name, stack = max(list_stacks(made.folder).items())
    outputs = predict_scene(open_engine(model), stack, tmp_path / "library")
    for path in (outputs.classes, outputs.probabilities):
        assert (tmp_path / "cli" / path.name).read_bytes() == path.read_bytes()
    with rasterio.open(outputs.probabilities) as file, rasterio.open(made.folder / f"three_band/{name}.tif") as rgb:
        assert file.shape == rgb.shape
        assert file.count == 10
        assert np.isfinite(file.read()).all()


@pytest.mark.parametrize(
    ("flags", "count"), [(["--labelled"], 3), (["--unlabelled"], 1), (["--only", "61*"], 2), (["--only", "6110_*"], 1)]
)
def test_some_images_of_a_folder(made, model, tmp_path, flags, count):
    assert main(["predict", str(model), str(made.folder), "--out", str(tmp_path), "-q", *flags]) == 0
    assert len(list(tmp_path.glob("*.classes.tif"))) == count


def test_flags_that_don_t_fit_are_misuse(made, model, tmp_path, capsys):
    image = made.folder / "three_band" / f"{made.images[0]}.tif"
    for scene, flags in ((image, ["--labelled"]), (made.folder, ["--only", "nothing"])):
        assert main(["predict", str(model), str(scene), "--out", str(tmp_path), *flags]) == 2
        assert len(capsys.readouterr().err.splitlines()) <= 2


def test_registering_a_folder_writes_what_the_reader_uses(made, tmp_path, capsys):
    folder = shutil.copytree(made.folder, tmp_path / "set")
    out, pictures = tmp_path / "elsewhere.json", tmp_path / "pictures"
    flags = ["--only", "6110_*", "--picture", str(pictures), "-q", "--json"]
    assert main(["register", str(folder), "--out", str(out), *flags]) == 0
    said = json.loads(capsys.readouterr().out)
    (name,) = said["images"]
    assert set(said["images"][name]) == {"P", "M", "A"}
    assert (pictures / f"{name}.registration.png").is_file()
    assert not (folder / "registration.json").exists()
    assert main(["register", str(folder), "-q"]) == 0
    found = read_registrations(folder / "registration.json")
    assert found[name] == read_registrations(out)[name]
    assert len(found) == 4
    used = list_stacks(folder)[name]
    assert [product.shift for product in used.products[1:]] == [one.shift for one in found[name].products.values()]


def test_registering_a_stack_file_puts_shifts_into_it(tmp_path, capsys):
    made = write_dstl(tmp_path / "set", images=1, size=(360, 380), seed=2)
    stack = next(iter(list_stacks(made.folder, registration=False).values()))
    path = stack.save(made.folder / "place.stack.json")
    assert main(["register", str(path), "-q"]) == 0
    shifts = {product.name: product.shift for product in Stack.load(path).products}
    assert shifts["M"] == pytest.approx(made.shifts[stack.name]["M"], abs=0.3)
    assert sorted(entry.name for entry in made.folder.iterdir() if entry.name.startswith(".")) == []
    assert "M  score" in capsys.readouterr().out


def test_what_can_t_be_registered_is_misuse(tmp_path, capsys):
    assert main(["register", str(tmp_path)]) == 2
    assert "Is it a DSTL folder?" in capsys.readouterr().err
