"""COCO's run-length codes: lengths of runs of 0 and 1 in turn, down the columns, as a list or as text.

References:
    Lin et al., `maskApi.c` of the COCO API, https://github.com/cocodataset/cocoapi
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from satmask.errors import DataError, SettingError
from satmask.masks.code_parts import MOST_PX, broken, owners, parts, plane, refuse
from satmask.masks.runs import Runs, down_columns

FIRST, CONTINUES, MINUS = 48, 0x20, 0x10  # of COCO's characters: the one for 0, and what their bits say
GROUPS = 8  # characters in which a number up to MOST_PX, or less than minus that, fits


def encode_coco(mask: np.ndarray, *, compressed: bool = True) -> dict[str, Any]:
    """Write a mask as a COCO run-length code: lengths of runs of 0 and 1 in turn, down the columns.

    Args:
        mask: Anything but 0 is inside, `(height, width)`.
        compressed: Write the lengths as COCO's text rather than as a list.

    Returns:
        `size` as `[height, width]`, and `counts` as str or list; fit for JSON.

    Examples:
        >>> encode_coco(np.array([[0, 1], [0, 1]]), compressed=False)
        {'size': [2, 2], 'counts': [2, 2]}
    """
    mask = plane(mask)
    if not compressed or not mask.size:
        return write_coco(Runs.of(mask, order="column"), compressed=compressed)[0]
    import hotcoco.mask

    counts = hotcoco.mask.encode(down_columns(mask))["counts"]
    return {"size": [int(side) for side in mask.shape], "counts": counts.decode("ascii")}


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

    Examples:
        >>> decode_coco({"size": [2, 2], "counts": [2, 2]}).tolist()
        [[0, 1], [0, 1]]
    """
    entry = code if isinstance(code, Mapping) else {"size": shape, "counts": code}
    counts, _, size = _read([entry], ["code 0"])
    if shape is not None and size != tuple(shape):
        msg = f"Run-length code must have the size {tuple(shape)}, got {size}."
        raise DataError(msg)
    flat = np.repeat(np.arange(len(counts)).astype(np.uint8) & 1, counts)
    return np.asarray(flat.reshape(size[1], size[0]).T)


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
        return [{"size": size, "counts": part.tolist()} for part in parts(counts, ends)]
    text, ends = _pack(counts, ends)
    return [{"size": size, "counts": part.tobytes().decode("ascii")} for part in parts(text, ends)]


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
    counts, numbers, shape = _read(codes, names)
    belongs, places = owners(numbers)
    ends = np.cumsum(counts)
    inside = (places % 2 == 1) & (counts > 0)
    # Codes follow each other without a gap, so a code begins where those before it end.
    starts = (ends - counts)[inside] - belongs[inside] * (shape[0] * shape[1])
    return Runs(starts, counts[inside], np.bincount(belongs[inside], minlength=len(codes)), shape, "column")


def _read(codes: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Counts of all codes, one after the other, how many each has, and the size that they fill."""
    shape = _size(codes, names)
    if codes and all(isinstance(code.get("counts"), str | bytes) for code in codes):
        counts, numbers = _unpack([code["counts"] for code in codes], names)
    else:
        listed = [_listed(code.get("counts"), name) for code, name in zip(codes, names, strict=True)]
        counts, numbers = np.concatenate([*listed, np.zeros(0, np.int64)]), np.array([*map(len, listed)], np.int64)
    refuse(counts < 0, numbers, names, "have lengths of 0 or more", counts)
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])[np.cumsum(numbers)]
    filled, size = np.diff(sums, prepend=0), shape[0] * shape[1]
    refuse(filled != size, np.ones(len(codes), int), names, f"fill its {shape[0]} × {shape[1]} = {size} pixels", filled)
    return counts, numbers, shape


def _size(codes: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[int, int]:
    """The size that all codes share."""
    shape = None
    for code, name in zip(codes, names, strict=True):
        size = code.get("size")
        sides = [int(side) for side in size or ()] if _is_size(size) else []
        if not sides or sides[0] * sides[1] >= MOST_PX:
            raise broken(name, f"have a size [height, width] of fewer than {MOST_PX} pixels", repr(size))
        if shape not in (None, tuple(sides)):
            raise broken(name, f"have the size of the first, {list(shape or ())}", sides)
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
        raise broken(name, "have whole numbers or COCO's text as counts", repr(counts))
    return values.astype(np.int64)


def _counts(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of runs of 0 and 1 in turn, and where each mask's end in them."""
    size = runs.shape[0] * runs.shape[1]
    belongs, places = owners(runs.numbers)
    stops = runs.starts + runs.lengths
    gaps = runs.starts - np.where(places > 0, np.concatenate([np.zeros(1, np.int64), stops[:-1]])[: len(stops)], 0)
    covered = np.zeros(len(runs), np.int64)
    filled = runs.numbers > 0
    covered[filled] = stops[np.cumsum(runs.numbers)[filled] - 1]
    trails = (covered < size) | ~filled
    numbers = 2 * runs.numbers + trails
    ends = np.cumsum(numbers)
    counts = np.zeros(numbers.sum(), np.int64)
    at = (ends - numbers)[belongs] + 2 * places
    counts[at], counts[at + 1] = gaps, runs.lengths
    counts[ends[trails] - 1] = (size - covered)[trails]
    return counts, ends


def _pack(counts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts as COCO's characters, uint8, and where each mask's end in them."""
    numbers = np.diff(ends, prepend=0)
    _, places = owners(numbers)
    values = counts.copy()
    later = np.flatnonzero(places > 2)
    values[later] -= counts[later - 2]
    sizes = np.ones(len(values), np.int64)
    magnitudes = np.where(values < 0, ~values, values)
    largest = int(magnitudes.max(initial=0))
    while largest >= (limit := 1 << (5 * int(sizes.max(initial=1)) - 1)):
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
    refuse(characters >= 2 * CONTINUES, lengths, names, "have characters from 0 to o", characters + np.uint8(FIRST))
    ends = np.cumsum(lengths)
    last = characters < CONTINUES
    closed = np.ones(len(raw), bool)
    closed[lengths > 0] = last[ends[lengths > 0] - 1]
    refuse(~closed, np.ones(len(raw), int), names, "be whole", np.full(len(raw), "a text that breaks off"))
    stops = np.flatnonzero(last)
    sizes = np.diff(stops, prepend=-1)
    numbers = np.diff(np.searchsorted(stops, ends), prepend=0)
    refuse(sizes > GROUPS, numbers, names, f"have numbers below {MOST_PX}", sizes)
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
    _, places = owners(numbers)
    # Where a chain begins: its own sum counts from there.
    heads = np.arange(len(values)) - np.where(places > 2, (places - 1) // 2 * 2, 0)
    base = heads - 2
    return np.asarray(sums - np.where(base >= 0, sums[np.maximum(base, 0)], 0))
