"""Splits: nothing seen on one side is seen on the other, and what is written reads as what it was."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest

from satmask.cli import main
from satmask.datasets import read_dataset
from satmask.datasets.dataset import Dataset, Sample, place_of
from satmask.datasets.grouping import choose_groups, join
from satmask.datasets.town import draw_town, write_scene, write_tiles
from satmask.errors import DataError, SettingError
from satmask.fingerprints import SYMMETRIES
from satmask.labels import PolygonLabels
from satmask.leaks import find_leaks
from satmask.legend import Legend
from satmask.scene import Scene
from satmask.split_files import write_split
from satmask.splitting import plan_split
from satmask.windows import Window


def pixels(sample):
    with Scene(sample.image) as scene:
        return scene.read(Window(0, 0, *scene.shape)).values


def truth(sample):
    return sample.labels.read(Window(0, 0, *sample.shape))


def everything(data):
    """All samples of a data set by the pixels they show."""
    return {
        (pixels(sample).tobytes(), truth(sample).classes.tobytes(), truth(sample).labelled.tobytes(), sample.bounds)
        for samples in data.splits.values()
        for sample in samples
    }


def write_pairs(folder, names, *, size=40):
    """Noise with masks of two values, by full path without suffix."""
    random = np.random.default_rng(len(names))
    for name in names:
        for part, kind in (("images", "jpg"), ("masks", "png")):
            (path := folder / name.replace("@", part)).parent.mkdir(parents=True, exist_ok=True)
            image = cv2.GaussianBlur(random.integers(0, 255, (size, size), np.uint8), (0, 0), 3)
            image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
            cv2.imwrite(f"{path}.{kind}", image if part == "images" else (image > 120).astype(np.uint8))
    return folder


@pytest.fixture
def made(tmp_path, request):
    """A data set of each layout, with the places a, b, c and d."""
    folder = tmp_path / "data"
    if request.param == "coco":  # the same names and ids in both splits, as in crowdAI's
        return write_tiles(folder, count=10, size=64)
    if request.param == "pairs":
        names = [
            f"{split}/@/{place}town_{n}"
            for split, place in zip(("train", "train", "val", "val"), "abcd", strict=True)
            for n in range(5)
        ]
        write_pairs(folder, [*names, "val/@/atown_2"])
        (folder / "train" / "images" / "atown_1.jgw").write_text("0.5\n0\n0\n-0.5\n0\n0\n")
        (folder / "val" / "masks" / "dtown_1.png.aux.xml").write_text("<PAMDataset/>")
        return folder
    for seed, place in enumerate("abcd"):
        write_scene(draw_town(60, 50, seed=seed), folder, f"{place}town_1")
        if seed % 2:  # two of one town, with one vector file
            (folder / f"{place}town_1.gpkg").rename(folder / f"{place}town.gpkg")
    return folder


@pytest.mark.parametrize("made", ["coco", "pairs", "scenes"], indirect=True)
@pytest.mark.parametrize("link", ["hard", "symbolic", "copy"])
def test_what_is_written_reads_as_what_it_was(made, tmp_path, link):
    data = read_dataset(made)
    out = write_split(plan_split(data, share=0.3, seed=1), tmp_path / "out", link=link)
    again = read_dataset(out)
    assert (again.layout, again.legend, again.problems) == (data.layout, data.legend, ())
    assert len(everything(data)) == sum(map(len, data.splits.values())) > 3
    if data.layout == "scenes":  # towns all lie in one place, so only pixels and labels count
        assert {entry[:3] for entry in everything(again)} == {entry[:3] for entry in everything(data)}
    else:
        assert everything(again) == everything(data)
    assert set(again.splits) == {"train", "val"}
    assert find_leaks(again).places == ()
    rows = list(csv.DictReader((out / "splits.csv").read_text().splitlines()))
    assert len(rows) == sum(map(len, data.splits.values()))


@pytest.mark.parametrize("made", ["coco"], indirect=True)
def test_ids_are_kept_where_they_can_be(made, tmp_path):
    content = {split: json.loads((made / split / "annotation.json").read_text()) for split in ("train", "val")}
    for entry in content["val"]["images"]:
        entry["id"] += 500
    for entry in content["val"]["annotations"]:
        entry["image_id"] += 500
        entry["id"] += 90_000
    (made / "val" / "annotation.json").write_text(json.dumps(content["val"]))
    out = write_split(plan_split(read_dataset(made)), tmp_path / "out")
    found = [json.loads((out / split / "annotation.json").read_text()) for split in ("train", "val")]
    for key in ("images", "annotations"):
        before = {entry["id"] for part in content.values() for entry in part[key]}
        assert sorted(entry["id"] for part in found for entry in part[key]) == sorted(before)
    assert found[0]["categories"] == content["train"]["categories"]


@pytest.mark.parametrize("made", ["coco"], indirect=True)
def test_ids_that_two_splits_share_are_told_apart(made, tmp_path):
    path = made / "val" / "annotation.json"
    content = json.loads(path.read_text())
    ids = {entry["id"]: number for number, entry in enumerate(content["images"])}
    content["images"] = [entry | {"id": ids[entry["id"]]} for entry in content["images"]]
    content["annotations"] = [
        entry | {"id": number, "image_id": ids[entry["image_id"]]}
        for number, entry in enumerate(content["annotations"])
    ]
    path.write_text(json.dumps(content))
    train = json.loads((made / "train" / "annotation.json").read_text())
    assert set(ids.values()) & {entry["id"] for entry in train["images"]}
    data = read_dataset(made)
    again = read_dataset(write_split(plan_split(data), tmp_path / "out"))
    assert again.problems == ()
    assert everything(again) == everything(data)


@pytest.mark.parametrize("made", ["pairs"], indirect=True)
def test_names_that_two_splits_share_are_told_apart_and_sidecars_come_along(made, tmp_path):
    out = write_split(plan_split(read_dataset(made), val=["d*"]), tmp_path / "out")
    names = {path.name for path in (out / "train" / "images").iterdir()}
    assert {"train_atown_2.jpg", "val_atown_2.jpg", "atown_1.jgw"} <= names
    assert {path.name for path in (out / "val" / "masks").iterdir()} >= {"dtown_1.png", "dtown_1.png.aux.xml"}


@pytest.mark.parametrize("seed", range(2))
def test_a_leaky_set_is_split_without_leaks(data, tmp_path, seed):
    """Real tiles, a third of them turned and compressed again into the other split."""
    random = np.random.default_rng(seed)
    source = read_dataset(data / "mumbai").splits["train"][50 * seed : 50 * seed + 40]
    for number, sample in enumerate(source):
        image, mask = cv2.imread(str(sample.image)), cv2.imread(str(sample.labels.path), cv2.IMREAD_UNCHANGED)
        ways = ["as it is", *([list(SYMMETRIES)[random.integers(8)]] if number % 3 == 0 else [])]
        for split, way in zip(("train", "val"), ways, strict=False):
            for part, pixels_ in (("images", image), ("masks", mask)):
                (folder := tmp_path / "data" / split / part).mkdir(parents=True, exist_ok=True)
                name = f"{split}{number:03}{'.jpg' if part == 'images' else '.png'}"
                cv2.imwrite(str(folder / name), SYMMETRIES[way](pixels_), [cv2.IMWRITE_JPEG_QUALITY, 70])
    shutil.copy(data / "mumbai" / "classes.json", tmp_path / "data")
    leaky = read_dataset(tmp_path / "data")
    assert len(find_leaks(leaky).across) == 14
    plan = plan_split(leaky, share=0.25, seed=seed)
    assert plan.shares()["images"] == pytest.approx(0.25, abs=0.05)
    found = find_leaks(read_dataset(write_split(plan, tmp_path / "out")))
    assert (found.across, len(found.within)) == ((), 14)


def grid_of(tmp_path, entries):
    """A data set of unlike images with given names and bounds."""
    random = np.random.default_rng(3)
    legend, samples = Legend.of(["a"]), []
    for name, bounds in entries:
        image = cv2.GaussianBlur(random.integers(0, 255, (40, 40), np.uint8), (0, 0), 3)
        cv2.imwrite(str(path := tmp_path / f"{name}.png"), cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX))
        samples.append(Sample(name, path, (40, 40), PolygonLabels(legend, (40, 40), [], []), place_of(name), bounds))
    return Dataset(tmp_path, "pairs", legend, {"train": tuple(samples)})


def groups(plan):
    return sorted(sorted(plan.samples[index].name for index in group.members) for group in plan.groups)


def test_overlaps_neighbours_and_names_join(tmp_path):
    entries = [
        ("x_1", (0, 0, 1, 1)),
        ("y_1", (0.5, 0, 1.5, 1)),
        ("1", (5, 0, 6, 1)),
        ("2", (6, 0, 7, 1)),
        ("3", (9, 0, 10, 1)),
        ("x_2", None),
    ]
    data = grid_of(tmp_path, entries)
    assert groups(plan_split(data)) == [["1", "2"], ["3"], ["x_1", "x_2", "y_1"]]
    assert groups(plan_split(data, neighbours=False)) == [["1"], ["2"], ["3"], ["x_1", "x_2", "y_1"]]
    assert groups(plan_split(data, by="[12]$", neighbours=False)) == [["1", "x_1", "y_1"], ["2", "x_2"], ["3"]]
    (joined,) = [group for group in plan_split(data).groups if len(group.members) == 3]
    assert joined.why == "places x, y; 1 overlap"


def test_one_group_is_refused_with_what_joined_it(tmp_path):
    data = grid_of(tmp_path, [("town_1", None), ("town_2", None)])
    with pytest.raises(DataError, match=r"got one of 2: place town\. --by REGEX"):
        plan_split(data)
    assert len(plan_split(data, by=r"\d").groups) == 2


@pytest.mark.parametrize(
    "settings", [{"share": 0.0}, {"share": 1.5}, {"by": "("}, {"by": "nothing"}, {"val": ["z*"]}, {"val": ["*"]}]
)
def test_settings_that_cannot_be_used_are_refused(tmp_path, settings):
    with pytest.raises(SettingError):
        plan_split(grid_of(tmp_path, [("a_1", None), ("b_1", None)]), **settings)


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_chosen_near_the_shares_wanted(seed):
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 30, 40).tolist()
    amounts = random.random((40, 3)) * np.array(sizes)[:, None]
    chosen = choose_groups(sizes, 0.25, amounts=amounts, seed=seed)
    assert chosen == choose_groups(sizes, 0.25, amounts=amounts, seed=seed)
    assert sum(sizes[group] for group in chosen) / sum(sizes) == pytest.approx(0.25, abs=0.02)
    assert amounts[chosen].sum(axis=0) / amounts.sum(axis=0) == pytest.approx([0.25] * 3, abs=0.03)


def test_joined_is_what_a_graph_search_joins():
    random = np.random.default_rng(6)
    pairs = [tuple(pair) for pair in random.integers(0, 60, (45, 2)).tolist()]
    reach = np.eye(60, dtype=bool)
    for one, other in pairs:
        reach[one, other] = reach[other, one] = True
    for _ in range(6):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    assert join(60, pairs) == [int(row.argmax()) for row in reach]


def test_broken_images_and_annotations_are_left_out_only_if_asked(tmp_path, capsys):
    folder = write_tiles(tmp_path / "data", count=10, size=64)
    content = json.loads((folder / "train" / "annotation.json").read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 3]]
    (folder / "train" / "annotation.json").write_text(json.dumps(content))
    broken = folder / "val" / "images" / "000000000000.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    out = tmp_path / "out"
    assert main(["split", str(folder), "--out", str(out), "--quiet"]) == 1
    assert "--skip-invalid" in capsys.readouterr().err
    assert list(tmp_path.glob(".out*")) == []
    assert not out.exists()
    assert main(["split", str(folder), "--out", str(out), "--quiet", "--skip-invalid", "--json"]) == 0
    printed = capsys.readouterr()
    before = sum(
        len(json.loads((folder / split / "annotation.json").read_text())["images"]) for split in ("train", "val")
    )
    assert sum(json.loads(printed.out)["images"].values()) == before - 1
    assert "000000000000" in printed.err
    assert read_dataset(out).problems == ()


def test_a_dry_run_writes_nothing_and_a_full_folder_is_refused(tmp_path, capsys):
    folder = write_pairs(tmp_path / "data", [f"train/@/{place}town_{n}" for place in "abc" for n in range(3)])
    out = tmp_path / "out"
    assert main(["split", str(folder), "--out", str(out), "--quiet", "--dry-run"]) == 0
    assert "nothing written" in capsys.readouterr().out
    assert not out.exists()
    out.mkdir()
    assert main(["split", str(folder), "--out", str(out), "--quiet", "--by", r"^\w", "--val", "a*"]) == 0
    assert {path.name[0] for path in (out / "val" / "images").iterdir()} == {"a"}
    assert main(["split", str(folder), "--out", str(out), "--quiet"]) == 2
    assert "must not exist or be an empty folder" in capsys.readouterr().err


def test_what_fails_halfway_leaves_nothing(tmp_path, monkeypatch):
    folder = write_pairs(tmp_path / "data", [f"train/@/{place}town_{n}" for place in "abc" for n in range(3)])
    plan = plan_split(read_dataset(folder))
    next((folder / "train" / "masks").iterdir()).unlink()
    with pytest.raises(OSError, match="No such file"):
        write_split(plan, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
