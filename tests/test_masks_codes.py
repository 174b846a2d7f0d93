"""Laws of run-length codes: round trips, two independent readers, and one clear line for what is broken."""

import json

import numpy as np
import pytest
from pycocotools import mask as pycoco

from satmask.errors import DataError, SettingError
from satmask.masks import (
    Runs,
    areas,
    boxes,
    decode_coco,
    decode_kaggle,
    encode_coco,
    encode_kaggle,
    polygonise,
    rasterise,
    read_coco,
    read_kaggle,
    write_coco,
    write_kaggle,
)

# pycocotools 2.0's own arrays don't know NumPy 2's `copy` keyword.
OLD_ARRAYS = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def one_pixel(row, column):
    mask = np.zeros((5, 7), np.uint8)
    mask[row, column] = 1
    return mask


def random_masks():
    random = np.random.default_rng(1)
    for density in (0.02, 0.3, 0.9):
        yield from ((random.random(random.integers(1, 40, 2)) < density).astype(np.uint8) for _ in range(6))


def odd_masks():
    random = np.random.default_rng(2)
    yield from (np.ones((3, 4), np.uint8), np.zeros((3, 4), np.uint8), np.ones((1, 1), bool), np.zeros((1, 1)))
    yield from (one_pixel(0, 0), one_pixel(4, 6), one_pixel(0, 6), one_pixel(4, 0), one_pixel(2, 3))
    yield from (random.random(shape) < 0.5 for shape in ((1, 50), (50, 1)))
    yield np.asfortranarray(random.random((9, 30)) < 0.5)
    yield (random.random((40, 60)) < 0.5)[::2, 1::3]
    yield random.integers(0, 300, (20, 30)) * (random.random((20, 30)) < 0.6)
    yard = np.zeros((60, 90), np.uint8)
    yard[10:50, 10:80] = 1
    yard[20:40, 20:70] = 0
    yard[25:30, 30:40] = 1
    yield rasterise(polygonise(yard), 60, 90)
    yield np.kron(yard, np.ones((40, 40), np.uint8))  # long runs, whose lengths need several characters


MASKS = [*random_masks(), *odd_masks()]


def plain_kaggle(mask, order):
    """The pairs, pixel by pixel."""
    pairs, flat = [], (mask != 0).ravel("C" if order == "row" else "F").tolist()
    for place, inside in enumerate(flat, start=1):
        if inside and (place == 1 or not flat[place - 2]):
            pairs.append([place, 0])
        if inside:
            pairs[-1][1] += 1
    return " ".join(f"{start} {length}" for start, length in pairs)


@OLD_ARRAYS
@pytest.mark.parametrize("mask", MASKS)
def test_coco_codes_are_those_of_pycocotools_both_ways(mask):
    theirs = pycoco.encode(np.asfortranarray(mask != 0).astype(np.uint8))
    code = json.loads(json.dumps(encode_coco(mask)))
    assert code == {"size": list(mask.shape), "counts": theirs["counts"].decode()}
    np.testing.assert_array_equal(pycoco.decode(code), mask != 0)
    np.testing.assert_array_equal(decode_coco(code), mask != 0)
    np.testing.assert_array_equal(decode_coco(theirs), mask != 0)
    np.testing.assert_array_equal(decode_coco(code["counts"], mask.shape), mask != 0)


@pytest.mark.parametrize("mask", MASKS)
def test_plain_coco_codes_are_those_of_pycocotools_both_ways(mask):
    plain = json.loads(json.dumps(encode_coco(mask, compressed=False)))
    assert pycoco.frPyObjects(plain, *mask.shape)["counts"].decode() == encode_coco(mask)["counts"]
    np.testing.assert_array_equal(decode_coco(plain), mask != 0)
    np.testing.assert_array_equal(decode_coco(plain["counts"], mask.shape), mask != 0)


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("mask", MASKS[:-1])
def test_kaggle_codes_are_those_counted_pixel_by_pixel(mask, order):
    code = encode_kaggle(mask, order=order)
    assert code == plain_kaggle(mask, order)
    decoded = decode_kaggle(code, mask.shape, order=order)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, mask != 0)


def test_kaggle_codes_down_the_columns_are_those_of_the_turned_mask():
    for mask in MASKS:
        assert encode_kaggle(mask, order="column") == encode_kaggle(mask.T)
        np.testing.assert_array_equal(decode_kaggle(encode_kaggle(mask), mask.shape[::-1], order="column"), mask.T != 0)


def stack(seed, shape=(13, 17), count=9):
    """Masks of all densities, the first and the last all on, the third empty: runs meet at the seams."""
    random = np.random.default_rng(seed)
    masks = random.random((*shape, count)) < np.linspace(1, 0.1, count)
    masks[..., 2], masks[..., -2:] = False, True
    return masks


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("shape", [(13, 17), (1, 9), (9, 1), (1, 1)])
def test_several_masks_are_coded_as_each_alone(shape, order):
    masks = stack(1, shape)
    runs = Runs.of(masks, order=order)
    assert len(runs) == masks.shape[-1]
    singles = [masks[..., place] for place in range(len(runs))]
    assert write_kaggle(runs) == [encode_kaggle(single, order=order) for single in singles]
    np.testing.assert_array_equal(read_kaggle(write_kaggle(runs), shape, order=order).masks(), masks)
    if order == "column":
        for compressed in (True, False):
            codes = write_coco(runs, compressed=compressed)
            assert codes == [encode_coco(single, compressed=compressed) for single in singles]
            np.testing.assert_array_equal(read_coco(codes).masks(), masks)
            np.testing.assert_array_equal(read_coco([*codes, encode_coco(singles[0])]).masks()[..., :-1], masks)


@pytest.mark.parametrize("order", ["row", "column"])
@pytest.mark.parametrize("shape", [(13, 17), (1, 9), (9, 1)])
def test_areas_and_boxes_of_codes_are_those_of_the_decoded_masks(shape, order):
    masks = stack(2, shape)
    masks[:, : shape[1] // 2, 3:6] = False
    masks[shape[0] // 2 + 1 :, :, 4:7] = False
    runs = Runs.of(masks, order=order)
    np.testing.assert_array_equal(runs.areas, areas(masks))
    np.testing.assert_array_equal(runs.boxes, boxes(masks))
    theirs = pycoco.encode(np.asfortranarray(masks.astype(np.uint8)))
    np.testing.assert_array_equal(runs.areas, pycoco.area(theirs))
    filled = runs.areas > 0  # a box of nothing is all zeros here
    np.testing.assert_array_equal(runs.boxes[filled], pycoco.toBbox(theirs)[filled])


def test_no_masks_are_masks_too():
    empty = read_kaggle([], (4, 5))
    assert (len(empty), empty.masks().shape, empty.boxes.shape) == (0, (4, 5, 0), (0, 4))
    assert (write_kaggle(empty), read_coco([]).areas.tolist()) == ([], [])
    for compressed in (True, False):
        assert write_coco(read_coco([]), compressed=compressed) == []


@pytest.mark.parametrize("order", ["row", "column"])
def test_unions_are_those_of_the_drawn_masks(order):
    masks = stack(3)
    groups = [0, 2, 0, 2, 2, 0, 4, 4, 0]
    united = Runs.of(masks, order=order).union(groups, 5)
    expected = np.stack([masks[..., np.array(groups) == group].any(axis=-1) for group in range(5)], axis=-1)
    np.testing.assert_array_equal(united.masks(), expected)
    assert write_kaggle(united) == write_kaggle(Runs.of(expected, order=order))


@pytest.mark.parametrize("order", ["row", "column"])
def test_numbered_regions_are_coded_as_one_mask_each(order):
    labels = np.random.default_rng(4).integers(0, 4, (11, 14)).astype(np.int32)
    labels[labels == 2] = 0
    runs = Runs.of_labels(labels, 5, order=order)
    expected = np.stack([labels == value for value in range(1, 6)], axis=-1)
    assert write_kaggle(runs) == write_kaggle(Runs.of(expected, order=order))


def test_runs_that_touch_and_runs_without_a_pixel_are_read():
    np.testing.assert_array_equal(decode_kaggle("2 1 3 2", (1, 5)), [[0, 1, 1, 1, 0]])
    np.testing.assert_array_equal(decode_kaggle("  2 1\n3 2 ", (1, 5)), [[0, 1, 1, 1, 0]])
    np.testing.assert_array_equal(decode_coco({"size": [5, 1], "counts": [1, 1, 0, 2, 1]}).T, [[0, 1, 1, 1, 0]])
    np.testing.assert_array_equal(decode_coco({"size": [2, 1], "counts": [2, 0, 0]}), [[0], [0]])


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("1 2 3", "pairs of start and length, got 3 numbers"),
        ("-1 2", "no negative numbers, got -1"),
        ("3 -2", "no negative numbers, got -2"),
        ("0 2", "count pixels from 1, got 0"),
        ("3 0", "1 pixel or more, got 0"),
        ("5 3", "end within its 2 × 3 = 6 pixels, got 5 3"),
        ("7 1", "end within its 2 × 3 = 6 pixels"),
        ("1 99999999999999999999", "end within"),
        ("99999999999999999999 1", "end within"),
        ("9223372036854775807 9223372036854775807", "end within"),
        ("4 1 1 1", "sorted and none on top of another, got 1 1"),
        ("1 3 2 1", "sorted and none on top of another, got 2 1"),
        ("one 2", "whole numbers with spaces between, got one"),
        ("1.5 2", "whole numbers with spaces between"),
        ("1,2", "whole numbers with spaces between"),
        ("1 ٢", "whole numbers with spaces between"),
        (None, "be text, got None"),
        (float("nan"), "be text, got nan"),
        (b"1 2", "be text"),
    ],
)
def test_broken_kaggle_codes_are_refused_by_name(code, rule):
    with pytest.raises(DataError) as caught:
        read_kaggle(["1 1", code, "2 1"], (2, 3), names=["a", "row 7 of codes.csv", "c"])
    text = str(caught.value)
    assert rule in text
    assert text.startswith("Run-length code must ")
    assert text.endswith(" in row 7 of codes.csv.")
    assert "\n" not in text


@pytest.mark.parametrize(
    "counts",
    ["~~~~", "abc", "", "1", "o", "4o", "é", [3, 4], [5, -1], [1, 1, 1], [], None, b"\xff", 4, [2.5, 1.5], ["4"], [[4]],
     [10**30], [2**63], [True, True], "oooooooo?", "ooooooooooooooooooooo0", "/", "p", [2**62, 2**62, 2**62, 2**62]],
)  # fmt: skip
def test_broken_coco_codes_are_refused_by_name(counts):
    good = {"size": [2, 2], "counts": [4]}
    with pytest.raises(DataError, match=r"^Run-length code must .* in b\.$"):
        read_coco([good, {"size": [2, 2], "counts": counts}, good], names=["a", "b", "c"])
    with pytest.raises(DataError, match=r"^Run-length code must .* in code 0\.$"):
        decode_coco({"size": [2, 2], "counts": counts})


@pytest.mark.parametrize("size", [None, [2], [2, 2, 1], "22", [2, -2], [2.0, 2.0], [True, 2], [10**6, 10**6], {}])
def test_codes_without_a_usable_size_are_refused(size):
    with pytest.raises(DataError, match=r"size \[height, width\]"):
        decode_coco({"size": size, "counts": [4]})
    with pytest.raises(DataError, match="size"):
        decode_coco({"counts": [4]})
    with pytest.raises(DataError, match="size of the first"):
        read_coco([{"size": [2, 2], "counts": [4]}, {"size": [1, 4], "counts": [4]}])
    with pytest.raises(DataError, match=r"size \(1, 4\), got \(2, 2\)"):
        decode_coco({"size": [2, 2], "counts": [4]}, (1, 4))


@OLD_ARRAYS
@pytest.mark.parametrize("seed", range(5))
def test_codes_with_runs_of_no_pixel_are_read_as_pycocotools_reads_them(seed):
    random = np.random.default_rng(seed)
    cuts = np.sort(random.integers(0, 200 * 300, 2 * random.integers(1, 40)))
    cuts[1::5] = cuts[::5][: len(cuts[1::5])]
    plain = {"size": [200, 300], "counts": np.diff(np.sort(cuts), prepend=0, append=60_000).tolist()}
    assert 0 in plain["counts"]
    packed = pycoco.frPyObjects(plain, 200, 300)
    for code in (plain, packed):
        np.testing.assert_array_equal(decode_coco(code), pycoco.decode(packed))


def test_masks_of_other_shapes_are_refused():
    for encode in (encode_coco, encode_kaggle):
        with pytest.raises(SettingError, match="height, width"):
            encode(np.zeros((2, 2, 2)))
    with pytest.raises(SettingError, match="down the columns"):
        write_coco(Runs.of(np.ones((2, 2))))
    with pytest.raises(SettingError, match="one group"):
        Runs.of(np.ones((2, 2))).union([1], 1)
