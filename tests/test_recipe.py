"""Recipes: files and settings say the same, slips are named with a way out, and JSON keeps them."""

import pytest

from satmask.errors import SettingError
from satmask.recipe import Recipe, field_names

TOML = """
epochs = 3
validation = ["tile6_*"]
bands = [4, "red"]
gsd_m = [0.3, 0.5]

[network]
name = "dilated"
noise = 0.2

[loss]
name = "focal"
gamma = 1.5
class_weights = [1, 2]

[augment]
noise = 0.02
flips = false

[schedule]
name = "plateau"
"""
SETTINGS = [
    "epochs=3",
    'validation=["tile6_*"]',
    'bands=[4, "red"]',
    "gsd_m=[0.3, 0.5]",
    "network.name=dilated",
    "network.noise=0.2",
    "loss.name=focal",
    "loss.gamma=1.5",
    "loss.class_weights=[1, 2]",
    "augment.noise=0.02",
    "augment.flips=false",
    "schedule.name=plateau",
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(TOML)
    return path


def test_a_file_and_settings_say_the_same(path):
    recipe = Recipe.load(path)
    assert recipe == Recipe.load(settings=SETTINGS) != Recipe()
    assert (recipe.network.options, recipe.loss.options) == ({"noise": 0.2}, {"gamma": 1.5})
    assert (recipe.bands, recipe.validation, recipe.augment.flips) == ((4, "red"), ("tile6_*",), False)


def test_settings_lie_over_the_file(path):
    recipe = Recipe.load(path, ["epochs=7", "augment.noise=0", "gsd_m=none", "network.name=unet"])
    assert (recipe.epochs, recipe.augment.noise, recipe.gsd_m, recipe.loss.name) == (7, 0, None, "focal")


@pytest.mark.parametrize("settings", [[], SETTINGS, ["network.filters=[8, 16]"], ["network.name=cnn"]])
def test_json_gives_the_recipe_back(settings):
    recipe = Recipe.load(settings=settings)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("epoch=3", "epochs"),
        ("augment.noize=1", "augment.noise"),
        ("learning=1", "learning_rate"),
        ("windw=9", "window"),
    ],
)
def test_slips_in_names_are_told_apart(setting, meant):
    with pytest.raises(SettingError, match=f"Did you mean '{meant}'"):
        Recipe.load(settings=[setting])


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("epochs=many", "'epochs'.*'many'"),
        ("epochs=0", "'epochs'.*got 0"),
        ("epochs=2.5", "'epochs'.*2.5"),
        ("batch=[1]", "'batch'"),
        ("window=8", "'window'.*16"),
        ("validation=1.5", "between 0 and 1.*1.5"),
        ("validation=0.0", "between 0 and 1"),
        ("validation=[1]", "'validation'"),
        ("bands=[1.5]", "'bands'.*1.5"),
        ("validation=nan", "between 0 and 1"),
        ("sampling=fair", "'sampling'.*random.*balanced"),
        ("schedule.name=step", "'schedule.name'"),
        ("augment=3", "'augment'"),
        ("augment.noise.more=1", "'augment.noise'"),
        ("gsd_m=[1]", "'gsd_m"),
        ("learning_rate=-1", "'learning_rate'"),
        ("epochs", "key=value, got 'epochs'"),
        ("=3", "key=value, got '=3'"),
        ("zzzzzz=1", "There are"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_line(setting, named):
    with pytest.raises(SettingError, match=named) as caught:
        Recipe.load(settings=[setting])
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


def test_a_setting_must_not_reach_into_a_value():
    with pytest.raises(SettingError, match="is a value"):
        Recipe.load(settings=["epochs=3", "epochs.more=1"])


def test_one_pattern_needs_no_list():
    assert Recipe.load(settings=["validation=tile6_*"]).validation == ("tile6_*",)


@pytest.mark.parametrize("content", [b"epochs = ", b"\xff\xfe", b"[a]\n[a]"])
def test_broken_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    for there in (path, tmp_path / "gone.toml"):
        with pytest.raises(SettingError, match=there.name):
            Recipe.load(there)


def test_every_setting_has_a_name():
    names = field_names()
    assert len(names) == len(set(names))
    assert {"epochs", "augment.noise", "schedule.patience", "loss.name"} <= set(names)
    assert "class_field" not in names  # belongs to reading the data
