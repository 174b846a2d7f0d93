"""Parts that several panels are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui


class Slider(ui.slider):
    """A slider that goes with the finger, whatever the server is doing; what it says comes after."""

    LOOPBACK = False


class Range(ui.range):
    """The same with two ends."""

    LOOPBACK = False


def icon_button(icon: str, label: str, action: Callable[[], Any]) -> ui.button:
    """Build a button with a picture, and a name for those who don't see it."""
    button = ui.button(icon=icon, on_click=action, color=None).props("flat round dense")
    button.props["aria-label"] = label
    return button.tooltip(label)


def uncover_map() -> None:
    """Close the panels where they lie over the map, as they do on a phone."""
    ui.run_javascript("document.querySelector('.q-drawer__backdrop:not(.hidden)')?.click()")
