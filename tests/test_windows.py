"""Laws of windows: tilings touch each pixel once, draws are fair, fixed by their seed, and inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satmask.errors import SettingError
from satmask.windows import ClassBlocks, Window, cover, draw, draw_balanced, draw_mixed, round_up, sides_of


@st.composite
def tilings(draw_from):
    stride = draw_from(st.sampled_from([1, 2, 4, 16]))
    halo = draw_from(st.integers(0, 20))
    sides = st.integers(1, 6).map(lambda more: 2 * round_up(halo, stride) + stride * more)
    size = draw_from(sides | st.tuples(sides, sides))
    return draw_from(st.integers(1, 150)), draw_from(st.integers(1, 150)), size, halo, stride


@given(tilings())
@settings(max_examples=150, deadline=None)
def test_cores_touch_each_pixel_exactly_once(tiling):
    height, width, size, halo, stride = tiling
    touched = np.zeros((height, width), int)
    for tile in cover(height, width, size=size, halo=halo, stride=stride):
        assert tile.core.clip(height, width) == tile.core
        assert tile.core.height > 0
        assert tile.core.width > 0
        touched[tile.core.slices] += 1
    assert (touched == 1).all()


@given(tilings())
@settings(max_examples=150, deadline=None)
def test_cores_have_their_halo_except_at_edges(tiling):
    height, width, size, halo, stride = tiling
    tiles = cover(height, width, size=size, halo=halo, stride=stride)
    assert len({(tile.read.height, tile.read.width) for tile in tiles}) == 1
    for tile in tiles:
        read, core = tile.read, tile.core
        assert read.row % stride == read.column % stride == 0
        assert read.height % stride == read.width % stride == 0
        assert all(side <= most for side, most in zip((read.height, read.width), sides_of(size), strict=True))
        assert core.row - read.row >= min(halo, core.row)
        assert core.column - read.column >= min(halo, core.column)
        below, right = core.row + core.height, core.column + core.width
        assert read.row + read.height >= min(below + halo, height)
        assert read.column + read.width >= min(right + halo, width)
        # Over the edge by less than a stride: rows that aren't there must not look like context.
        assert read.row >= 0
        assert read.row + read.height < height + stride


@pytest.mark.parametrize(
    "setting",
    [{"size": 40}, {"size": (48, 40)}, {"size": (16, 48)}, {"size": 0}, {"halo": 24}, {"halo": -1}, {"stride": 0}],
)
def test_tilings_that_cannot_be_exact_are_refused(setting):
    with pytest.raises(SettingError, match="got"):
        cover(100, 100, **{"size": 48, "halo": 8, "stride": 16} | setting)


@given(st.tuples(*[st.integers(-20, 40)] * 2), st.tuples(*[st.integers(0, 40)] * 2))
def test_clipping_is_slicing(corner, sides):
    scene = np.arange(30 * 20).reshape(30, 20)
    inside = Window(*corner, *sides).clip(30, 20)
    far = np.pad(scene, 100, constant_values=-1)[Window(corner[0] + 100, corner[1] + 100, *sides).slices]
    assert scene[inside.slices].ravel().tolist() == far[far >= 0].tolist()


def test_negative_sides_are_refused():
    with pytest.raises(SettingError, match="-1"):
        Window(0, 0, 4, -1)


@given(st.integers(1, 60), st.integers(0, 9))
def test_tiles_of_one_size_come_once_an_epoch(count, seed):
    drawn = [index for index, _ in draw([(70, 50)] * count, size=32, count=count, seed=(seed, 1))]
    assert sorted(drawn) == list(range(count))


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=8), st.integers(0, 99))
@settings(deadline=None)
def test_images_come_as_often_as_their_area_asks(shapes, seed):
    areas = np.array([height * width for height, width in shapes])
    indexes = np.array([index for index, _ in draw(shapes, size=16, count=200, seed=(seed,))])
    want = 200 * areas / areas.sum()
    assert (np.abs(np.bincount(indexes, minlength=len(shapes)) - want) < 1 + 1e-9).all()


@given(st.integers(1, 100), st.integers(1, 100))
def test_drawn_windows_lie_inside(height, width):
    for _, window in draw([(height, width)], size=40, count=20, seed=(3,)):
        assert (window.height, window.width) == (40, 40)
        assert 0 <= window.row <= max(height - 40, 0)
        assert 0 <= window.column <= max(width - 40, 0)


def test_every_place_of_an_image_can_be_drawn():
    drawn = [window for _, window in draw([(10, 12)], size=8, count=4000, seed=(1,))]
    counts = np.zeros((3, 5), int)
    for window in drawn:
        counts[window.row, window.column] += 1
    assert counts.min() > 0.7 * 4000 / 15
    assert counts.max() < 1.3 * 4000 / 15


def blocks_of(masks, *, side):
    """Count classes in blocks the slow way."""
    entries = []
    for image, mask in enumerate(masks):
        for row in range(0, mask.shape[0], side):
            for column in range(0, mask.shape[1], side):
                pixels = mask[row : row + side, column : column + side].sum(axis=(0, 1))
                if pixels.any():
                    entries.append((image, row // side, column // side, pixels))
    image, row, column, pixels = zip(*entries, strict=True)
    return ClassBlocks(side, *(np.array(part, np.int32) for part in (image, row, column)), np.array(pixels, np.int64))


@pytest.fixture
def rare():
    """Three images: class 0 everywhere, class 1 in one corner pixel, class 2 in a spot, class 3 nowhere."""
    masks = [np.zeros((150, 170, 4), np.uint8), np.zeros((64, 40, 4), np.uint8), np.zeros((200, 90, 4), np.uint8)]
    for mask in masks:
        mask[..., 0] = 1
    masks[0][149, 169, 1] = 1
    masks[2][70:75, 30:40, 2] = 1
    return masks


def test_balanced_draws_meet_each_class_equally_often(rare):
    blocks, shapes = blocks_of(rare, side=16), [mask.shape[:2] for mask in rare]
    drawn = list(draw_balanced(blocks, shapes, size=32, count=300, seed=(5,)))
    holds = np.array([rare[index][window.slices].any(axis=(0, 1)) for index, window in drawn])
    # A third is drawn for each class that occurs; every window of a rare class holds it.
    assert holds[:, 0].all()
    assert not holds[:, 3].any()
    assert 100 <= holds[:, 1].sum() <= 110
    assert 100 <= holds[:, 2].sum() <= 110
    for index, window in drawn:
        height, width = shapes[index]
        assert 0 <= window.row <= max(height - 32, 0)
        assert 0 <= window.column <= max(width - 32, 0)


@pytest.mark.parametrize("size", [16, 64, 100])
def test_balanced_windows_hold_what_they_were_drawn_for(size):
    random = np.random.default_rng(2)
    masks = [(random.random((random.integers(20, 200), 130, 1)) < 0.0005).astype(np.uint8) for _ in range(6)]
    masks[0][0, 0] = 1
    blocks, shapes = blocks_of(masks, side=16), [mask.shape[:2] for mask in masks]
    for index, window in draw_balanced(blocks, shapes, size=size, count=100, seed=(1,)):
        assert masks[index][window.slices].any()


def test_windows_smaller_than_blocks_lie_in_them():
    blocks = ClassBlocks(64, np.zeros(1, np.int32), np.ones(1, np.int32), np.full(1, 2, np.int32), np.array([[9]]))
    for _, window in draw_balanced(blocks, [(100, 180)], size=16, count=200, seed=(1,)):
        assert 64 <= window.row <= 100 - 16
        assert 128 <= window.column <= 180 - 16


def test_blocks_without_classes_are_drawn_at_random():
    none = ClassBlocks(16, *(np.zeros(0, np.int32) for _ in range(3)), np.zeros((0, 2), np.int64))
    settled = {"size": 16, "count": 9, "seed": (4, 2)}
    assert list(draw_balanced(none, [(50, 50)], **settled)) == list(draw([(50, 50)], **settled))


def test_the_seed_fixes_the_draw(rare):
    blocks, shapes = blocks_of(rare, side=16), [mask.shape[:2] for mask in rare]
    for drawn in (draw, lambda shapes, **settled: draw_balanced(blocks, shapes, **settled)):
        first, again, other = (list(drawn(shapes, size=32, count=50, seed=(7, epoch))) for epoch in (0, 0, 1))
        assert first == again
        assert first != other


def test_images_come_as_often_as_their_weighted_area_asks():
    """Ground seen twice as finely has four times the pixels; weighed by their size it comes equally often."""
    shapes, weights = [(400, 400), (200, 200)], np.array([0.25, 1.0])
    drawn = [index for index, _ in draw(shapes, size=32, count=100, seed=(1,), weights=weights)]
    assert abs(drawn.count(0) - 50) <= 1
    masks = [np.zeros((side, side, 1), np.uint8) for side in (400, 200)]
    for mask in masks:
        mask[:, :30] = 1
    # The class, and its edge, are twice as long in the larger image, where each pixel counts a quarter; half of the mixed
    # draw goes by area.
    for sampler, wanted in ((draw_balanced, 1 / 3), (draw_mixed, (1 / 2 + 1 / 3) / 2)):
        drawn = sampler(blocks_of(masks, side=20), shapes, size=32, count=4000, seed=(1,), weights=weights)
        assert np.mean([index == 0 for index, _ in drawn]) == pytest.approx(wanted, abs=0.04)
