"""The panel that tells everything about what was clicked on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

DEEPEST = 4
DIGITS = {"column": 0, "row": 0, "x": 2, "y": 2, "longitude": 6, "latitude": 6}
MOST = 200  # lines


def show_facts(facts: Mapping[str, Any]) -> None:
    """Write facts as a list of names and values, in the element that is being filled.

    Whatever files say ends up as text here, never as markup.
    """
    with ui.element("dl").classes("satmask-facts"):
        for name, value in list(flat(facts))[:MOST]:
            with ui.element("dt"):
                ui.label(name)
            with ui.element("dd"):
                ui.label(value)


def flat(facts: Mapping[str, Any], *, before: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """List nested facts as names and values.

    Examples:
        >>> flat({"class": {"id": 3, "name": "road"}, "area_m2": 12.3456})
        [('class id', '3'), ('class name', 'road'), ('area m2', '12.35')]
    """
    found: list[tuple[str, str]] = []
    for key, value in facts.items():
        name = f"{before} {key}".strip().replace("_", " ")
        parts = _parts(value)
        if parts is None or depth >= DEEPEST:
            found.append((name, _said_of(str(key), value)))
        else:
            found += flat(parts, before=name, depth=depth + 1)
    return found


def _parts(value: object) -> Mapping[str, Any] | None:
    """What a value is made of; None where it is said in one line."""
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        return {str(number): part for number, part in enumerate(value, start=1)} if len(value) > 1 else {"": value[0]}
    return None


def _said_of(key: str, value: object) -> str:
    """Say a value as suits its name: numbers of pixels are whole, places have digits that tell them apart."""
    digits = DIGITS.get(key)
    if digits is None or not isinstance(value, float):
        return said(value)
    return f"{math.floor(value)}" if digits == 0 else f"{value:.{digits}f}"


def said(value: object) -> str:
    """Say a value in a few words.

    Examples:
        >>> said(0.123456), said([1, 2.5]), said(None), said([])
        ('0.1235', '1, 2.5', '–', 'none')
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.1f}"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return ", ".join(said(part) for part in value[:64]) or "none"
    return str(value)[:500]
