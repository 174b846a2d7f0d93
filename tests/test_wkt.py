"""DSTL's polygons: text that GEOS may see, the exact transform, repair that draws the same, validity after rounding."""

import csv
import time

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from shapely.geometry import MultiPolygon, Point, Polygon

from satmask.datasets.repair import polygonal, repair, round_valid
from satmask.datasets.wkt import (
    EMPTY,
    GridSize,
    read_grid_sizes,
    read_table,
    read_wkt,
    write_table,
    write_wkt,
)
from satmask.errors import DataError
from satmask.masks import rasterise

SIZE = GridSize(0.009188, -0.0090401)
EIGHT = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
TWICE_AROUND = Polygon([(0, 0), (4, 0), (4, 4), (0, 4), (0, 1), (3, 1), (3, 3), (1, 3), (1, 0)])
SPIKE = Polygon([(0, 0), (4, 0), (6, -2), (4, 0), (4, 4), (0, 4)])
HOLE_OUTSIDE = Polygon([(0, 0), (4, 0), (4, 4), (0, 4)], [[(5, 5), (6, 5), (6, 6)]])
HOLE_ACROSS = Polygon([(0, 0), (4, 0), (4, 4), (0, 4)], [[(2, 1), (6, 1), (6, 3), (2, 3)]])
TANGLE = Polygon(
    [(10, 7), (7, 2), (8, 3), (6, 2), (1, 4), (6, 2), (9, 3), (4, 7)],
    [[(5.0964, 6.9231), (6.537, 3.3714), (2.1047, 0.2398), (0.2106, 5.2649)]],
)
BROKEN = [EIGHT, TWICE_AROUND, SPIKE, HOLE_OUTSIDE, HOLE_ACROSS, TANGLE]


def stars(count, *, seed, size=1.0):
    """Random rings that mostly cross themselves."""
    random = np.random.default_rng(seed)
    return [Polygon(random.uniform(0, size, (int(random.integers(4, 9)), 2))) for _ in range(count)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "POINT (1 2)",
        "GEOMETRYCOLLECTION (POLYGON ((0 0, 1 0, 1 1, 0 0)))",
        "MULTIPOLYGON",
        "MULTIPOLYGON ()",
        "MULTIPOLYGON (((0 0, 1 0, 1 1)))",
        "MULTIPOLYGON (((0 0, 1 0, 0)))",
        "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)))) ",
        "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0))",
        "MULTIPOLYGON (((0 0, 1 nan, 1 1, 0 0)))",
        "MULTIPOLYGON (((0 0, 1 -inf, 1 1, 0 0)))",
        "MULTIPOLYGON (((0 0, 1 1e999, 1 1, 0 0)))",
        "MULTIPOLYGON (((0 0, 1 1e300, 1 1, 0 0)))",
        "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)))\0",
        "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0))) DROP",
        "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)));",
        "SRID=4326;MULTIPOLYGON EMPTY",
        "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)), ((٣ 0, 1 0, 1 1, 0 0)))",
        "MULTIPOLYGON (((0x1 0, 1 0, 1 1, 0 0)))",
        float("nan"),
        None,
    ],
)
def test_what_is_no_multipolygon_is_refused_in_words(text):
    with pytest.raises(DataError, match=r"row 3 of a\.csv"):
        read_wkt(text, place="row 3 of a.csv")


@pytest.mark.parametrize("depth", [4, 100, 50_000, 1_000_000])
@pytest.mark.parametrize("start", ["MULTIPOLYGON", "POLYGON"])
def test_deep_brackets_crash_nothing(start, depth):
    with pytest.raises(DataError, match="nested"):
        read_wkt(f"{start} {'(' * depth}0 0, 1 0, 1 1, 0 0{')' * depth}")


@pytest.mark.parametrize("text", [EMPTY, "multipolygon empty", " POLYGON EMPTY ", "MULTIPOLYGON (EMPTY, EMPTY)"])
def test_empty_is_empty(text):
    assert read_wkt(text).is_empty
    assert write_wkt(read_wkt(text)) == EMPTY


def test_geos_writes_and_we_read_the_same():
    shape = MultiPolygon([Polygon([(0, 0), (1e-5, -3e-7), (0.25, 1)]), shapely.box(2, 2, 3, 3).difference(
        shapely.box(2.2, 2.2, 2.4, 2.4))])  # fmt: skip
    for text in (shape.wkt, shapely.to_wkt(shape, rounding_precision=17), shapely.force_3d(shape).wkt):
        assert read_wkt(text).equals_exact(shape, 1e-15)


def test_we_write_and_geos_reads_the_same():
    shape = round_valid(MultiPolygon([Polygon([(0, 0), (1.5e-5, -3e-7), (0.25, 1)]), shapely.box(2, 2, 3, 3)]))
    text = write_wkt(shape)
    assert "e" not in text.removeprefix("MULTIPOLYGON")
    assert shapely.from_wkt(text).equals_exact(shape, 0)


def test_zero_has_no_sign():
    assert write_wkt(Polygon([(-1e-12, 0), (1, -0.0), (1, 1)]), 3) == "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)))"


def test_a_field_of_two_million_characters_is_read_in_time():
    boxes = [shapely.box(x, y, x + 0.123456789, y + 0.987654321) for x in range(240) for y in range(100)]
    text = write_wkt(MultiPolygon(boxes), decimals=12)
    assert len(text) > 2_000_000
    start = time.perf_counter()
    assert len(read_wkt(text).geoms) == len(boxes)
    # A pattern that backtracks would take minutes.
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(("height", "width"), [(3348, 3392), (837, 848), (134, 136), (3350, 3338), (1, 1)])
def test_transform_is_the_competitions(height, width):
    """Their formula, written out anew; and there and back is the same to the last digits."""
    random = np.random.default_rng(1)
    shape = shapely.MultiPoint(random.uniform((0, SIZE.ymin), (SIZE.xmax, 0), (50, 2)))
    seen = shapely.get_coordinates(SIZE.to_pixels(shape, height, width))
    there = shapely.get_coordinates(shape)
    columns = there[:, 0] * (width * (width / (width + 1))) / SIZE.xmax
    rows = there[:, 1] * (height * (height / (height + 1))) / SIZE.ymin
    np.testing.assert_allclose(seen, np.column_stack([columns, rows]), rtol=1e-14)
    back = SIZE.to_grid(SIZE.to_pixels(shape, height, width), height, width)
    np.testing.assert_allclose(shapely.get_coordinates(back), there, rtol=1e-15)


def test_orientation_of_the_grid():
    assert SIZE.to_pixels(Point(0, 0), 10, 10) == Point(0, 0)
    low = SIZE.to_pixels(Point(0, SIZE.ymin), 99, 50)
    assert (low.x, low.y) == pytest.approx((0, 99 * 99 / 100))


@pytest.mark.parametrize(("xmax", "ymin"), [(0, -1), (1, 1), (float("nan"), -1), (1, float("-inf")), (-1, -1)])
def test_grid_sizes_that_are_none(xmax, ymin):
    with pytest.raises(DataError, match="Xmax above 0"):
        GridSize(xmax, ymin)


@pytest.mark.parametrize("shape", BROKEN)
def test_repair_draws_the_same_mask(shape):
    assert not shape.is_valid
    done = repair(shape)
    assert done.geometry.is_valid
    big = [shapely.transform(part, lambda points: points * 60 + 200) for part in (shape, done.geometry)]
    before, after = (rasterise(polygonal(part), 700, 700) for part in big)
    # Centres that lie on an edge may go either way.
    assert np.count_nonzero(before != after) <= 0.002 * before.sum()
    assert done.methods == {"even-odd": 1}
    assert done.reasons


def test_repair_of_tangles_draws_the_same_mask():
    shapes = [shape for shape in stars(40, seed=2) if not shape.is_valid]
    assert len(shapes) > 20
    for shape in shapes:
        big = [shapely.transform(part, lambda points: points * 400) for part in (shape, repair(shape).geometry)]
        before, after = (rasterise(polygonal(part), 400, 400) for part in big)
        assert np.count_nonzero(before != after) <= 0.003 * before.sum() + 1


def test_ready_made_ways_are_wrong_for_some():
    """Why repair has a way of its own: each ready-made one loses or adds area somewhere."""
    assert EIGHT.buffer(0).area == pytest.approx(1)
    assert repair(EIGHT).area_after == pytest.approx(2)
    assert shapely.make_valid(TWICE_AROUND, method="structure").area == pytest.approx(15)
    assert repair(TWICE_AROUND).area_after == pytest.approx(11)
    assert shapely.make_valid(TANGLE).area == pytest.approx(37.93, abs=0.01)
    assert repair(TANGLE).area_after == pytest.approx(33.82, abs=0.05)


def test_polygons_that_overlap_cover_what_any_covers():
    pair = MultiPolygon([shapely.box(0, 0, 2, 2), shapely.box(1, 0, 3, 2)])
    done = repair(pair)
    assert (done.united, done.methods, done.area_after, done.area_before) == (True, {}, 6, 8)


def test_valid_polygons_stay_as_they_are():
    shape = MultiPolygon([shapely.box(0, 0, 1, 1), Polygon([(3, 3), (4, 3), (4, 5)])])
    done = repair(shape)
    assert not done.changed
    assert done.geometry.equals_exact(shape, 0)


def test_what_has_no_area_is_dropped():
    line = Polygon([(0, 0), (1, 1), (2, 2)])
    point = Polygon([(1, 1), (1, 1), (1, 1)])
    done = repair(MultiPolygon([line, point, shapely.box(5, 5, 6, 6)]))
    assert done.methods == {"dropped": 2}
    assert done.geometry.area == 1


@pytest.mark.parametrize("decimals", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("seed", range(6))
def test_valid_after_rounding(decimals, seed):
    """Coarse rounding makes slivers, touching corners and crossings of random polygons; the text is valid all the same."""
    random = np.random.default_rng(seed)
    blobs = shapely.union_all([Point(*random.uniform(0, 12, 2)).buffer(random.uniform(0.01, 1.5)) for _ in range(60)])
    holed = blobs.difference(shapely.union_all([Point(*at).buffer(0.15) for at in random.uniform(0, 12, (60, 2))]))
    rounded = round_valid(holed, decimals)
    again = shapely.from_wkt(write_wkt(rounded, decimals))
    assert again.is_valid
    assert again.equals_exact(rounded, 0)
    assert again.symmetric_difference(holed).area <= holed.length * 0.75 * 10.0**-decimals


def test_rounding_would_make_some_invalid():
    """The case that the round trip is for: naive rounding breaks what `round_valid` keeps."""
    thin = Polygon([(0, 0), (10, 0.2), (10, 3), (5, 0.14), (0, 3)])
    naive = shapely.transform(thin, np.round)
    assert thin.is_valid
    assert not naive.is_valid
    assert round_valid(thin, 0).is_valid


def test_too_many_digits_are_refused():
    with pytest.raises(DataError, match="fewer decimals"):
        round_valid(shapely.box(0, 0, 1e6, 1e6), 12)


def test_tables_round_trip_and_leave_the_csv_limit_alone(tmp_path):
    limit = csv.field_size_limit()
    long = write_wkt(MultiPolygon([shapely.box(x, 0, x + 0.5, 1) for x in range(9000)]))
    assert len(long) > limit
    rows = {("6010_0_1", 1): long, ("6010_0_1", 10): EMPTY, ("6010_0_0", 2): EMPTY}
    path = write_table(tmp_path / "table.csv", rows)
    assert list(read_table(path).items()) == list(rows.items())
    assert csv.field_size_limit() == limit
    assert pd.read_csv(path).columns.tolist() == ["ImageId", "ClassType", "MultipolygonWKT"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("ImageId,ClassType,MultipolygonWKT\na,11,MULTIPOLYGON EMPTY\n", "1 to 10"),
        ("ImageId,ClassType,MultipolygonWKT\na,1.5,MULTIPOLYGON EMPTY\n", "row 2 of t.csv"),
        ("ImageId,ClassType,MultipolygonWKT\na,1,\na,1,\n", "once"),
        ("ImageId,ClassType\na,1\n", "3 columns"),
        ('ImageId,ClassType,MultipolygonWKT\na,1,"MULTIPOLYGON (((0 0, 1 0', "CSV"),
        ("ImageId,ClassType,MultipolygonWKT\na,1,MULTIPOLYGON (((0 0, 1 0, 0 0)))\n", "CSV"),
        ("a,1,MULTIPOLYGON EMPTY\n", "header"),
        ("ImageId,ClassType,MultipolygonWKT\na,1,b,c\na,1,b,c,d\n", "CSV"),
        ("", "CSV"),
        (b"\xff\xfe\x00\x01", "CSV"),
    ],
)
def test_broken_tables_are_refused_in_words(tmp_path, content, what):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=what):
        read_table(path)
    with pytest.raises(DataError, match="CSV"):
        read_table(tmp_path / "absent.csv")


@pytest.mark.parametrize("header", ["", "ImageId", "imageId"])
def test_grid_sizes_under_any_header(tmp_path, header):
    path = tmp_path / "grid_sizes.csv"
    path.write_text(f"{header},Xmax,Ymin\n6120_2_4,0.00918,-0.00904\n")
    assert read_grid_sizes(path) == {"6120_2_4": GridSize(0.00918, -0.00904)}


@pytest.mark.parametrize("row", ["6120_2_4,x,-0.009", "6120_2_4,0.009,0.009", "6120_2_4,0.009,", "6120_2_3,1,-1"])
def test_broken_grid_sizes_are_refused_in_words(tmp_path, row):
    path = tmp_path / "grid_sizes.csv"
    path.write_text(f",Xmax,Ymin\n6120_2_3,0.00918,-0.00904\n{row}\n")
    with pytest.raises(DataError, match="row 3 of grid_sizes"):
        read_grid_sizes(path)


def test_real_polygons_draw_the_real_masks(data):
    """Polygons in grid coordinates, drawn on the grid of M, agree with masks that somebody else drew.

    Bands of the masks: building, road, tree, crop, water; measured IoU over two images: 0.975 to 0.999.
    """
    folder = data / "dstl"
    table, sizes = read_table(folder / "train_wkt_v4.csv"), read_grid_sizes(folder / "grid_sizes.csv")
    assert len(table) == 200
    assert len(sizes) == 450
    for page, class_id in enumerate((1, 3, 5, 6, 7), start=1):
        common = either = 0
        for name in ("6110_1_2", "6100_1_3"):
            truth = real_mask(folder, name, page)
            shapes = sizes[name].to_pixels(read_wkt(table[name, class_id]), *truth.shape)
            drawn = rasterise(polygonal(shapes), *truth.shape) != 0
            common, either = common + (drawn & truth).sum(), either + (drawn | truth).sum()
        assert common / either > 0.96, class_id


def real_mask(folder, name, page):
    with rasterio.open(f"GTIFF_DIR:{page}:{folder}/masks_5class/{name}_gt5.tif") as file:
        return file.read(1) != 0


def test_real_polygons_stay_themselves_through_rounding(data):
    table = read_table(data / "dstl" / "train_wkt_v4.csv")
    shape = read_wkt(table["6110_1_2", 1])
    rounded = round_valid(shape)
    assert shapely.from_wkt(write_wkt(rounded)).is_valid
    assert rounded.symmetric_difference(shape).area < 1e-3 * shape.area
