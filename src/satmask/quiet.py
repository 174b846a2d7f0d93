"""Keep the warnings of libraries from users who can do nothing about them."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def quiet(*categories: type[Warning]) -> Iterator[None]:
    """Silence the named warnings inside a `with` block."""
    with warnings.catch_warnings():
        for category in categories:
            warnings.simplefilter("ignore", category)
        yield
