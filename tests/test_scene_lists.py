"""What the user names becomes a list of scenes; what lists name reaches no further than allowed."""

import json

import numpy as np
import pytest
import rasterio

from satmask.addresses import Remote
from satmask.errors import DataError, SettingError
from satmask.permissions import VARIABLE
from satmask.scene_lists import choose_scenes, find_scenes, megapixels, refuse_overwriting, stem_of
from satmask.stack import Stack, open_imagery
from satmask.windows import Window


@pytest.fixture
def folder(tmp_path):
    """Six rasters, of which two are a mask and a prediction."""
    for name in ("a/one.tif", "a/two.tif", "a/b/three.tif", "a/two_mask.tif", "a/one.classes.tif", "a/b/four.tif"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fill = np.full((1, 8, 9), ord(path.stem[0]), np.uint8)
        with rasterio.open(path, "w", driver="GTiff", height=8, width=9, count=1, dtype="uint8", crs="EPSG:32633",
                           transform=rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)) as file:  # fmt: skip
            file.write(fill)
    return tmp_path


def names(scenes):
    return [stem_of(scene) for scene in scenes]


def test_files_folders_and_patterns(folder):
    assert names(find_scenes([folder / "a"])) == ["one", "two"]
    assert names(find_scenes([str(folder / "a" / "**" / "*.tif")])) == ["four", "three", "one", "two"]
    assert names(find_scenes([folder / "a" / "t*.tif", folder / "a" / "two.tif"])) == ["two"]
    assert names(find_scenes([folder / "absent.tif", "s3://bucket/far.tif"])) == ["absent", "far"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    (folder / "a" / "one.tif").rename(folder / "a" / "x[1].tif")
    assert names(find_scenes([str(folder / "a" / "x[1].tif")])) == ["x[1]"]


@pytest.mark.parametrize("name", ["scenes.txt", "@scenes"])
def test_list_files_are_read_relative_to_themselves(folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    lines = ["\ufeff# ours", "one.tif", "", "  b/*.tif  ", str(folder / "a" / "two.tif"), "none.tif", "one.tif"]
    (folder / "a" / name.removeprefix("@")).write_text("\r\n".join(lines), encoding="utf-8")
    path = folder / "a" / name.removeprefix("@")
    found = find_scenes([f"@{path}" if name.startswith("@") else path])
    assert names(found) == ["one", "four", "three", "two", "none"]


@pytest.mark.parametrize("line", ["https://example.org/a.tif", "s3://bucket/a.tif", "gs://bucket/a.tif"])
def test_list_files_reach_the_network_only_if_allowed(folder, line, monkeypatch):
    path, problems = folder / "list.txt", []
    path.write_text(f"{line}\na/one.tif\n")
    assert names(find_scenes([path], problems=problems)) == ["one"]
    assert [problem.where for problem in problems] == ["list.txt, line 1"]
    assert "--allow-remote" in problems[0].what
    monkeypatch.setenv(VARIABLE, "remote")
    assert find_scenes([path])[0] == Remote(line)


def test_a_bad_line_costs_only_itself(folder):
    path, problems = folder / "list.txt", []
    path.write_text("other.txt\na\nabsent/*.tif\n@list\nitems.json\n")
    assert names(find_scenes([path], problems=problems)) == ["one", "two"]
    assert [problem.where for problem in problems] == [f"list.txt, line {number}" for number in (1, 3, 4, 5)]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["a/*.jp2"], "match a scene"),
        (["empty"], "folder without any"),
        (["list.txt"], "at least one"),
        (["no.txt"], "text file"),
    ],
)
def test_what_holds_no_scene_is_misuse(folder, wanted, said, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "list.txt").write_text("# nothing\n")
    with pytest.raises(SettingError, match=said):
        find_scenes(wanted)


def test_flags_must_have_something_to_apply_to(folder):
    for settings in ({"labelled": True}, {"assets": ["red"]}):
        with pytest.raises(SettingError, match="must go with"):
            find_scenes([folder / "a"], **settings)


def test_scenes_are_chosen_by_name(folder):
    found = find_scenes([folder / "a" / "**" / "*.tif"])
    assert names(choose_scenes(found, ["t*"])) == ["three", "two"]
    assert choose_scenes(found, None) == found
    with pytest.raises(SettingError, match="got none of 4 named five or six"):
        choose_scenes(found, ["five", "six"])


def test_results_that_would_lie_over_something_are_refused(folder, tmp_path):
    one = folder / "a" / "one.tif"
    refuse_overwriting([one, Remote("s3://bucket/two.tif")], tmp_path / "out")
    for scenes, out, said in (
        ([one, Remote("https://example.org/one.tif?signature=secret")], folder / "out", "names of their own"),
        ([folder / "a" / "one.classes.tif", one], folder / "a", "over a scene"),
    ):
        with pytest.raises(SettingError, match=said) as error:
            refuse_overwriting(scenes, out)
        assert "secret" not in str(error.value)


def test_sizes_are_known_before(folder):
    assert megapixels(folder / "a" / "one.tif") == 72e-6
    assert megapixels(folder / "none.tif") == 0


# -- STAC --------------------------------------------------------------------------------------------------------------


def item(name, **assets):
    return {"type": "Feature", "stac_version": "1.0.0", "id": name, "assets": assets}


def asset(href, *roles, kind="image/tiff; application=geotiff; profile=cloud-optimized", **more):
    return {"href": href, "roles": list(roles), "type": kind} | more


def listed(folder, content, **settings):
    path, problems = folder / "items.json", []
    path.write_text(json.dumps(content))
    return find_scenes([path], problems=problems, **settings), problems


def test_an_item_is_its_only_raster_of_data(folder):
    assets = {
        "data": asset("./a/one.tif", "data"),
        "preview": asset("a/two.tif", "thumbnail"),
        "cloud": asset("a/b/three.tif", "cloud-mask"),
        "info": asset("info.xml", "metadata", kind="application/xml"),
    }
    (scene,), problems = listed(folder, item("x", **assets))
    assert (scene, problems) == (folder / "a" / "one.tif", [])
    (scene,), _ = listed(folder, item("x", **assets), assets=["cloud"])
    assert stem_of(scene) == "three"


def test_one_of_several_must_be_chosen(folder):
    content = {
        "type": "FeatureCollection",
        "features": [
            item("good", only=asset("a/one.tif")),
            item("torn", r=asset("a/two.tif"), n=asset("a/b/four.tif")),
        ],
    }
    found, problems = listed(folder, content)
    assert names(found) == ["one"]
    assert [problem.where for problem in problems] == ["torn"]
    assert "Choose with --asset r" in problems[0].what
    assert names(listed(folder, content, assets=["n"])[0]) == ["four"]


def test_several_assets_make_one_scene(folder):
    content = item("both/../x", red=asset("a/one.tif"), nir=asset("a/two.tif"))
    (scene,), _ = listed(folder, content, assets=["nir", "red"])
    assert isinstance(scene, Stack)
    assert stem_of(scene) == "both_.._x"
    with open_imagery(scene) as imagery:
        assert imagery.bands == ("nir", "red")
        assert imagery.read(Window(0, 0, 1, 1)).values.tolist() == [[[ord("t"), ord("o")]]]


def test_items_whose_files_bear_one_name_are_called_by_their_ids(folder):
    (folder / "c").mkdir()
    (folder / "c" / "one.tif").write_bytes((folder / "a" / "two.tif").read_bytes())
    features = [item("north", data=asset("a/one.tif")), item("south", data=asset("c/one.tif"))]
    found, _ = listed(folder, {"type": "FeatureCollection", "features": features})
    assert names(found) == ["north", "south"]
    refuse_overwriting(found, folder / "out")
    read = [open_imagery(scene).read(Window(0, 0, 1, 1)).values[0, 0, 0] for scene in found]
    assert [chr(value) for value in read] == ["o", "t"]


@pytest.mark.parametrize(
    ("href", "permission"),
    [
        ("https://example.org/a.tif", "remote"),
        ("s3://bucket/a.tif", "remote"),
        ("../outside.tif", "outside"),
        ("/etc/passwd", "outside"),
        ("file:///etc/passwd", "outside"),
        ("/vsicurl/https://example.org/a.tif", None),
        ("/vsizip/a.zip/a.tif", None),
        ("ftp://example.org/a.tif", None),
        ("", None),
        (None, None),
        (["a.tif"], None),
    ],
)
def test_hrefs_reach_only_what_is_allowed(folder, href, permission, monkeypatch):
    content = {
        "type": "FeatureCollection",
        "features": [item("bad", data=asset(href)), item("good", data=asset("a/one.tif"))],
    }
    found, problems = listed(folder, content, assets=["data"])
    assert names(found) == ["one"]
    assert [problem.where for problem in problems] == ["bad"]
    monkeypatch.setenv(VARIABLE, "remote, outside")
    found, _ = listed(folder, content, assets=["data"])
    assert len(found) == (2 if permission else 1)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"type": "Feature"},
        {"type": "Catalog", "links": []},
        {"type": "FeatureCollection", "features": {}},
        "x",
        None,
        3,
    ],
)
def test_what_is_no_item_is_said_to_be_none(folder, content):
    with pytest.raises(DataError, match=r"items\.json"):
        listed(folder, content)


@pytest.mark.parametrize("bad", [None, [], {"assets": 3}, {"assets": {"a": None}}, {"assets": {"a": {}}}, {"id": "x"}])
def test_a_bad_item_costs_only_itself(folder, bad):
    content = {"type": "FeatureCollection", "features": [bad, item("good", data=asset("a/one.tif"))]}
    found, problems = listed(folder, content)
    assert names(found) == ["one"]
    assert len(problems) == 1


def test_nested_json_is_no_crash(folder):
    path = folder / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"deep\.json"):
        find_scenes([path])
