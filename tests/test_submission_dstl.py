"""DSTL's table of polygons: masks come back to the pixel, every row of the sample is there, and GEOS finds all valid."""

import csv
import json

import numpy as np
import pytest
import rasterio
import shapely

from satmask.cli import main
from satmask.datasets.dstl import LEGEND
from satmask.datasets.wkt import EMPTY, GridSize, read_table, read_wkt, write_table
from satmask.decisions import Decision, Merge
from satmask.errors import DataError, SettingError
from satmask.masks import rasterise
from satmask.rasters import legend_tags
from satmask.submission import PredictedImage, check_table, find_images, mask_to_wkt, write_dstl

SIZE = GridSize(0.009188, -0.00904)


def blobs(seed, shape=(61, 73), share=0.4):
    """Ragged groups of pixels that touch at corners, hold holes and reach the edges."""
    return np.random.default_rng(seed).random(shape) < share


def drawn(text, size, shape):
    polygons = size.to_pixels(read_wkt(text), *shape)
    return rasterise(list(polygons.geoms), *shape).astype(bool)


@pytest.mark.parametrize(
    ("shape", "share"),
    [((61, 73), 0.05), ((61, 73), 0.5), ((61, 73), 0.9), ((1, 1), 1), ((837, 848), 0.01), ((3, 400), 0.5)],
)
def test_a_mask_comes_back_to_the_pixel(shape, share):
    mask = blobs(1, shape, share)
    text = mask_to_wkt(mask, SIZE)
    np.testing.assert_array_equal(drawn(text, SIZE, shape), mask)
    assert shapely.from_wkt(text).is_valid


@pytest.mark.parametrize("decimals", [3, 4, 6])
@pytest.mark.parametrize("simplify_px", [0, 0.7, 2.5])
@pytest.mark.parametrize("seed", range(4))
def test_text_is_valid_however_coarse_it_is(seed, simplify_px, decimals):
    text = mask_to_wkt(blobs(seed), SIZE, simplify_px=simplify_px, decimals=decimals)
    geometry = shapely.from_wkt(text)
    assert geometry.is_valid
    assert geometry.geom_type == "MultiPolygon"
    assert "e" not in text.removeprefix("MULTIPOLYGON").replace("EMPTY", "").lower()


def test_the_size_of_the_raster_fixes_the_transform():
    """A mask on the coarse raster lies where the competition's formula puts it, not where a plain ratio would."""
    corner = shapely.from_wkt(mask_to_wkt(np.ones((10, 20), bool), GridSize(1, -1))).bounds
    np.testing.assert_allclose(corner, (0, -11 / 10, 21 / 20, 0), atol=1e-9)


def test_simplified_outlines_stay_close():
    rows, columns = np.mgrid[:80, :80]
    disc = np.hypot(rows - 40, columns - 40) < 30
    exact, simple = mask_to_wkt(disc, SIZE), mask_to_wkt(disc, SIZE, simplify_px=0.75)
    both = drawn(simple, SIZE, disc.shape) & disc
    assert len(simple) < 0.5 * len(exact)
    assert both.sum() / (drawn(simple, SIZE, disc.shape) | disc).sum() > 0.97


@pytest.fixture
def tables(tmp_path):
    """A sample of three images in an order of its own, and their sizes."""
    names = ["6120_2_2", "6010_0_0", "6100_1_3"]
    rows = {(name, class_id): "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)))" for class_id in range(1, 11) for name in names}
    (tmp_path / "grid_sizes.csv").write_text(",Xmax,Ymin\n" + "".join(f"{n},0.009188,-0.00904\n" for n in names))
    write_table(tmp_path / "sample_submission.csv", rows)
    return tmp_path


def image(name, seed=0, class_ids=(1, 7)):
    masks = np.stack([blobs(seed + place) for place in range(len(class_ids))], axis=-1)
    return PredictedImage(name, class_ids, masks)


def test_every_row_of_the_sample_is_there_in_order(tables):
    out = tables / "out.csv"
    images = [image("6010_0_0", 3), image("9999_0_0"), image("6120_2_2", 8)]
    done = write_dstl(out, images, tables / "grid_sizes.csv", sample=tables / "sample_submission.csv")
    found = read_table(out)
    assert list(found) == list(read_table(tables / "sample_submission.csv"))
    assert out.read_text().splitlines()[0] == "ImageId,ClassType,MultipolygonWKT"
    assert {key for key, text in found.items() if text != EMPTY} == {
        (name, class_id) for name in ("6010_0_0", "6120_2_2") for class_id in (1, 7)
    }
    np.testing.assert_array_equal(drawn(found["6120_2_2", 7], SIZE, (61, 73)), blobs(9))
    assert (done.rows, done.images, done.unpredicted, done.unasked) == (30, 2, ("6100_1_3",), ("9999_0_0",))
    assert done.polygons == sum(len(read_wkt(text).geoms) for text in found.values())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([image("6010_0_0"), image("6010_0_0")], "a second time"),
        ([image("9999_0_0")], "images of the sample, got 9999_0_0"),
        ([], "got none"),
    ],
)
def test_what_cannot_be_submitted_leaves_no_file(tables, images, message):
    with pytest.raises(DataError, match=message):
        write_dstl(tables / "out.csv", images, tables / "grid_sizes.csv", sample=tables / "sample_submission.csv")
    assert sorted(path.name for path in tables.iterdir()) == ["grid_sizes.csv", "sample_submission.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MULTIPOLYGON (((0 0, 2 2, 2 0, 0 2, 0 0)))", "valid, got MultiPolygon, Self-intersection"),
        ("MULTIPOLYGON (((0 0, 2 0, 2 2, 0 0)), ((0 0, 2 0, 2 2, 0 0)))", "valid, got MultiPolygon"),
        ("POLYGON ((0 0, 2 0, 2 2, 0 0))", "valid, got Polygon"),
        ("MULTIPOLYGON (((0 0, 2 0", "must be MULTIPOLYGON text"),
    ],
)
def test_the_check_finds_what_is_wrong(tmp_path, text, message):
    rows = {("a", 1): EMPTY, ("a", 2): text}
    path = write_table(tmp_path / "table.csv", rows)
    with pytest.raises(DataError, match=rf"{message}.* row 3 \(a, class 2\)"):
        check_table(path, list(rows))


def test_the_check_knows_its_rows(tmp_path):
    path = write_table(tmp_path / "table.csv", {("a", 1): EMPTY, ("a", 2): EMPTY})
    assert check_table(path, [("a", 1), ("a", 2)]) == 0
    for rows in ([("a", 2), ("a", 1)], [("a", 1)], [("a", 1), ("a", 2), ("a", 3)]):
        with pytest.raises(DataError, match=r"must be of|must have 3 rows"):
            check_table(path, rows)


def write_prediction(folder, name, said, decision):
    """Rasters as predict writes them."""
    legend = decision.legend
    folder.mkdir(exist_ok=True)
    tags = {**legend_tags(legend, decision.thresholds), **decision.tags()}
    with rasterio.open(
        folder / f"{name}.probabilities.tif", "w", driver="GTiff", height=said.shape[0], width=said.shape[1],
        count=said.shape[2], dtype="float32",
    ) as file:  # fmt: skip
        file.write(np.moveaxis(said, -1, 0))
        file.descriptions = [f"{entry.name} probability" for entry in legend]
        file.update_tags(**tags)


def test_predictions_are_decided_as_predict_did(tmp_path):
    decision = Decision(
        LEGEND, (0.5, 0.9, *[0.5] * 8), (6,) + (0,) * 9, merges=(Merge(LEGEND.names[6], LEGEND.names[:6]),)
    )
    said = np.random.default_rng(2).random((40, 50, 10)).astype(np.float32)
    write_prediction(tmp_path / "p", "6120_2_2", said, decision)
    (found,) = find_images(tmp_path / "p")
    np.testing.assert_array_equal(found.masks, decision.masks(said))
    (tmp_path / "d.toml").write_text('merge = []\n[[class]]\nname = "Trees"\nthreshold = 0.2\n')
    (other,) = find_images(tmp_path / "p", decision=tmp_path / "d.toml")
    np.testing.assert_array_equal(other.masks[..., 4], said[..., 4] >= np.float32(0.2))
    with pytest.raises(DataError, match="got none in"):
        next(find_images(tmp_path))


def test_predict_submit_and_score_agree_from_the_command_line(tables, capsys):
    decision = Decision(LEGEND)
    masks = np.stack([blobs(seed) for seed in range(10)], axis=-1)
    write_prediction(tables / "p", "6120_2_2", masks.astype(np.float32), decision)
    for name, said in (("truth", []), ("said", ["--threshold", "0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,1.0,0.5"])):
        arguments = ["submit", str(tables / "p"), "--data", str(tables), "--out", str(tables / f"{name}.csv"), "--json"]
        assert main([*arguments, *said, "--quiet"]) == 0
        done = json.loads(capsys.readouterr().out)
        assert (done["rows"], done["images"], len(done["unpredicted"])) == (30, 1, 2)
    assert main(["score", str(tables / "said.csv"), str(tables / "truth.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dstl"]["score"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.csv"], "must come with --data or --grid"),
        (["--out", "x.json", "--threshold", "0.5"], "--threshold must go with DSTL's .csv"),
    ],
)
def test_options_of_the_other_benchmark_are_refused(tables, capsys, arguments, message):
    assert main(["submit", str(tables), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_outlines_cannot_move_backwards(tables):
    with pytest.raises(SettingError, match="0 or more pixels"):
        write_dstl(tables / "out.csv", [image("6010_0_0")], tables / "grid_sizes.csv", simplify_px=-1)


def submission_of(folder, images, shape):
    """A whole submission of blobs, with its sample; returns the rows and the masks' pixels by key."""
    names = [f"6{number:03}_0_0" for number in range(images)]
    (folder / "grid_sizes.csv").write_text(",Xmax,Ymin\n" + "".join(f"{n},0.00917,-0.0090{n[3]}\n" for n in names))
    write_table(folder / "sample.csv", {(name, class_id): EMPTY for name in names for class_id in range(1, 11)})
    pixels = {}

    def predicted():
        for number, name in enumerate(names):
            random = np.random.default_rng(number)
            coarse = random.random((-(-shape[0] // 4), -(-shape[1] // 4), 10)) < random.uniform(0, 0.4, 10)
            masks = np.kron(coarse, np.ones((4, 4, 1), bool))[: shape[0], : shape[1]]
            masks ^= random.random(masks.shape) < 0.01
            pixels.update({(name, at + 1): int(masks[..., at].sum()) for at in range(10)})
            yield PredictedImage(name, tuple(range(1, 11)), masks)

    write_dstl(folder / "out.csv", predicted(), folder / "grid_sizes.csv", sample=folder / "sample.csv")
    return pixels


@pytest.mark.parametrize("images", [12, pytest.param(450, marks=pytest.mark.slow)])
def test_a_whole_submission_has_no_invalid_geometry(tmp_path, images):
    pixels = submission_of(tmp_path, images, (120, 130))
    with (tmp_path / "out.csv").open(newline="") as file:  # a reader other than the one that checked
        rows = list(csv.reader(file))[1:]
    geometries = shapely.from_wkt([row[2] for row in rows])
    assert len(rows) == 10 * images
    assert shapely.is_valid(geometries).all()
    pixel = [abs(np.prod(1 / GridSize(0.00917, float(f"-0.0090{row[0][3]}")).scale(120, 130))) for row in rows]
    areas = shapely.area(geometries) / pixel
    np.testing.assert_allclose(areas, [pixels[row[0], int(row[1])] for row in rows], rtol=1e-3)
