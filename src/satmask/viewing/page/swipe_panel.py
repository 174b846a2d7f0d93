"""The swipe: one layer on the right of a handle only, to compare it with what lies beneath."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui import ui

from satmask.viewing.page.parts import Slider

if TYPE_CHECKING:
    from nicegui.events import GenericEventArguments

    from satmask.viewing.page.scene_map import SceneMap
    from satmask.viewing.page.session import Session

PAUSE_S = 0.03
MIDDLE = 50


class Swipe:
    """The handle over the map, and the layer that it cuts.

    Args:
        session: The view; it says which layer.
        map_: Where it is shown.
    """

    def __init__(self, session: Session, map_: SceneMap) -> None:
        self.session = session
        self.map = map_
        self.share = MIDDLE
        with ui.element("div").classes("satmask-swipe").mark("swipe") as self.box:
            self.line = ui.element("div").classes("satmask-swipe-line").props('aria-hidden="true"')
            self.slider = Slider(min=0, max=100, step=1, value=MIDDLE).mark("swipe-slider")
            self.slider.props["aria-label"] = "Swipe: where the upper layer begins, in per cent of the map's width"
            self.slider.on("update:model-value", self._moved, throttle=PAUSE_S)
        session.listen(self.sync)
        self.sync()

    def sync(self) -> None:
        """Cut the layer that the view says, if it is shown."""
        id_ = self.session.view.swipe
        swiping = id_ is not None and id_ in self.session.shown
        self.box.set_visibility(swiping)
        if swiping and id_ is not None:
            self.line.style(f"left: {self.share}%")
            self.map.swipe(id_, self.share / 100)
        else:
            self.map.stop_swipe()

    def _moved(self, event: GenericEventArguments) -> None:
        self.share = int(event.args)
        self.sync()


def swipe_choice(session: Session) -> None:
    """Build the choice of the layer that is swiped; does nothing where there is nothing to compare."""
    if len(session.layers) < 2:
        return
    names = {"": "Nothing"} | {layer.id: layer.title for layer in reversed(session.layers)}

    def choose(id_: str | None) -> None:
        if id_:
            session.show(id_, session.shown.get(id_, 100))
        session.change(swipe=id_ or None)

    with ui.element("section").props('aria-label="Swipe"').classes("satmask-section"):
        ui.label("Swipe").classes("satmask-head")
        box = ui.select(names, value=session.view.swipe or "", label="Right of the handle only").mark("swipe-choice")
        box.props("dense options-dense").on_value_change(lambda event: choose(event.value))
        session.listen(lambda: box.set_value(session.view.swipe or ""))
