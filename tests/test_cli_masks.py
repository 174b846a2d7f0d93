"""Laws of `satmask masks`: round trips through every format, the library's results, and one clear line for bad input."""

import json
import re
import sys

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
from pycocotools import mask as pycoco

from help_time import most_s, used_s
from satmask.cli import main
from satmask.datasets import read_dataset, town
from satmask.datasets.legend_file import to_toml
from satmask.legend import Legend
from satmask.masks import decode_kaggle, draw_masks, draw_polygons, polygonise, rasterise, read_mask, write_mask
from satmask.scene import Scene
from satmask.windows import Window

LEGEND = Legend.of({3: "house", 9: "tree", 5: "road"})


def run(capsys, *arguments):
    """Run `satmask masks`: exit code, stdout, stderr."""
    capsys.readouterr()
    code = main(["masks", *map(str, arguments)])
    return code, *capsys.readouterr()


def image(path):
    with Scene(path) as scene:
        return scene.raw(Window(0, 0, *scene.shape))


@pytest.fixture(scope="session")
def tiles(tmp_path_factory):
    return town.write_tiles(tmp_path_factory.mktemp("tiles"), count=4, size=128)


@pytest.fixture
def folder(tmp_path):
    """Masks of three sizes, one without a pixel, and their legend in a file."""
    random = np.random.default_rng(0)
    for number, shape in enumerate([(30, 40), (1, 17), (25, 9)]):
        shares = [1, 0, 0, 0] if number == 1 else [0.1, 0.7, 0.1, 0.1]
        ids = random.choice([0, *LEGEND.ids], shape, p=shares).astype(np.uint8)
        write_mask(tmp_path / "masks" / f"tile_1.{number}.png", ids, LEGEND)
    (tmp_path / "legend.toml").write_text(to_toml(LEGEND), encoding="utf-8")
    return tmp_path


def masks_in(folder):
    return {path.stem: read_mask(path, LEGEND)[0].tolist() for path in folder.iterdir()}


@pytest.mark.parametrize("objects", [[], ["--objects"]])
@pytest.mark.parametrize(("convention", "extra"), [("kaggle", []), ("kaggle", ["--order", "column"]), ("coco", [])])
def test_masks_come_back_through_every_convention(folder, capsys, convention, extra, objects):
    file = folder / f"codes.{'csv' if convention == 'kaggle' else 'json'}"
    arguments = [folder / "masks", "--convention", convention, "--out", file, *extra, *objects]
    assert run(capsys, "encode", *arguments) == (0, f"3 masks written to {file}\n", "")
    back = [file, "--out", folder / "back", "--legend", folder / "legend.toml", "-q", *extra]
    code, out, _ = run(capsys, "decode", *back)
    assert code == 0
    expected = masks_in(folder / "masks")
    if objects and convention == "kaggle":  # no object, no row
        assert "2 masks" in out
        del expected["tile_1.1"]
    assert masks_in(folder / "back") == expected


def test_codes_on_stdout_are_those_of_the_library(folder, capsys):
    mask = folder / "masks" / "tile_1.0.png"
    _, out, err = run(capsys, "encode", mask)
    assert err == ""
    (folder / "out.csv").write_text(out, encoding="utf-8")
    table = pd.read_csv(folder / "out.csv", keep_default_na=False)
    assert table.columns.tolist() == ["image", "class", "code", "height", "width"]
    ids = read_mask(mask)[0]
    found = {row["class"]: decode_kaggle(row.code, (row.height, row.width)) for _, row in table.iterrows()}
    assert {name: mask.tolist() for name, mask in found.items()} == {
        name: (ids == id_).tolist() for name, id_ in zip(LEGEND.names, LEGEND.ids, strict=True)
    }
    content = json.loads(run(capsys, "encode", mask, "--convention", "coco")[1])
    for annotation in content["annotations"]:
        expected = ids == annotation["category_id"]
        theirs = pycoco.encode(np.asfortranarray(expected.astype(np.uint8)))
        assert annotation["segmentation"]["counts"] == theirs["counts"].decode()
        assert annotation["bbox"] == pycoco.toBbox(theirs).tolist()
        assert annotation["area"] == expected.sum()


def test_annotations_are_decoded_by_the_pixel_centre_rule(tiles, tmp_path, capsys):
    code, _, _ = run(capsys, "decode", tiles / "val" / "annotation.json", "--out", tmp_path, "-q")
    assert code == 0
    samples = read_dataset(tiles).splits["val"]
    assert len(samples) == len(list(tmp_path.iterdir()))
    for sample in samples:
        drawn = sample.labels.read(Window(0, 0, *sample.shape)).classes[..., 0]
        np.testing.assert_array_equal(image(tmp_path / f"{sample.name}.png")[..., 0] != 0, drawn)


def test_kaggle_files_of_others_are_read(tmp_path, capsys):
    (tmp_path / "train.csv").write_text('ImageId,EncodedPixels\na.jpg,"1 3"\nb.jpg,\na.jpg,8 1\n', encoding="utf-8")
    code, out, err = run(capsys, "decode", tmp_path / "train.csv", "--out", tmp_path / "x", "--shape", "2x4", "-q")
    assert (code, out, err) == (0, f"2 masks of 2 images written to {tmp_path / 'x'}\n", "")
    assert image(tmp_path / "x" / "a.png")[..., 0].tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]
    run(capsys, "decode", tmp_path / "train.csv", "--out", tmp_path / "y", "--shape", "2x4", "-q", "--order", "column")
    assert image(tmp_path / "y" / "a.png")[..., 0].tolist() == [[1, 1, 0, 0], [1, 0, 0, 1]]
    # Long codes: Python's own reader refuses fields of more than 131,072 characters.
    many = " ".join(f"{start} 1" for start in range(1, 90_000, 2))
    (tmp_path / "long.csv").write_text(f"ImageId,EncodedPixels\nlong,{many}\n", encoding="utf-8")
    assert run(capsys, "decode", tmp_path / "long.csv", "--out", tmp_path, "--shape", "300x300", "-q")[0] == 0
    assert image(tmp_path / "long.png").sum() == 45_000


def test_overlapping_classes_become_one_mask_each(tmp_path, capsys):
    rows = "image,class,code,height,width\na.png,house,1 3,2,4\na.png,tree,3 2,2,4\n"
    (tmp_path / "codes.csv").write_text(rows, encoding="utf-8")
    code, out, _ = run(capsys, "decode", tmp_path / "codes.csv", "--out", tmp_path / "x", "-q", "--json")
    assert (code, json.loads(out)["files"], json.loads(out)["images"]) == (0, 2, 1)
    assert image(tmp_path / "x" / "a.house.png")[..., 0].tolist() == [[1, 1, 1, 0], [0] * 4]
    assert image(tmp_path / "x" / "a.tree.png")[..., 0].tolist() == [[0, 0, 2, 2], [0] * 4]


def test_decoded_masks_lie_where_their_images_do(tmp_path, capsys):
    scene = town.write_scene(town.draw_town(48, 64, seed=3), tmp_path / "images", "town")
    mask = write_mask(tmp_path / "mask_town.png", np.eye(48, 64, dtype=np.uint8) * 9, LEGEND)
    run(capsys, "encode", mask, "--out", tmp_path / "codes.csv")
    arguments = [tmp_path / "codes.csv", "--images", scene.parent, "--out", tmp_path / "x", "--legend"]
    (tmp_path / "legend.toml").write_text(to_toml(LEGEND), encoding="utf-8")
    assert run(capsys, "decode", *arguments, tmp_path / "legend.toml", "-q")[0] == 0
    with Scene(tmp_path / "x" / "mask_town.tif") as written, Scene(scene) as place:
        assert written.grid == place.grid
    np.testing.assert_array_equal(read_mask(tmp_path / "x" / "mask_town.tif")[0], read_mask(mask)[0])


def test_one_bad_code_is_named_and_the_rest_goes_on(tmp_path, capsys):
    rows = "image,code,height,width\na,1 3,2,4\nb,1 2 3,2,4\nc,7 9,2,4\nd,2 1,2,4\nx/d,2 1,2,4\n"
    (tmp_path / "codes.csv").write_text(rows, encoding="utf-8")
    code, out, err = run(capsys, "decode", tmp_path / "codes.csv", "--out", tmp_path / "x", "-q")
    assert code == 1
    assert out.startswith("2 masks of 2 images")
    assert [line.removeprefix("satmask: error: ") for line in err.splitlines()] == [
        "Run-length code must be pairs of start and length, got 3 numbers in row 3 of codes.csv.",
        "Run-length code must end within its 2 × 4 = 8 pixels, got 7 9 in row 4 of codes.csv.",
        "Image must have a name of its own, got 'x/d' twice.",
    ]
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["a.png", "d.png"]


BROKEN = {
    "codes.csv": {
        "image,size\na,1": "must have the columns image, code, class, got image, size",
        "": "must be a CSV table",
        "image,class,code\na,tree,1 2": "must come with a size, got none for image 'a'. Pass --shape HxW or --images DIR",
        "image,class,code,height,width\na,9,1 2,x,3": "must have a height and a width",
        "image,class,code,height,width\na,9,1 2,99999999,99999999": "must have a height and a width",
        "image,class,code\na,lake,1 2": "Class must be one of house, tree, road, got 'lake' in row 2",
    },
    "codes.json": {
        "[1]": "must list 'images' as COCO does",
        "{": "must be JSON",
        '{"images":[],"annotations":[{"id":1}],"categories":[]}': "must belong to an image of the file",
        '{"images":[{"id":1,"file_name":"a","height":2,"width":2}],"annotations":[{"id":1,"image_id":1,"category_id":3,'
        '"segmentation":[[1,2,3]]}],"categories":[]}': "x and y in turn, got [1, 2, 3] in annotation 1 of codes.json",
        '{"images":[{"id":1,"file_name":"a","height":2,"width":2}],"annotations":[{"id":1,"image_id":1,"category_id":3}],'
        '"categories":[]}': "x and y in turn, got [None] in annotation 1",
        '{"images":[{"id":1,"file_name":"a","height":2,"width":2}],"annotations":[{"id":1,"image_id":1,"category_id":3,'
        '"segmentation":{"size":[2,3],"counts":[6]}}],"categories":[]}': "must have the size of its image, [2, 2]",
        '{"images":[{"id":1,"file_name":"a","height":2,"width":2}],"annotations":[{"id":1,"image_id":1,"category_id":8}],'
        '"categories":[]}': "must have a category of 3, 9, 5, got 8",
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "what"), [(n, t, w) for n, cases in BROKEN.items() for t, w in cases.items()])
def test_broken_files_get_one_clear_line(name, text, what, folder, capsys):
    (folder / name).write_text(text, encoding="utf-8")
    arguments = [folder / name, "--out", folder / "x", "--legend", folder / "legend.toml", "-q"]
    code, _, err = run(capsys, "decode", *arguments)
    assert (code, len(err.splitlines())) == (1, 1)
    assert what in err
    assert not (folder / "x").exists()


def test_drawing_is_that_of_the_library(tiles, tmp_path, capsys):
    samples = [sample for split in read_dataset(tiles).splits.values() for sample in split]
    sample = max(samples, key=lambda sample: len(sample.labels.geometries))
    assert len(sample.labels.geometries) > 1
    rgb, legend = image(sample.image), sample.labels.legend
    masks = sample.labels.read(Window(0, 0, *sample.shape)).classes
    path = write_mask(tmp_path / "mask.png", masks[..., 0] * 100, legend)
    annotations = sample.image.parent.parent / "annotation.json"
    for source in (path, annotations):
        out = tmp_path / f"{source.stem}.drawn.png"
        code, text, _ = run(capsys, "draw", sample.image, source, "--out", out, "--alpha", "0.6", "--width", "2")
        assert (code, text) == (0, f"Picture of 128 × 128 written to {out}\n")
        np.testing.assert_array_equal(image(out), draw_masks(rgb, masks, legend, alpha=0.6, width=2))
    geometries = sample.labels.geometries
    frame = geopandas.GeoDataFrame({"class_id": [100] * len(geometries)}, geometry=list(geometries), crs="EPSG:3857")
    frame.to_file(tmp_path / "polygons.gpkg", engine="pyogrio")
    assert run(capsys, "draw", sample.image, tmp_path / "polygons.gpkg", "--out", tmp_path / "p.png")[0] == 0
    expected = draw_polygons(rgb, geometries, [100] * len(frame), legend)
    np.testing.assert_array_equal(image(tmp_path / "p.png"), expected)


def test_outlines_give_the_masks_back(folder, capsys):
    mask, file = folder / "masks" / "tile_1.0.png", folder / "outlines.json"
    code, out, _ = run(capsys, "outline", folder / "masks", "--out", file)
    content = json.loads(file.read_text(encoding="utf-8"))
    assert (code, out) == (0, f"{len(content['annotations'])} outlines of 3 masks written to {file}\n")
    kinds = {type(annotation["segmentation"]) for annotation in content["annotations"]}
    assert kinds == {list, dict}  # rings, and codes of what has holes
    assert run(capsys, "decode", file, "--out", folder / "back", "-q")[0] == 0
    assert masks_in(folder / "back") == masks_in(folder / "masks")
    assert run(capsys, "outline", mask, "--out", folder / "o.gpkg")[0] == 0
    frame = geopandas.read_file(folder / "o.gpkg")
    np.testing.assert_array_equal(
        rasterise(frame.geometry.tolist(), 30, 40, values=frame["class_id"]), read_mask(mask)[0]
    )
    assert len(frame) == sum(len(polygonise(read_mask(mask)[0] == id_)) for id_ in LEGEND.ids)


def test_outlines_of_a_placed_mask_are_those_of_polygons(tmp_path, capsys):
    scene = town.write_scene(town.draw_town(48, 64, seed=3), tmp_path, "town")
    with Scene(scene) as place:
        ids = (np.random.default_rng(0).random(place.shape) < 0.6).astype(np.uint8) * 9
        mask = write_mask(tmp_path / "mask.tif", ids, LEGEND, scene=place)
    assert run(capsys, "outline", mask, "--out", tmp_path / "a.gpkg")[0] == 0
    assert main(["polygons", str(mask), "--out", str(tmp_path / "b.gpkg")]) == 0
    ours, theirs = (geopandas.read_file(tmp_path / name) for name in ("a.gpkg", "b.gpkg"))
    assert ours.crs == theirs.crs
    assert ours.geometry.equals(theirs.geometry)


def test_misuse_gets_one_clear_line(folder, capsys):
    mask = folder / "masks" / "tile_1.0.png"
    cases = {
        ("outline", folder / "masks", "--out", folder / "a.gpkg"): (2, "must be written of one mask, got 3"),
        ("outline", mask, "--out", folder / "a.geojson"): (1, "Use .gpkg or .fgb"),
        ("outline", mask, "--out", folder / "a.png"): (2, "must end in one of .gpkg"),
        ("encode", mask, "--convention", "coco", "--order", "column"): (
            2,
            "--order must come with --convention kaggle",
        ),
        ("encode", folder / "legend.toml"): (1, "Scene must be a whole TIFF file"),
        ("encode", folder): (1, "Folder must hold mask images"),
        ("draw", mask, mask, "--out", folder / "a.gif"): (2, "must end in .png"),
        ("draw", mask, mask, "--out", folder / "a.png", "--draw-order", "house"): (2, "--draw-order must be class ids"),
        ("draw", mask, mask, "--out", folder / "a.png", "--draw-order", "4"): (2, "Class id must be one of"),
        ("draw", mask, folder / "masks" / "tile_1.1.png", "--out", folder / "a.png"): (2, "size of its image"),
    }
    for arguments, (expected, what) in cases.items():
        code, out, err = run(capsys, *arguments)
        assert (code, out, len(err.splitlines())) == (expected, "", 1), err
        assert what in err
    assert not list(folder.glob("a.*")) + list(folder.glob(".a.*"))
    (folder / "c.csv").write_text("image,code\nelsewhere,1 2\n", encoding="utf-8")
    assert (
        "none for 'tile_1.0.png' among 1" in run(capsys, "draw", mask, folder / "c.csv", "--out", folder / "a.png")[2]
    )
    for shape in ("2", "0x3", "axb", "2x-3"):
        assert run(capsys, "decode", folder / "c.csv", "--out", folder / "x", "--shape", shape)[0] == 2


def test_unlabelled_pixels_are_mentioned(tmp_path, capsys):
    write_mask(tmp_path / "a.png", np.array([[1, 2, 2, 2]]), Legend.of(["a", "b"]))
    (tmp_path / "legend.toml").write_text(to_toml(Legend.of({1: "a", 3: "c"})), encoding="utf-8")
    code, _, err = run(capsys, "encode", tmp_path / "a.png", "--legend", tmp_path / "legend.toml")
    assert (code, err) == (
        0,
        "satmask: warning: 75.00% of the pixels of a.png have no class in the legend: unlabelled.\n",
    )


@pytest.mark.parametrize("verb", ["encode", "decode", "draw", "outline"])
def test_help_loads_nothing_heavy(verb):
    code = (
        "import sys, satmask.cli\n"
        f"assert satmask.cli.main(['masks', {verb!r}, '--help']) == 0\n"
        "heavy = {'numpy', 'rasterio', 'geopandas', 'cv2', 'rich', 'pandas'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    used, result = used_s([sys.executable, "-c", code])
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(rf"Usage: satmask masks {verb}|Usage: .* {verb}", result.stdout)
    assert used < most_s()


def test_real_masks_come_back(data, tmp_path, capsys):
    masks = data / "mumbai" / "val" / "masks"
    some = sorted(masks.iterdir())[:6]
    assert run(capsys, "encode", *some, "--out", tmp_path / "codes.csv")[0] == 0
    assert run(capsys, "decode", tmp_path / "codes.csv", "--out", tmp_path / "back", "-q")[0] == 0
    for path in some:
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(image(tmp_path / "back" / path.name)[..., 0], file.read(1))
