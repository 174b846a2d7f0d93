"""What both conventions of run-length codes share: how values belong to codes, and how broken codes are named.

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

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from satmask.errors import DataError, SettingError

# A size or a length beyond this is a slip, and would ask for more memory than there is.
MOST_PX = 2**31


def plane(mask: np.ndarray) -> np.ndarray:
    """One mask, `(height, width)`."""
    mask = np.asarray(mask)
    if mask.ndim != 2:
        msg = f"Mask must be (height, width), got shape {mask.shape}. Encode several with Runs.of."
        raise SettingError(msg)
    return mask


def owners(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The code that each number belongs to, and its place in it."""
    belongs = np.repeat(np.arange(len(numbers)), numbers)
    return belongs, np.arange(len(belongs)) - (np.cumsum(numbers) - numbers)[belongs]


def parts(values: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """Cut values where each code's end."""
    bounds = [0, *ends.tolist()]
    return [values[begin:end] for begin, end in pairwise(bounds)]


def refuse(wrong: np.ndarray, numbers: np.ndarray, names: Sequence[str], rule: str, values: np.ndarray) -> None:
    """Name the first code that breaks a rule; each has so many of the values."""
    if wrong.any():
        place = int(np.argmax(wrong))
        raise broken(
            names[int(np.searchsorted(np.cumsum(numbers), place, side="right"))],
            rule,
            " ".join(map(str, np.atleast_1d(values[place]).tolist())),
        )


def broken(name: str, rule: str, value: Any) -> DataError:
    """The error for a code that breaks a rule."""
    return DataError(f"Run-length code must {rule}, got {value!s:.60} in {name}.")
