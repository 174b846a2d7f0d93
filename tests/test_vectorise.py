"""Laws of tracing: polygons are the labels again, valid, those of GDAL, and the same to the byte whatever the blocks."""

import tracemalloc

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from satmask.errors import SettingError
from satmask.masks import outlines, rasterise
from satmask.vectorise import Traced, Tracer, trace, trace_raster
from satmask.vectorise.linking import connect, follow

FIELDS = ("labels", "areas_px", "means", "minima")


def spiral(side):
    mask, row, column = np.zeros((side, side), np.uint8), 0, 0
    mask[0, 0] = 1
    for turn, length in enumerate([side - 1, *np.repeat(range(side - 1, 1, -2), 2)]):
        down, right = ((0, 1), (1, 0), (0, -1), (-1, 0))[turn % 4]
        for _ in range(length):
            row, column = row + down, column + right
            mask[row, column] = 1
    return mask


def frames(count):
    side = 4 * count + 1
    far = np.maximum(*np.abs(np.mgrid[:side, :side] - side // 2))
    return (far % 2).astype(np.uint8)


def noise(seed, shape, labels=2):
    return np.random.default_rng(seed).integers(0, labels, shape, dtype=np.uint8)


def blobs(seed, shape, labels=3):
    small = noise(seed, (shape[0] // 6 + 1, shape[1] // 6 + 1), labels)
    mask = np.kron(small, np.ones((6, 6), np.uint8))[: shape[0], : shape[1]]
    return np.where(np.random.default_rng(seed).random(shape) < 0.03, 0, mask).astype(np.uint8)


MASKS = {
    "noise": noise(0, (61, 47)),
    "sparse": (np.random.default_rng(1).random((50, 50)) < 0.1).astype(np.uint8),
    "dense": (np.random.default_rng(2).random((50, 50)) < 0.75).astype(np.uint8),
    "labels": noise(3, (40, 55), 4),
    "blobs": blobs(4, (70, 83)),
    "numbers": np.random.default_rng(5).choice(np.array([0, -7, 2**31 - 1], np.int32), (20, 20)),
    "chequered": (np.indices((21, 20)).sum(axis=0) % 2).astype(np.uint8),
    "chequered labels": (1 + np.indices((12, 13)).sum(axis=0) % 2).astype(np.uint16),
    "spiral": spiral(41),
    "frames": frames(20),
    "row": noise(6, (1, 90), 3),
    "column": noise(7, (90, 1), 3),
    "pixel": np.ones((1, 1), np.uint8),
    "empty": np.zeros((9, 8), np.uint8),
    "full": np.full((9, 8), 200, np.uint8),
    "ring of corners": np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 1], [1, 1, 1, 0]], np.uint8),
}


def values_like(mask, seed=0):
    return np.random.default_rng(seed).random(mask.shape).astype(np.float32)


def in_blocks(mask, block, values=None):
    read = (lambda window: mask[window.slices]) if values is None else lambda at: (mask[at.slices], values[at.slices])
    return Traced.join(list(trace_raster(read, *mask.shape, block=block)))


def assert_same(one, other):
    assert shapely.to_wkb(one.polygons).tolist() == shapely.to_wkb(other.polygons).tolist()
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def assert_exact(mask, traced):
    """The polygons are the labels, are valid, and are those of GDAL."""
    assert shapely.is_valid(traced.polygons).all()
    np.testing.assert_array_equal(rasterise(list(traced.polygons), *mask.shape, values=traced.labels.tolist()), mask)
    np.testing.assert_array_equal(shapely.area(traced.polygons), traced.areas_px)
    expected, labels = outlines(mask.astype(np.int32))
    assert sorted(shapely.to_wkb(traced.polygons)) == sorted(shapely.to_wkb(expected))  # each vertex in the same place
    assert sorted(traced.labels) == sorted(labels)


@pytest.mark.parametrize("name", MASKS)
def test_polygons_are_the_labels_and_those_of_gdal(name):
    assert_exact(MASKS[name], trace(MASKS[name]))


@pytest.mark.parametrize("block", [(1, 1), (1, 1000), (1000, 1), (3, 7), (16, 16), (1000, 1000)])
@pytest.mark.parametrize("name", MASKS)
def test_polygons_are_the_same_whatever_the_blocks(name, block):
    mask = MASKS[name]
    values = values_like(mask)
    assert_same(in_blocks(mask, block, values), trace(mask, values))


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 12), width=st.integers(1, 12), labels=st.integers(2, 4))
@settings(max_examples=150)
def test_any_small_mask_is_traced_exactly(seed, height, width, labels):
    mask = noise(seed, (height, width), labels)
    traced = trace(mask)
    assert_exact(mask, traced)
    assert_same(in_blocks(mask, (1 + seed % 5, 1 + seed % 3)), traced)


def test_real_masks_are_traced_exactly_and_without_seams(data):
    files = [*sorted((data / "naip/val/mask").glob("*.tif"))[:6], *sorted((data / "scenes").glob("*_mask.tif"))[:2]]
    assert len(files) == 8
    for file in files:
        with rasterio.open(file) as raster:
            mask = raster.read(1)
        traced = trace(mask)
        assert_exact(mask, traced)
        assert_same(in_blocks(mask, (100, 333)), traced)


def test_means_and_minima_are_those_of_each_polygons_pixels():
    mask = MASKS["blobs"]
    values = values_like(mask)
    traced = trace(mask, values)
    for polygon, mean, least in zip(traced.polygons, traced.means, traced.minima, strict=True):
        inside = values[rasterise([polygon], *mask.shape) == 1]
        assert mean == pytest.approx(inside.mean(dtype=np.float64), abs=2**-32)
        assert least == inside.min()


def test_values_may_be_unsigned_integers_and_nan():
    mask = np.array([[1, 1, 0, 2, 0, 3]], np.uint8)
    traced = trace(mask, np.array([[0, 255, 9, 51, 9, 255]], np.uint8))
    assert (traced.means.tolist(), traced.minima.tolist()) == ([0.5, 0.2, 1.0], [0.0, 0.2, 1.0])
    traced = trace(mask, np.array([[0.5, np.nan, np.nan, 0.25, 0.5, 1.0]]))
    np.testing.assert_array_equal(traced.means, [np.nan, 0.25, 1.0])
    assert np.isnan(trace(mask).means).all()
    assert np.isnan(trace(mask).minima).all()


def test_regions_come_by_last_row_and_first_pixel_with_rings_that_begin_at_their_first_vertex():
    mask = MASKS["blobs"]
    traced = trace(mask)
    keys = []
    for polygon in traced.polygons:
        assert polygon.exterior.is_ccw is False  # in coordinates whose y grows downwards
        rings = [polygon.exterior, *polygon.interiors]
        for ring in rings:
            points = [(y, x) for x, y in ring.coords]
            assert points[0] == min(points)
            steps = np.abs(np.diff(points, axis=0))
            assert ((steps > 0).sum(axis=1) == 1).all()
            assert ((steps[1:, 0] > 0) != (steps[:-1, 0] > 0)).all()  # no vertex on a straight line
        assert all(ring.is_ccw for ring in polygon.interiors)
        holes = [ring.coords[0][::-1] for ring in polygon.interiors]
        assert holes == sorted(holes)
        keys.append((polygon.bounds[3], *polygon.exterior.coords[0][::-1]))
    assert keys == sorted(keys)


def test_a_region_comes_as_soon_as_a_row_without_it_was_seen():
    tracer = Tracer(4)
    rows = [[1, 0, 2, 2], [1, 0, 2, 0], [1, 1, 0, 3], [0, 1, 0, 3]]
    found = [tracer.add(np.array([row], np.uint8)).labels.tolist() for row in rows]
    assert found == [[], [], [2], []]
    assert tracer.finish().labels.tolist() == [1, 3]


def test_outside_may_be_any_label():
    mask = noise(8, (30, 30), 3)
    assert sorted(set(trace(mask, outside=2).labels)) == [0, 1]
    assert shapely.area(trace(mask, outside=255).polygons).sum() == mask.size
    np.testing.assert_array_equal(trace(mask == 1).areas_px, trace((mask == 1).astype(np.uint8)).areas_px)


def peak(height):
    """Most bytes held while small objects all over a tall raster are traced and thrown away."""
    stripes = np.kron(np.random.default_rng(9).random((16, 32)) < 0.3, np.ones((8, 8), np.uint8))
    tracemalloc.start()
    count = sum(len(part) for part in trace_raster(lambda at: stripes[: at.height], height, 256, block=(128, 256)))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return count, most


def test_memory_does_not_grow_with_the_height():
    peak(512)
    low, tall = peak(1024), peak(16 * 1024)
    assert tall[0] > 15 * low[0]
    assert tall[1] < 1.3 * low[1]


def test_what_waits_is_only_what_is_open():
    rows = np.zeros((600, 64), np.uint8)
    rows[:, 0] = 1
    rows[::3, 2::3] = 2
    tracer = Tracer(64)
    for at in range(0, 600, 50):
        tracer.add(rows[at : at + 50])
    assert len(tracer._state.chains.codes) + sum(len(rings.codes) for rings in tracer._state.rings) <= 4
    assert tracer._state.regions.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("add", "match"),
    [
        (lambda tracer: tracer.add(np.zeros((2, 3), np.uint8)), r"shape \(rows, 4\), got \(2, 3\)"),
        (lambda tracer: tracer.add(np.zeros((2, 4))), "integers of a type that holds 0, got float64"),
        (lambda tracer: tracer.add(np.zeros((2, 4), np.uint8), np.zeros((2, 3), np.float32)), r"shape \(2, 4\)"),
        (lambda tracer: tracer.add(np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.int16)), "floats or unsigned"),
        (lambda tracer: [tracer.add(np.zeros((2, 4), kind)) for kind in (np.uint8, np.int32)], "types of the first"),
    ],
)
def test_what_cannot_be_traced_is_refused(add, match):
    with pytest.raises(SettingError, match=match):
        add(Tracer(4))


def test_rasters_and_labels_without_a_size_are_refused_or_empty():
    assert (
        len(trace(np.zeros((0, 5), np.uint8))) == len(trace(np.zeros((5, 0), np.uint8))) == len(Tracer(3).finish()) == 0
    )
    with pytest.raises(SettingError, match="at least one pixel"):
        list(trace_raster(lambda _: np.zeros((0, 0), np.uint8), 4, 4, block=(0, 4)))
    with pytest.raises(SettingError, match="2³¹"):
        Tracer(0)
    with pytest.raises(SettingError, match="height, width"):
        trace(np.zeros(4, np.uint8))


@pytest.mark.parametrize("seed", range(20))
def test_lists_are_followed_to_their_ends(seed):
    random = np.random.default_rng(seed)
    successors = random.permutation(random.integers(1, 400))
    successors[random.random(len(successors)) < 0.1 * (seed % 3)] = -1
    chains = follow(successors)
    begin = 0
    for number, (length, closed) in enumerate(zip(chains.lengths, chains.closed, strict=True)):
        members = chains.order[begin : begin + length]
        assert (chains.chain[members] == number).all()
        assert successors[members[:-1]].tolist() == members[1:].tolist()
        assert successors[members[-1]] == (members[0] if closed else -1)
        begin += length
    assert sorted(chains.order) == list(range(len(successors)))


@pytest.mark.parametrize("seed", range(10))
def test_connected_parts_are_those_of_scipy(seed):
    graphs = pytest.importorskip("scipy.sparse.csgraph")
    sparse = pytest.importorskip("scipy.sparse")
    random = np.random.default_rng(seed)
    one, other = random.integers(0, 200, (2, 120))
    _, expected = graphs.connected_components(
        sparse.coo_array((np.ones(120), (one, other)), (200, 200)), directed=False
    )
    found = connect(200, one, other)
    first = {part: int(np.flatnonzero(expected == part)[0]) for part in set(expected)}
    assert found.tolist() == [first[part] for part in expected]
