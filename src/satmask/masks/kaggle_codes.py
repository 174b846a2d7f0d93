"""Kaggle's run-length codes: `start length` pairs as text, along the rows, the first pixel being 1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from satmask.masks.code_parts import broken, owners, parts, plane, refuse
from satmask.masks.runs import Order, Runs


def encode_kaggle(mask: np.ndarray, *, order: Order = "row") -> str:
    """Write a mask as `start length` pairs, as Kaggle's files have them; the first pixel is 1.

    Args:
        mask: Anything but 0 is inside, `(height, width)`.
        order: Count pixels along the rows, or down the columns as some competitions do.

    Returns:
        The pairs, sorted; empty where the mask is.

    Examples:
        >>> encode_kaggle(np.array([[0, 1, 1], [0, 0, 1]])), encode_kaggle(np.zeros((2, 3)))
        ('2 2 6 1', '')
    """
    return write_kaggle(Runs.of(plane(mask), order=order))[0]


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

    Examples:
        >>> decode_kaggle("2 2 6 1", (2, 3)).tolist()
        [[0, 1, 1], [0, 0, 1]]
    """
    return np.asarray(read_kaggle([code], shape, order=order).masks()[..., 0])


def write_kaggle(runs: Runs) -> list[str]:
    """Write the runs of several masks as `start length` pairs.

    Returns:
        A code for each mask, empty where the mask is.
    """
    pairs = np.stack([runs.starts + 1, runs.lengths], axis=-1).ravel()
    # A list's own text is the fastest way from many numbers to characters.
    return [str(part.tolist())[1:-1].replace(",", "") for part in parts(pairs, 2 * np.cumsum(runs.numbers))]


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
    pieces = [_numbers(code, name) for code, name in zip(codes, names, strict=True)]
    pairs = np.concatenate([*pieces, np.zeros(0, np.int64)]).reshape(-1, 2)
    starts, lengths = pairs[:, 0] - 1, pairs[:, 1]
    numbers = np.array([len(part) // 2 for part in pieces], np.int64)
    _, places = owners(numbers)
    size = shape[0] * shape[1]
    refuse(starts < 0, numbers, names, "count pixels from 1", pairs[:, 0])
    refuse(lengths < 1, numbers, names, "have runs of 1 pixel or more", lengths)
    over = (starts >= size) | (lengths > size - np.minimum(starts, size))
    refuse(over, numbers, names, f"end within its {shape[0]} × {shape[1]} = {size} pixels", pairs)
    early = np.zeros(len(pairs), bool)
    early[1:] = (starts[1:] < (starts + lengths)[:-1]) & (places[1:] > 0)
    refuse(early, numbers, names, "have its runs sorted and none on top of another", pairs)
    return Runs(starts, lengths, numbers, (int(shape[0]), int(shape[1])), order)


def _numbers(code: Any, name: str) -> np.ndarray:
    """The whole numbers of one `start length` code."""
    if not isinstance(code, str):
        raise broken(name, "be text", repr(code))
    if wrong := re.search(r"[^0-9\s]\S*", code, re.ASCII):
        minus = re.match(r"-[0-9]", wrong[0])
        raise broken(name, "have no negative numbers" if minus else "be whole numbers with spaces between", wrong[0])
    numbers = np.fromstring(code, np.int64, sep=" ") if code and not code.isspace() else np.zeros(0, np.int64)
    if len(numbers) % 2:
        raise broken(name, "be pairs of start and length", f"{len(numbers)} numbers")
    return numbers
