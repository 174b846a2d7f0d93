"""Run-length codes: a mask as text, in the two conventions that the field knows.

| | COCO | Kaggle |
|---|---|---|
| pixels are counted | down the columns | along the rows (some competitions: down the columns) |
| numbers are | lengths of runs of 0 and 1 in turn, 0 first | first pixel and length of each run of 1, in pairs |
| the first pixel is | | 1 |
| the size is | in the code, `[height, width]` | not in the code |
| as text | five bits a character, each number less the last but one | numbers with spaces between |

References:
    Lin et al., `maskApi.c` of the COCO API, https://github.com/cocodataset/cocoapi
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from satmask.errors import DataError, SettingError
from satmask.masks.runs import Order, Runs, down_columns

# A size or a length beyond this is a slip, and would ask for more memory than there is.
MOST_PX = 2**31
FIRST, CONTINUES, MINUS = 48, 0x20, 0x10  # of COCO's characters: the one for 0, and what their bits say
GROUPS = 8  # characters in which a number up to MOST_PX, or less than minus that, fits


def encode_coco(mask: np.ndarray, *, compressed: bool = True) -> dict[str, Any]:
    """Write a mask as a COCO run-length code: lengths of runs of 0 and 1 in turn, down the columns.

    Args:
        mask: Anything but 0 is inside, `(height, width)`.
        compressed: Write the lengths as COCO's text rather than as a list.

    Returns:
        `size` as `[height, width]`, and `counts` as str or list; fit for JSON.

    Example:
        >>> encode_coco(np.array([[0, 1], [0, 1]]), compressed=False)
        {'size': [2, 2], 'counts': [2, 2]}
    """
    plane = _plane(mask)
    if not compressed or not plane.size:
        return write_coco(Runs.of(plane, order="column"), compressed=compressed)[0]
    import hotcoco.mask

    counts = hotcoco.mask.encode(down_columns(plane))["counts"]
    return {"size": [int(side) for side in plane.shape], "counts": counts.decode("ascii")}


def decode_coco(
    code: Mapping[str, Any] | str | bytes | Sequence[int], shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Read a COCO run-length code, compressed or not.

    Args:
        code: `size` as `[height, width]`, and `counts` as str, bytes, or a list of lengths; or the counts alone.
        shape: `(height, width)`: needed for counts alone; a code's own size must agree.

    Returns:
        1 inside, 0 outside, uint8, `(height, width)`.

    Raises:
        DataError: If the code doesn't describe a mask of its size.

    Example:
        >>> decode_coco({"size": [2, 2], "counts": [2, 2]}).tolist()
        [[0, 1], [0, 1]]
    """
    entry = code if isinstance(code, Mapping) else {"size": shape, "counts": code}
    runs = read_coco([entry])
    if shape is not None and runs.shape != tuple(shape):
        msg = f"Run-length code must have the size {tuple(shape)}, got {runs.shape}."
        raise DataError(msg)
    return np.asarray(runs.masks()[..., 0])


def encode_kaggle(mask: np.ndarray, *, order: Order = "row") -> str:
    """Write a mask as `start length` pairs, as Kaggle's files have them; the first pixel is 1.

    Args:
        mask: Anything but 0 is inside, `(height, width)`.
        order: Count pixels along the rows, or down the columns as some competitions do.

    Returns:
        The pairs, sorted; empty where the mask is.

    Example:
        >>> encode_kaggle(np.array([[0, 1, 1], [0, 0, 1]])), encode_kaggle(np.zeros((2, 3)))
        ('2 2 6 1', '')
    """
    return write_kaggle(Runs.of(_plane(mask), order=order))[0]


def decode_kaggle(code: str, shape: tuple[int, int], *, order: Order = "row") -> np.ndarray:
    """Read `start length` pairs.

    Args:
        code: Whole numbers with spaces between; empty for a mask without a pixel.
        shape: `(height, width)`, which the code doesn't say.
        order: How its pixels are counted; nothing in the code tells.

    Returns:
        1 inside, 0 outside, uint8, `(height, width)`.

    Raises:
        DataError: If the code doesn't describe a mask of that shape, see `read_kaggle`.

    Example:
        >>> decode_kaggle("2 2 6 1", (2, 3)).tolist()
        [[0, 1, 1], [0, 0, 1]]
    """
    return np.asarray(read_kaggle([code], shape, order=order).masks()[..., 0])


def write_coco(runs: Runs, *, compressed: bool = True) -> list[dict[str, Any]]:
    """Write the runs of several masks as COCO codes.

    Args:
        runs: Runs counted down the columns.
        compressed: See `encode_coco`.

    Returns:
        A code for each mask.

    Raises:
        SettingError: If the runs are counted along the rows.
    """
    if runs.order != "column":
        msg = f"COCO's codes must count down the columns, got runs by {runs.order}. Find them with order='column'."
        raise SettingError(msg)
    counts, ends = _counts(runs)
    size = [int(side) for side in runs.shape]
    if not compressed:
        return [{"size": size, "counts": part.tolist()} for part in _parts(counts, ends)]
    text, ends = _pack(counts, ends)
    return [{"size": size, "counts": part.tobytes().decode("ascii")} for part in _parts(text, ends)]


def read_coco(codes: Sequence[Mapping[str, Any]], *, names: Sequence[str] | None = None) -> Runs:
    """Read COCO codes of masks of one size.

    Runs without a pixel, which some writers leave, are allowed.

    Args:
        codes: `size` and `counts` each, see `decode_coco`.
        names: What errors call the codes; `code 0`, `code 1` … by default.

    Returns:
        The runs, counted down the columns.

    Raises:
        DataError: If sizes are missing or differ, counts aren't COCO's text or whole numbers from 0, or don't fill the
            size exactly.
    """
    names = names or [f"code {place}" for place in range(len(codes))]
    shape = _size(codes, names)
    if codes and all(isinstance(code.get("counts"), str | bytes) for code in codes):
        counts, numbers = _unpack([code["counts"] for code in codes], names)
    else:
        listed = [_listed(code.get("counts"), name) for code, name in zip(codes, names, strict=True)]
        counts, numbers = np.concatenate([*listed, np.zeros(0, np.int64)]), np.array([*map(len, listed)], np.int64)
    owners, places = _owners(numbers)
    _refuse(counts < 0, numbers, names, "have lengths of 0 or more", counts)
    ends = np.cumsum(counts)
    firsts = np.cumsum(numbers) - numbers
    before = np.concatenate([np.zeros(1, np.int64), ends])
    filled = before[firsts + numbers] - before[firsts]
    size = shape[0] * shape[1]
    _refuse(
        filled != size, np.ones(len(codes), int), names, f"fill its {shape[0]} × {shape[1]} = {size} pixels", filled
    )
    inside = (places % 2 == 1) & (counts > 0)
    starts = (ends - counts)[inside] - before[firsts][owners[inside]]
    return Runs(starts, counts[inside], np.bincount(owners[inside], minlength=len(codes)), shape, "column")


def write_kaggle(runs: Runs) -> list[str]:
    """Write the runs of several masks as `start length` pairs.

    Returns:
        A code for each mask, empty where the mask is.
    """
    pairs = np.stack([runs.starts + 1, runs.lengths], axis=-1).ravel()
    # A list's own text is the fastest way from many numbers to characters.
    return [str(part.tolist())[1:-1].replace(",", "") for part in _parts(pairs, 2 * np.cumsum(runs.numbers))]


def read_kaggle(
    codes: Sequence[str], shape: tuple[int, int], *, order: Order = "row", names: Sequence[str] | None = None
) -> Runs:
    """Read `start length` pairs of masks of one size.

    As in Kaggle's own checks, runs have to be sorted and may touch but not overlap.

    Args:
        codes: A code for each mask; empty for a mask without a pixel.
        shape: `(height, width)`.
        order: How pixels are counted.
        names: What errors call the codes; `code 0`, `code 1` … by default.

    Returns:
        The runs, counted by `order`.

    Raises:
        DataError: If a code isn't whole numbers in pairs, starts before 1, has a run without a pixel, reaches over the
            end, or has runs out of order or on top of each other.
    """
    names = names or [f"code {place}" for place in range(len(codes))]
    parts = [_numbers(code, name) for code, name in zip(codes, names, strict=True)]
    pairs = np.concatenate([*parts, np.zeros(0, np.int64)]).reshape(-1, 2)
    starts, lengths = pairs[:, 0] - 1, pairs[:, 1]
    numbers = np.array([len(part) // 2 for part in parts], np.int64)
    _, places = _owners(numbers)
    size = shape[0] * shape[1]
    _refuse(starts < 0, numbers, names, "count pixels from 1", pairs[:, 0])
    _refuse(lengths < 1, numbers, names, "have runs of 1 pixel or more", lengths)
    over = (starts >= size) | (lengths > size - np.minimum(starts, size))
    _refuse(over, numbers, names, f"end within its {shape[0]} × {shape[1]} = {size} pixels", pairs)
    early = np.zeros(len(pairs), bool)
    early[1:] = (starts[1:] < (starts + lengths)[:-1]) & (places[1:] > 0)
    _refuse(early, numbers, names, "have its runs sorted and none on top of another", pairs)
    return Runs(starts, lengths, numbers, (int(shape[0]), int(shape[1])), order)


def _plane(mask: np.ndarray) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.ndim != 2:
        msg = f"Mask must be (height, width), got shape {mask.shape}. Encode several with Runs.of."
        raise SettingError(msg)
    return mask


def _owners(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The code that each number belongs to, and its place in it."""
    owners = np.repeat(np.arange(len(numbers)), numbers)
    return owners, np.arange(len(owners)) - (np.cumsum(numbers) - numbers)[owners]


def _parts(values: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """Cut values where each code's end."""
    bounds = [0, *ends.tolist()]
    return [values[begin:end] for begin, end in pairwise(bounds)]


def _refuse(wrong: np.ndarray, numbers: np.ndarray, names: Sequence[str], rule: str, values: np.ndarray) -> None:
    """Name the first code that breaks a rule; each has so many of the values."""
    if wrong.any():
        place = int(np.argmax(wrong))
        raise _broken(
            names[int(np.searchsorted(np.cumsum(numbers), place, side="right"))],
            rule,
            " ".join(map(str, np.atleast_1d(values[place]).tolist())),
        )


def _broken(name: str, rule: str, value: Any) -> DataError:
    return DataError(f"Run-length code must {rule}, got {value!s:.60} in {name}.")


def _size(codes: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[int, int]:
    """The size that all codes share."""
    shape = None
    for code, name in zip(codes, names, strict=True):
        size = code.get("size")
        sides = [int(side) for side in size or ()] if _is_size(size) else []
        if not sides or sides[0] * sides[1] >= MOST_PX:
            raise _broken(name, f"have a size [height, width] of fewer than {MOST_PX} pixels", repr(size))
        if shape not in (None, tuple(sides)):
            raise _broken(name, f"have the size of the first, {list(shape or ())}", sides)
        shape = sides[0], sides[1]
    return shape or (0, 0)


def _is_size(size: Any) -> bool:
    listed = isinstance(size, list | tuple | np.ndarray) and len(size) == 2
    return listed and all(
        isinstance(side, int | np.integer) and not isinstance(side, bool) and side >= 0 for side in size
    )


def _listed(counts: Any, name: str) -> np.ndarray:
    """The counts of one code, as text or as a list."""
    if isinstance(counts, str | bytes):
        return _unpack([counts], [name])[0]
    try:
        values = np.asarray(counts)
    except (ValueError, OverflowError):
        values = np.zeros(0, object)
    if values.ndim != 1 or (values.size and (values.dtype.kind not in "iu" or values.max() > MOST_PX)):
        raise _broken(name, "have whole numbers or COCO's text as counts", repr(counts))
    return values.astype(np.int64)


def _numbers(code: Any, name: str) -> np.ndarray:
    """The whole numbers of one `start length` code."""
    if not isinstance(code, str):
        raise _broken(name, "be text", repr(code))
    if wrong := re.search(r"[^0-9\s]\S*", code, re.ASCII):
        minus = re.match(r"-[0-9]", wrong[0])
        raise _broken(name, "have no negative numbers" if minus else "be whole numbers with spaces between", wrong[0])
    numbers = np.fromstring(code, np.int64, sep=" ") if code and not code.isspace() else np.zeros(0, np.int64)
    if len(numbers) % 2:
        raise _broken(name, "be pairs of start and length", f"{len(numbers)} numbers")
    return numbers


def _counts(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of runs of 0 and 1 in turn, and where each mask's end in them."""
    size = runs.shape[0] * runs.shape[1]
    owners, places = _owners(runs.numbers)
    stops = runs.starts + runs.lengths
    gaps = runs.starts - np.where(places > 0, np.concatenate([np.zeros(1, np.int64), stops[:-1]])[: len(stops)], 0)
    covered = np.zeros(len(runs), np.int64)
    filled = runs.numbers > 0
    covered[filled] = stops[np.cumsum(runs.numbers)[filled] - 1]
    trails = (covered < size) | ~filled
    numbers = 2 * runs.numbers + trails
    ends = np.cumsum(numbers)
    counts = np.zeros(numbers.sum(), np.int64)
    at = (ends - numbers)[owners] + 2 * places
    counts[at], counts[at + 1] = gaps, runs.lengths
    counts[ends[trails] - 1] = (size - covered)[trails]
    return counts, ends


def _pack(counts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts as COCO's characters, uint8, and where each mask's end in them."""
    numbers = np.diff(ends, prepend=0)
    _, places = _owners(numbers)
    values = counts.copy()
    later = np.flatnonzero(places > 2)
    values[later] -= counts[later - 2]
    sizes = np.ones(len(values), np.int64)
    magnitudes = np.where(values < 0, ~values, values)
    largest = int(magnitudes.max(initial=0))
    while largest >= (limit := 1 << (5 * int(sizes.max()) - 1)):
        sizes += magnitudes >= limit
    text = np.empty(sizes.sum(), np.uint8)
    stops = np.cumsum(sizes)
    # A number's first characters carry its last bits. Few numbers have many characters.
    which = np.arange(len(values))
    for digit in range(int(sizes.max(initial=0))):
        which = which[sizes[which] > digit]
        more = CONTINUES * (digit + 1 < sizes[which])
        text[stops[which] - sizes[which] + digit] = ((values[which] >> (5 * digit)) & 0x1F) + FIRST + more
    return text, stops[ends - 1]


def _unpack(texts: Sequence[str | bytes], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Counts of COCO's texts, one after the other, and how many each has."""
    raw = [text.encode("utf-8") if isinstance(text, str) else text for text in texts]
    lengths = np.array([len(text) for text in raw], np.int64)
    characters = np.frombuffer(b"".join(raw), np.uint8) - np.uint8(FIRST)
    _refuse(characters >= 2 * CONTINUES, lengths, names, "have characters from 0 to o", characters + np.uint8(FIRST))
    ends = np.cumsum(lengths)
    last = characters < CONTINUES
    closed = np.ones(len(raw), bool)
    closed[lengths > 0] = last[ends[lengths > 0] - 1]
    _refuse(~closed, np.ones(len(raw), int), names, "be whole", np.full(len(raw), "a text that breaks off"))
    stops = np.flatnonzero(last)
    sizes = np.diff(stops, prepend=-1)
    numbers = np.diff(np.searchsorted(stops, ends), prepend=0)
    _refuse(sizes > GROUPS, numbers, names, f"have numbers below {MOST_PX}", sizes)
    values = np.zeros(len(stops), np.int64)
    which = np.arange(len(stops))
    for digit in range(int(sizes.max(initial=0))):
        which = which[sizes[which] > digit]
        bits = characters[stops[which] - sizes[which] + 1 + digit].astype(np.int64)
        values[which] |= (bits & 0x1F) << (5 * digit)
    values -= (characters[stops] & MINUS != 0) * (np.int64(1) << (5 * sizes))
    return _chained(values, numbers), numbers


def _chained(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Add to each number the last but one, in every text from its fourth number on."""
    sums = values.copy()
    for parity in (0, 1):
        sums[parity::2] = np.cumsum(values[parity::2])
    _, places = _owners(numbers)
    # Where a chain begins: its own sum counts from there.
    heads = np.arange(len(values)) - np.where(places > 2, (places - 1) // 2 * 2, 0)
    base = heads - 2
    return np.asarray(sums - np.where(base >= 0, sums[np.maximum(base, 0)], 0))
