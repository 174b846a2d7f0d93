"""The list of windows where labels would help most, made when it is opened, and anew when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui import run, ui

from satmask.errors import SatmaskError
from satmask.viewing.page.finding_list import FindingList
from satmask.viewing.page.parts import icon_button

if TYPE_CHECKING:
    from nicegui.events import ValueChangeEventArguments

    from satmask.viewing.findings import Finding
    from satmask.viewing.page.scene_map import SceneMap
    from satmask.viewing.page.session import Session
    from satmask.viewing.page.shared import Shared

LISTED = 50


class WindowQueue:
    """What to label next.

    Args:
        session: The view.
        shared: What judges the place, and keeps its labels.
        map_: Where windows are shown.
    """

    def __init__(self, session: Session, shared: Shared, map_: SceneMap) -> None:
        self._session, self._shared = session, shared
        self._loaded = False
        with ui.expansion("Where labels would help most", on_value_change=self._opened) as self._fold:
            self._fold.classes("satmask-curves")
            with ui.row().classes("satmask-row"):
                ui.label("Uncertain windows of 256 pixels that look like none with labels yet.").classes(
                    "satmask-note col"
                )
                icon_button("refresh", "List anew", self.load)
                icon_button("chevron_left", "Previous window (P)", lambda: self.step(-1))
                icon_button("chevron_right", "Next window (N)", lambda: self.step(1))
            self._list = FindingList(session, map_)

    @property
    def is_open(self) -> bool:
        """Whether the list is open."""
        return bool(self._fold.value)

    async def _opened(self, event: ValueChangeEventArguments[bool]) -> None:
        if not event.value:
            self.clear()
        elif not self._loaded:
            await self.load()

    async def load(self) -> None:
        """List windows by the labels that there are now."""
        self._loaded = True
        self.clear()
        self._list.show([], "Looking …")
        try:
            self._list.show(await run.io_bound(self._find) or [])
        except SatmaskError as error:
            self._list.show([], str(error))

    def _find(self) -> list[Finding]:
        place = self._session.place
        labels = self._shared.corrections(place).labels.values()
        return self._shared.judge(place).to_label(labels, count=LISTED)

    def step(self, by: int) -> None:
        """Go to the next window, or back."""
        self._list.step(by)

    def clear(self) -> None:
        """Take the outline off the map."""
        self._list.clear()
