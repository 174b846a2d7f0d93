"""What keys do, for those who have no pointer or don't want to reach for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from nicegui import helpers, ui

from satmask.viewing.page.session import OPACITIES

if TYPE_CHECKING:
    from nicegui.events import KeyEventArguments

    from satmask.viewing.page.session import Session
    from satmask.viewing.shelf import Layer

STEP = 0.05
ON_BUTTONS = ("Enter", " ")

Actions = dict[str, tuple[str, Callable[[], Any]]]
"""What keys do, in words and in deed."""


def layer_actions(session: Session) -> Actions:
    """Keys that switch layers and move the threshold."""
    actions: Actions = {}
    for number, layer in enumerate(list(reversed(session.layers))[:9], start=1):
        actions[str(number)] = (f"{layer.title} on or off", partial(_toggle, session, layer))
    if session.first("probabilities"):
        actions["["] = ("Threshold down", lambda: _shift(session, -STEP))
        actions["]"] = ("Threshold up", lambda: _shift(session, STEP))
    return actions


def add_keys(actions: Actions) -> ui.dialog:
    """Listen to keys, and build the list of them, which `?` opens.

    Args:
        actions: What each key does.

    Returns:
        The list.
    """
    with ui.dialog() as dialog, ui.card().classes("satmask-keys"):
        ui.label("Keys").classes("satmask-head")
        with ui.element("dl").classes("satmask-facts"):
            for key, (words, _) in [*actions.items(), *ON_MAP.items()]:
                with ui.element("dt"), ui.element("kbd"):
                    ui.label(key)
                with ui.element("dd"):
                    ui.label(words)
        ui.button("Close", on_click=dialog.close).props("flat")

    async def press(event: KeyEventArguments) -> None:
        modifiers = event.modifiers
        if not event.action.keydown or modifiers.ctrl or modifiers.alt or modifiers.meta:
            return
        name = event.key.name
        if name == "?":
            dialog.open()
        elif name in actions:
            result = actions[name][1]()
            if helpers.should_await(result):
                await result

    async def press_on_button(event: KeyEventArguments) -> None:
        if event.key.name not in ON_BUTTONS:
            await press(event)

    # A button that was pressed keeps the focus: keys go on working but for those that press it.
    ui.keyboard(press_on_button, ignore=["input", "select", "textarea"])
    ui.keyboard(lambda event: press(event) if event.key.name in ON_BUTTONS else None)
    return dialog


# What Leaflet's own keys do while the map has the focus.
ON_MAP: Actions = {
    "← ↑ ↓ →": ("Move the map, while it has the focus", lambda: None),
    "+ −": ("Closer, or further away", lambda: None),
    "?": ("This list", lambda: None),
}


def _toggle(session: Session, layer: Layer) -> None:
    if layer.id in session.shown:
        session.hide(layer.id)
    else:
        session.show(layer.id, OPACITIES[layer.kind])


def _shift(session: Session, by: float) -> None:
    before = 0.5 if session.view.threshold is None else session.view.threshold
    session.change(threshold=round(min(max(before + by, 0.0), 1.0), 4))
