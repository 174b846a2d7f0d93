"""The panel of places: which scene is shown, and which is next."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nicegui import ui

from satmask.viewing.page.parts import icon_button

if TYPE_CHECKING:
    from satmask.viewing.page.session import Session


def place_panel(session: Session) -> None:
    """Build the choice of a place; does nothing where there is only one."""
    places = session.shelf.places
    if len(places) < 2:
        return
    with ui.element("section").props('aria-label="Place"').classes("satmask-section"), ui.row().classes("satmask-row"):
        names = {place.id: place.name for place in places}
        box = ui.select(names, value=session.place.id, label=f"{len(places):,} places", with_input=len(places) > 12)
        box.props("dense options-dense").classes("col").on_value_change(lambda event: go_to(session, event.value))
        icon_button("chevron_left", "Previous place", lambda: step(session, -1))
        icon_button("chevron_right", "Next place", lambda: step(session, 1))


def step(session: Session, by: int) -> None:
    """Go on to the next place, or back, round and round."""
    ids = [place.id for place in session.shelf.places]
    go_to(session, ids[(ids.index(session.place.id) + by) % len(ids)])


def go_to(session: Session, id_: str | None, *, anew: bool = False) -> None:
    """Open another place with the same colours and threshold; the same one only if its files are others now."""
    if id_ and (anew or id_ != session.place.id):
        view = replace(session.view, place=id_, at=None, layers=None, swipe=None)
        ui.navigate.to(f"/?{view.query}")
