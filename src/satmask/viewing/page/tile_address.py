"""Addresses of map tiles: which layer, and how it is drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode

from satmask.errors import SettingError
from satmask.viewing.styles import TileStyle

NUMBER = re.compile(r"[0-9]{1,5}(?:\.[0-9]{1,9})?")
MOST = 256  # numbers in a list
KNOWN = {"bands", "percent", "hidden", "class", "threshold", "grey"}


def tile_address(layer: str, style: TileStyle) -> str:
    """Where a map finds a layer's tiles; it fills in what stands in braces.

    Examples:
        >>> tile_address("b2", TileStyle(class_id=1, threshold=0.4))
        '/tiles/b2/{z}/{x}/{y}.png?class=1&threshold=0.4'
    """
    parts = {
        "bands": _joined(style.bands),
        "percent": _joined(style.percent),
        "hidden": _joined(style.hidden),
        "class": None if style.class_id is None else str(style.class_id),
        "threshold": None if style.threshold is None else f"{style.threshold:g}",
        "grey": "1" if style.grey else None,
    }
    query = urlencode({name: text for name, text in parts.items() if text}, safe=",")
    return f"/tiles/{layer}/{{z}}/{{x}}/{{y}}.png" + (f"?{query}" if query else "")


def read_style(query: Mapping[str, str]) -> TileStyle:
    """Read how a tile is to be drawn from the parts of its address.

    Raises:
        SettingError: If a part is unknown, or isn't some numbers.
    """
    if unknown := sorted(set(query) - KNOWN):
        msg = f"Tile style must be made of {', '.join(sorted(KNOWN))}, got {unknown[0]!r}."
        raise SettingError(msg)
    numbers = {name: _numbers(text) for name, text in query.items()}
    class_id, threshold = numbers.get("class"), numbers.get("threshold")
    return TileStyle(
        bands=_whole(numbers.get("bands")),  # type: ignore[arg-type]  # its own rules say three
        percent=numbers.get("percent"),  # type: ignore[arg-type]  # its own rules say two
        hidden=_whole(numbers.get("hidden")) or (),
        class_id=None if class_id is None else int(class_id[0]),
        threshold=None if threshold is None else threshold[0],
        grey="grey" in query,
    )


def _joined(values: tuple[float, ...] | None) -> str | None:
    return None if values is None else ",".join(f"{value:g}" for value in values)


def _whole(values: tuple[float, ...] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(int(value) for value in values)


def _numbers(text: str) -> tuple[float, ...]:
    parts = text.split(",")
    if len(parts) > MOST or not all(NUMBER.fullmatch(part) for part in parts):
        msg = f"Tile style must be given in numbers separated by commas, got {text[:40]!r}."
        raise SettingError(msg)
    return tuple(float(part) for part in parts)
