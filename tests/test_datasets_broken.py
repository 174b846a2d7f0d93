"""A catalogue of faults: each is reported by name, none crashes the process, and the rest stays usable."""

import json
import shutil

import cv2
import numpy as np
import pytest

from satmask.datasets import read_dataset
from satmask.datasets.dataset import refuse
from satmask.errors import DataError, SatmaskError
from satmask.survey import survey
from satmask.windows import Window


@pytest.fixture
def tiles(tmp_path, data):
    """Four real tiles that have buildings, and what their annotation file says."""
    source = data / "buildings" / "val"
    content = json.loads((source / "annotation.json").read_text())
    used = sorted({annotation["image_id"] for annotation in content["annotations"]})[:4]
    content["images"] = [image for image in content["images"] if image["id"] in used]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in used]
    (tmp_path / "images").mkdir()
    for image in content["images"]:
        shutil.copyfile(source / "images" / image["file_name"], tmp_path / "images" / image["file_name"])
    return tmp_path, content


def save(tiles, text=None):
    folder, content = tiles
    (folder / "annotation.json").write_text(json.dumps(content) if text is None else text)
    return folder


def check(tiles, *, named, severity="error"):
    """Read a broken set: one problem that names the culprit, refused in one line, and the rest of it in use."""
    dataset = read_dataset(save(tiles))
    seen = survey(dataset.splits["train"])
    problems = [*dataset.problems, *seen.problems]
    assert [problem.severity for problem in problems] == [severity] * len(problems)
    assert len(problems) >= 1
    assert str(named) in problems[0].what
    if severity == "error":
        with pytest.raises(DataError, match="--skip-invalid") as caught:
            refuse(problems, skip_invalid=False)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    refuse(problems, skip_invalid=True)
    dataset.require_sound(skip_invalid=True)
    for sample in seen.samples:
        sample.labels.read(Window(-3, -3, 300, 300))
    return dataset, seen, problems


def test_sound_tiles_are_sound(tiles):
    dataset = read_dataset(save(tiles))
    dataset.require_sound()
    assert not dataset.problems
    assert len(survey(dataset.splits["train"]).samples) == 4


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


FILES = {
    "truncated": truncate,
    "cut at the end": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("this is no picture"),
    "html": lambda path: path.write_text("<html>404</html>" * 99),
    "missing": lambda path: path.unlink(),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "other size": lambda path: cv2.imwrite(str(path), np.zeros((100, 90, 3), np.uint8)),
    "grey": lambda path: cv2.imwrite(str(path), np.zeros((256, 256), np.uint8)),
    "png": lambda path: path.write_bytes(cv2.imencode(".png", np.zeros((256, 256, 3), np.uint8))[1].tobytes()),
    "vrt": lambda path: path.write_text('<VRTDataset rasterXSize="256" rasterYSize="256"/>'),
}


@pytest.mark.parametrize("fault", FILES)
def test_a_broken_tile_is_named_and_the_rest_goes_on(tiles, fault):
    folder, content = tiles
    name = content["images"][1]["file_name"]
    FILES[fault](folder / "images" / name)
    _, seen, problems = check(tiles, named=name.removesuffix(".jpg"))
    assert len(seen.samples) == 3
    lost = sum(entry["image_id"] == content["images"][1]["id"] for entry in content["annotations"])
    assert len(problems) <= 1 + lost


SHAPES = {
    "NaN": lambda ring: [[float("nan"), *ring[1:]]],
    "infinite": lambda ring: [[float("inf"), *ring[1:]]],
    "minus infinite": lambda ring: [[*ring[:-1], float("-inf")]],
    "1e9": lambda ring: [[1e9, *ring[1:]]],
    "1e300": lambda ring: [[1e300, *ring[1:]]],
    "10^400": lambda ring: [[10**400, *ring[1:]]],
    "odd": lambda ring: [ring[:-1]],
    "two points": lambda ring: [ring[:4]],
    "no points": lambda ring: [[]],
    "no rings": lambda ring: [],
    "null": lambda ring: None,
    "text": lambda ring: "M 0 0 L 1 1",
    "number": lambda ring: 7,
    "true": lambda ring: True,
    "flat": lambda ring: ring,
    "nested too deep": lambda ring: [[ring]],
    "pairs": lambda ring: [list(zip(ring[::2], ring[1::2], strict=True))],
    "texts": lambda ring: [[str(value) for value in ring]],
    "nulls": lambda ring: [[None, *ring[1:]]],
    "bools": lambda ring: [[True, False] * 4],
    "empty dict": lambda ring: {},
    "other size": lambda ring: {"size": [10, 10], "counts": [100]},
    "short": lambda ring: {"size": [256, 256], "counts": [5, 5]},
    "endless": lambda ring: {"size": [256, 256], "counts": [10**15]},
    "negative": lambda ring: {"size": [256, 256], "counts": [70000, -4464]},
    "garbled": lambda ring: {"size": [256, 256], "counts": "abcé"},
    "counts of texts": lambda ring: {"size": [256, 256], "counts": ["65536"]},
    "counts null": lambda ring: {"size": [256, 256], "counts": None},
    "size null": lambda ring: {"size": None, "counts": [65536]},
    "nothing inside": lambda ring: {"size": [256, 256], "counts": [65536]},
}


@pytest.mark.parametrize("fault", SHAPES)
def test_a_broken_outline_is_named_and_the_rest_goes_on(tiles, fault):
    annotation = tiles[1]["annotations"][3]
    annotation["segmentation"] = SHAPES[fault](annotation["segmentation"][0])
    dataset, _, problems = check(tiles, named=f"Annotation {annotation['id']} of tile")
    assert len(problems) == 1
    assert sum(len(s.labels.geometries) for s in dataset.splits["train"]) == len(tiles[1]["annotations"]) - 1


def test_an_outline_may_be_missing(tiles):
    del tiles[1]["annotations"][0]["segmentation"]
    check(tiles, named=f"Annotation {tiles[1]['annotations'][0]['id']} ")


KEYS = {
    "unknown category": {"category_id": 7},
    "category null": {"category_id": None},
    "category list": {"category_id": [100]},
    "category true": {"category_id": True},
    "unknown image": {"image_id": 10**9},
    "image null": {"image_id": None},
    "image true": {"image_id": True},
    "image list": {"image_id": [1]},
    "image text": {"image_id": "1"},
    "id null": {"id": None},
    "id true": {"id": True},
    "id text": {"id": "x"},
    "id list": {"id": [1]},
    "id NaN": {"id": float("nan")},
}


@pytest.mark.parametrize("fault", KEYS)
def test_a_broken_key_is_named_and_the_rest_goes_on(tiles, fault):
    annotation = tiles[1]["annotations"][2]
    annotation |= KEYS[fault]
    dataset, _, problems = check(tiles, named=f"Annotation {annotation['id']!r}")
    assert len(problems) == 1
    assert sum(len(s.labels.geometries) for s in dataset.splits["train"]) == len(tiles[1]["annotations"]) - 1


@pytest.mark.parametrize("key", ["image_id", "category_id", "id"])
def test_a_missing_key_is_named(tiles, key):
    del tiles[1]["annotations"][2][key]
    check(tiles, named="None" if key == "id" else f"Annotation {tiles[1]['annotations'][2]['id']} ")


def test_a_duplicate_annotation_is_named(tiles):
    tiles[1]["annotations"][2]["id"] = tiles[1]["annotations"][1]["id"]
    _, _, problems = check(tiles, named=f"Annotation {tiles[1]['annotations'][1]['id']} has the id of another")
    assert len(problems) == 1


# Key, value, and what the report must name; None is the tile.
IMAGES = {
    "id null": ("id", None, "Image None"),
    "id true": ("id", True, "Image True"),
    "no such file": ("file_name", "nowhere.jpg", "'nowhere.jpg'"),
    "path": ("file_name", "../annotation.json", "'../annotation.json'"),
    "name null": ("file_name", None, "None"),
    "name list": ("file_name", ["a.jpg"], "['a.jpg']"),
    "name dict": ("file_name", {}, "{}"),
    "wrong width": ("width", 300, None),
    "height null": ("height", None, None),
    "height zero": ("height", 0, None),
    "height negative": ("height", -256, None),
    "height text": ("height", "256", None),
    "height true": ("height", True, None),
    "height huge": ("height", 10**12, None),
    "height 10^400": ("height", 10**400, None),
}


@pytest.mark.parametrize("fault", IMAGES)
def test_a_broken_image_entry_is_named_and_the_rest_goes_on(tiles, fault):
    key, value, named = IMAGES[fault]
    image = tiles[1]["images"][1]
    tile = image["file_name"].removesuffix(".jpg")
    image[key] = value
    _, seen, _ = check(tiles, named=named or tile)
    assert len(seen.samples) == 3


@pytest.mark.parametrize("key", ["id", "file_name"])
def test_two_images_of_one_id_or_file_are_named(tiles, key):
    first, second = tiles[1]["images"][:2]
    second[key] = first[key]
    _, seen, _ = check(tiles, named=f"Image {first['id']} has the id of another" if key == "id" else first["file_name"])
    assert len(seen.samples) == 3


BOXES = [[0, 0, 1, 1], [float("nan")] * 4, [float("inf")] * 4, [10**400] * 4, [], [1], "box", 7, {}, [None] * 4, [[1]]]


@pytest.mark.parametrize("box", BOXES, ids=[f"{box!s:.12}" for box in BOXES])
def test_a_wrong_box_is_a_warning(tiles, box):
    annotation = tiles[1]["annotations"][0]
    annotation["bbox"] = box
    dataset, _, problems = check(tiles, named=f"Annotation {annotation['id']} of tile", severity="warning")
    assert len(problems) == 1
    assert len(problems[0].what) < 400
    dataset.require_sound()


def test_outlines_that_cross_themselves_are_used(tiles):
    annotation = tiles[1]["annotations"][0]
    annotation["segmentation"] = [[10, 10, 50, 50, 50, 10, 10, 50]]
    del annotation["bbox"]
    dataset = read_dataset(save(tiles))
    assert not dataset.problems
    sample = next(s for s in dataset.splits["train"] if any(not g.is_valid for g in s.labels.geometries))
    # Two triangles that meet in the middle.
    assert sample.labels.read(Window(10, 10, 40, 40)).classes.mean() > 0.45


def test_crowds_are_ignored_regions(tiles):
    annotation = tiles[1]["annotations"][0]
    mask = np.zeros((256, 256), np.uint8)
    mask[20:60, 30:90] = 1
    counts, flat = [], mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    annotation |= {"iscrowd": 1, "segmentation": {"size": [256, 256], "counts": counts}}
    del annotation["bbox"]
    dataset = read_dataset(save(tiles))
    assert not dataset.problems
    place = [image["id"] for image in tiles[1]["images"]].index(annotation["image_id"])
    truth = dataset.splits["train"][place].labels.read(Window(0, 0, 256, 256))
    assert (truth.labelled == (mask == 0)).all()


def test_several_rings_are_one_building(tiles):
    annotation = tiles[1]["annotations"][0]
    tiles[1]["annotations"] = [annotation]
    annotation |= {"segmentation": [[10, 10, 20, 10, 20, 20, 10, 20], [40, 40, 50, 40, 50, 50, 40, 50]]}
    annotation["bbox"] = [10, 10, 40, 40]
    dataset = read_dataset(save(tiles))
    assert not dataset.problems
    whole = sum(int(s.labels.read(Window(0, 0, 256, 256)).classes.sum()) for s in dataset.splits["train"])
    assert whole == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        "\x00\x01",
        "[" * 100_000,
        '{"images": []}',
        '{"images": {}, "annotations": [], "categories": []}',
        '{"images": [], "annotations": [7], "categories": []}',
        '{"images": [], "annotations": [], "categories": []}',
        '{"images": [], "annotations": [], "categories": [{"id": 1}]}',
        '{"images": [], "annotations": [], "categories": [{"id": Infinity, "name": "a"}]}',
        '{"images": [], "annotations": [], "categories": [{"id": null, "name": "a"}]}',
        '{"images": [], "annotations": [], "categories": [{"id": 0, "name": "a"}]}',
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
        "9" * 5000,
    ],
    ids=str.__len__,
)
def test_what_is_not_coco_at_all_is_refused_in_one_line(tiles, text):
    folder = save(tiles, text)
    with pytest.raises(DataError, match=folder.name) as caught:
        read_dataset(folder).require_sound(skip_invalid=True)
    assert "\n" not in str(caught.value)


def test_noise_in_the_annotation_file_never_crashes(tiles):
    good = json.dumps(tiles[1]).encode()
    for seed in range(60):
        random, content = np.random.default_rng(seed), bytearray(good)
        for place in random.integers(len(content), size=3):
            content[place] = random.integers(32, 127)
        (tiles[0] / "annotation.json").write_bytes(content)
        try:
            for sample in read_dataset(tiles[0]).splits["train"]:
                sample.labels.read(Window(0, 0, 99, 99))
        except SatmaskError as error:
            assert "\n" not in str(error)  # noqa: PT017  # some noise does no harm


# Pairs


@pytest.fixture
def pairs(tmp_path):
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(4):
        cv2.imwrite(str(tmp_path / "images" / f"tile_{number}.png"), random.integers(0, 255, (30, 40, 3)).astype("u1"))
        cv2.imwrite(str(tmp_path / "masks" / f"mask_{number}.png"), random.integers(0, 2, (30, 40)).astype("u1"))
    return tmp_path


def found_in(folder):
    dataset = read_dataset(folder)
    seen = survey(dataset.splits["train"])
    return [*dataset.problems, *seen.problems], seen


def test_sound_pairs_are_sound(pairs):
    problems, seen = found_in(pairs)
    assert not problems
    assert len(seen.samples) == 4


PAIRS = {
    "no mask": (lambda p: (p / "masks" / "mask_2.png").unlink(), "tile_2.png"),
    "no image": (lambda p: (p / "images" / "tile_2.png").unlink(), "mask_2.png"),
    "two masks": (lambda p: cv2.imwrite(str(p / "masks" / "label_2.png"), np.zeros((30, 40), "u1")), "tile_2.png"),
    "other size": (lambda p: cv2.imwrite(str(p / "masks" / "mask_2.png"), np.zeros((30, 41), "u1")), "tile_2.png"),
    "mask truncated": (lambda p: truncate(p / "masks" / "mask_2.png"), "mask_2.png"),
    "mask empty": (lambda p: (p / "masks" / "mask_2.png").write_bytes(b""), "mask_2.png"),
    "image truncated": (lambda p: truncate(p / "images" / "tile_2.png"), "tile_2"),
    "image text": (lambda p: (p / "images" / "tile_2.png").write_text("no"), "tile_2.png"),
    "image grey": (lambda p: cv2.imwrite(str(p / "images" / "tile_2.png"), np.zeros((30, 40), "u1")), "tile_2"),
    "image 16 bit": (lambda p: cv2.imwrite(str(p / "images" / "tile_2.png"), np.zeros((30, 40, 3), "u2")), "tile_2"),
}


@pytest.mark.parametrize("fault", PAIRS)
def test_a_broken_pair_is_named_and_the_rest_goes_on(pairs, fault):
    break_it, named = PAIRS[fault]
    break_it(pairs)
    problems, seen = found_in(pairs)
    assert all(problem.severity == "error" for problem in problems)
    assert any(named in problem.what for problem in problems)
    assert len(seen.samples) == 3
    with pytest.raises(DataError) as caught:
        refuse(problems, skip_invalid=False)
    assert "\n" not in str(caught.value)


def test_nothing_that_pairs_is_refused(pairs):
    for number in range(4):
        (pairs / "masks" / f"mask_{number}.png").rename(pairs / "masks" / f"other_{number}.png")
    with pytest.raises(DataError, match=r"tile_0\.png"):
        read_dataset(pairs).require_sound(skip_invalid=True)


def test_empty_folders_are_refused(pairs):
    for folder in ("images", "masks"):
        shutil.rmtree(pairs / folder)
        (pairs / folder).mkdir()
    with pytest.raises(DataError, match=r"image"):
        read_dataset(pairs).require_sound(skip_invalid=True)
