"""Groups: several networks from one recipe predict as the one model that their assembly is."""

import numpy as np
import pytest
import rasterio

from satmask.datasets import read_dataset
from satmask.datasets.dstl import LEGEND, list_stacks
from satmask.datasets.town.dstl import write_dstl
from satmask.engines import open_engine
from satmask.errors import SettingError
from satmask.groups import has_groups, settle_groups, train_groups
from satmask.model_file import read_info
from satmask.prediction import predict_scene
from satmask.recipe import Recipe
from satmask.training import train

# rasterio 1.4 multiplies transforms the way that affine 3.1 is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

TINY = [
    "network.filters=[4, 6]",
    "window=48",
    "batch=2",
    "windows_per_epoch=4",
    "epochs=1",
    "sampling=balanced",
    "compile=false",
    "loss.name=jaccard_bce",
    "loss.interior=8",
    'bands=["red", "pan", "m_nir1", "swir3", "ndwi", "sharp_red"]',
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    made = write_dstl(tmp_path_factory.mktemp("dstl") / "set", images=4, labelled=4, size=(96, 112), seed=4)
    return read_dataset(made.folder)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    recipe = Recipe.load(settings=[*TINY, "groups.water=[8, 7]", 'groups.land=["Trees", "Crops"]'])
    train_groups(data, out, recipe, quiet=True)
    return out


def test_every_group_is_a_run_of_its_classes(folder):
    assert read_info(folder / "water" / "model.onnx").legend.names == ("Waterway", "Standing water")
    info = read_info(folder / "land" / "model.onnx")
    assert info.legend.names == ("Trees", "Crops")
    wavelengths = {band.name: band.wavelength_nm for band in info.bands}
    assert wavelengths == {"red": 660, "pan": 625, "m_nir1": 832.5, "swir3": 1660, "ndwi": None, "sharp_red": 660}
    assert info.dtype == "float32"


def test_together_they_predict_what_each_does_in_the_legend_s_order(folder, data):
    stack = list_stacks(data.root)["6110_1_2"]
    done = {name: predict_scene(open_engine(folder / name), stack, folder / "out" / str(number))
            for number, name in enumerate(("assembly.json", "land/model.onnx", "water/model.onnx"))}  # fmt: skip
    bands = []
    for outputs in done.values():
        with rasterio.open(outputs.probabilities) as file:
            bands.append((file.descriptions, file.read()))
    assert bands[0][0] == bands[1][0] + bands[2][0]
    np.testing.assert_array_equal(bands[0][1], np.concatenate([bands[1][1], bands[2][1]]))


def test_a_finished_group_stays_when_the_others_go_on(folder, data):
    before = (folder / "water" / "model.onnx").stat().st_mtime_ns
    assert has_groups(folder)
    runs = train_groups(data, folder, resume=True, quiet=True)
    assert (folder / "water" / "model.onnx").stat().st_mtime_ns == before
    assert list(runs) == ["water", "land"]


def test_folders_and_recipes_that_don_t_fit_are_refused(folder, data, tmp_path):
    other = Recipe.load(settings=[*TINY, "groups=each"])
    with pytest.raises(SettingError, match="Pass --resume"):
        train_groups(data, folder, other, quiet=True)
    with pytest.raises(SettingError, match="the same when runs go on"):
        train_groups(data, folder, other, resume=True, quiet=True)
    with pytest.raises(SettingError, match="given with its groups"):
        train_groups(data, tmp_path / "new", Recipe(), quiet=True)
    with pytest.raises(SettingError, match="train_groups"):
        train(data, tmp_path / "new", other, quiet=True)
    assert not (tmp_path / "new").exists()


def test_each_is_one_group_a_class():
    groups = settle_groups(Recipe(groups="each"), LEGEND)
    assert len(groups) == 10
    assert groups["misc-manmade-structures"] == ("Misc. manmade structures",)


@pytest.mark.parametrize(
    ("groups", "reason"),
    [({"a": [1], "b": [2, 1]}, "one group only"), ({"../a": [1]}, "letters"), ({"a": [12]}, "got 12"), ({"a": ["Sea"]}, "Sea")],
)  # fmt: skip
def test_groups_that_don_t_fit_are_refused(groups, reason):
    with pytest.raises(SettingError, match=reason):
        settle_groups(Recipe(groups=groups), LEGEND)
