"""The panel for correcting: labels to be accepted, deleted, reshaped and drawn, saved as one goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from nicegui import run, ui

from satmask.errors import SatmaskError
from satmask.viewing.page.parts import icon_button, uncover_map
from satmask.viewing.page.shapes import Box, box_of, geometry_of, meet, parts_of
from satmask.viewing.page.window_queue import WindowQueue

if TYPE_CHECKING:
    from satmask.viewing.corrections import Corrections
    from satmask.viewing.page.scene_map import SceneMap
    from satmask.viewing.page.session import Session
    from satmask.viewing.page.shared import Shared

# What was said of a label, in colours that colour-blind people tell apart.
LOOKS = {
    "truth": {"color": "#56B4E9", "fillOpacity": 0.1},
    "proposed": {"color": "#F0E442", "fillOpacity": 0.05, "dashArray": "4 4"},
    "accepted": {"color": "#009E73", "fillOpacity": 0.25},
    "reshaped": {"color": "#0072B2", "fillOpacity": 0.25},
    "drawn": {"color": "#CC79A7", "fillOpacity": 0.25},
    "ignored": {"color": "#FFFFFF", "fillOpacity": 0.45, "dashArray": "2 6"},
}
WORDS = {
    "truth": "From the truth", "proposed": "Proposed, nobody looked", "accepted": "Accepted", "reshaped": "Reshaped", "drawn": "Drawn",
    "ignored": "Ignored",
}  # fmt: skip
MOST_SHOWN = 1500


class CorrectPanel:
    """Labels on the map, and what can be done to them.

    Args:
        session: The view.
        shared: What keeps the labels.
        map_: Where they are shown.
    """

    def __init__(self, session: Session, shared: Shared, map_: SceneMap) -> None:
        self.session, self.shared, self.map = session, shared, map_
        self.corrections: Corrections | None = None
        self.chosen: int | None = None
        self.drawing = "label"
        self._features: dict[int, dict[str, Any]] = {}
        self._boxes: dict[int, Box] = {}
        self._shown = 0  # times that labels were shown
        self._shapes: list[Any] = []
        self._outline: Any = None
        self._reshaping = self._drawing = False
        self.map.leaflet.on("draw:drawstop", self._stopped)
        with ui.element("section").props('aria-label="Correct"').classes("satmask-section"):
            ui.label("Labels").classes("satmask-head")
            self.note = ui.label().classes("satmask-note").mark("labels-note").props('aria-live="polite"')
            self._key()
        with ui.element("section").props('aria-label="Chosen label"').classes("satmask-section"):
            self._actions()
        self.windows = WindowQueue(session, shared, map_)

    def _key(self) -> None:
        for status, words in WORDS.items():
            with ui.row().classes("satmask-row satmask-key"):
                swatch = ui.element("span").classes("satmask-swatch").props('aria-hidden="true"')
                swatch.style(f"background: {LOOKS[status]['color']}")
                ui.label(words).classes("satmask-note")

    def _actions(self) -> None:
        self.what = ui.label("Click on a label, or draw one.").classes("satmask-head").mark("chosen")
        legend = self.session.place.legend
        names = {} if legend is None else dict(zip(legend.ids, legend.names, strict=True))
        self.class_id = ui.select(names, value=next(iter(names), None), label="Class").props("dense options-dense")
        self.class_id.classes("satmask-wide")
        with ui.row().classes("satmask-buttons"):
            self.on_chosen = [
                _button("Accept", "check", self.accept),
                _button("Delete", "delete", self.delete),
                _button("Reshape", "edit", self.reshape),
            ]
            self.keep = _button("Keep shape", "done_all", self.keep_shape)
        with ui.row().classes("satmask-buttons"):
            _button("Draw", "draw", lambda: self.draw("label"))
            _button("Ignore area", "block", lambda: self.draw("ignore"))
            _button("Undo", "undo", self.undo)
        with ui.row().classes("satmask-row"):
            ui.label("Next that nobody looked at").classes("satmask-note col")
            icon_button("chevron_left", "Previous proposal", lambda: self.step_proposals(-1))
            icon_button("chevron_right", "Next proposal", lambda: self.step_proposals(1))

    async def load(self) -> None:
        """Read the labels the first time, and show them."""
        if self.corrections is None:
            try:
                self.corrections = await run.io_bound(self.shared.corrections, self.session.place)
            except SatmaskError as error:
                self.note.text = str(error)
                return
        await self.look_again()

    async def look_again(self) -> None:
        """Ask what the labels are now, and show them."""
        if self.corrections is None:
            return
        found = await run.io_bound(self.corrections.features) or {"features": []}
        self._features = {feature["id"]: feature for feature in found["features"]}
        self._boxes = {id_: box_of(feature["geometry"]) for id_, feature in self._features.items()}
        self._tell()
        await self.show()

    async def show(self) -> None:
        """Show the labels that the map has in sight, the largest if they are too many."""
        self._shown += 1
        turn, box = self._shown, await self.map.box()
        if turn != self._shown:  # asked for once more meanwhile
            return
        self.hide()
        seen = [id_ for id_, at in self._boxes.items() if box is None or meet(at, box)]
        seen = sorted(seen, key=lambda id_: -self._extent(id_))[:MOST_SHOWN]
        for status, look in LOOKS.items():
            some = [self._features[id_] for id_ in seen if self._features[id_]["properties"]["status"] == status]
            if some:
                self._shapes.append(self.map.shapes(some, {"weight": 2, "interactive": False} | look))
        self._mark()

    async def moved(self) -> None:
        """Show what has come into sight, unless a shape is being drawn."""
        if self.corrections is not None and not self._reshaping and not self._drawing:
            await self.show()

    def _extent(self, id_: int) -> float:
        (south, west), (north, east) = self._boxes[id_]
        return (north - south) * (east - west)

    def hide(self) -> None:
        """Take the labels off the map."""
        for shape in [*self._shapes, self._outline]:
            if shape is not None:
                self.map.remove(shape)
        self._shapes, self._outline, self._reshaping = [], None, False

    def _tell(self) -> None:
        labels = self.corrections
        if labels is None:
            return
        waiting = sum(one["properties"]["status"] == "proposed" for one in self._features.values())
        kept = f"saved in {labels.path.name}" if labels.path.exists() else "nothing changed yet"
        state = "unsaved" if labels.unsaved else kept
        self.note.text = f"{len(self._features):,} labels, {waiting:,} that nobody looked at; {state}."

    def _mark(self) -> None:
        """Outline the chosen label and say what it is."""
        label = None if self.chosen is None else self._features.get(self.chosen)
        if label is None:
            self.chosen = None
        for button in self.on_chosen:
            button.set_enabled(label is not None)
        self.keep.set_visibility(self._reshaping)
        if label is None or self.chosen is None:
            self.what.text = "Click on a label, or draw one."
            return
        about = label["properties"]
        self.what.text = f"Label {self.chosen}: {WORDS[about['status']].lower()}"
        if about["class_id"] is not None:
            self.class_id.set_value(about["class_id"])
        parts = parts_of(self._features[self.chosen]["geometry"])
        self._outline = self.map.outline(parts[:1] if self._reshaping else parts, editable=self._reshaping)

    async def choose(self, lng: float, lat: float) -> None:
        """Choose the smallest label over a point."""
        if self.corrections is None or self._reshaping or self._drawing:
            return
        place = self.session.place
        column, row = place.view.to_pixels(np.array([[lng, lat]]))[0]
        point = shapely.Point(place.grid.transform @ (column, row))
        over = [(label.shape.area, id_) for id_, label in self.corrections.labels.items() if label.shape.covers(point)]
        self.chosen = min(over)[1] if over else None
        await self.show()

    def leave(self) -> None:
        """Take everything off the map."""
        self.hide()
        self.windows.clear()

    async def step(self, by: int) -> None:
        """Go to the next label that nobody looked at, or back; to windows where labels would help while these are listed."""
        if self.windows.is_open:
            self.windows.step(by)
        else:
            await self.step_proposals(by)

    async def step_proposals(self, by: int) -> None:
        """Go to the next label that nobody looked at, or back."""
        if self.corrections is None:
            return
        waiting = [id_ for id_, one in self._features.items() if one["properties"]["status"] == "proposed"]
        if not waiting:
            ui.notify("Every label was looked at.")
            return
        later = [id_ for id_ in waiting if self.chosen is not None and (id_ - self.chosen) * by > 0]
        self.chosen = (later or waiting)[0 if by > 0 else -1]
        self.map.fit(self._boxes[self.chosen], closest=self.session.place.view.native_zoom + 1)
        await self.show()

    async def accept(self) -> None:
        """Say that the chosen label is right, with the class that is set."""
        id_, class_id = self.chosen, self.class_id.value
        if id_ is not None:
            await self._do(lambda labels: labels.accept(id_, class_id=class_id))

    async def delete(self) -> None:
        """Say that there is nothing like the chosen label."""
        id_ = self.chosen
        if id_ is not None:
            await self._do(lambda labels: labels.delete(id_))

    async def undo(self) -> None:
        """Take back the last change."""
        if await self._do(lambda labels: labels.undo()) is False:
            ui.notify("There is nothing to undo.")

    async def reshape(self) -> None:
        """Let the chosen label's corners be moved."""
        if self.chosen is not None:
            await self.show()
            self._reshaping = True
            if self._outline is not None:
                self.map.remove(self._outline)
            self._mark()

    async def keep_shape(self) -> None:
        """Take the shape that the corners have now."""
        id_ = self.chosen
        if id_ is None or self._outline is None:
            return
        others = parts_of(self._features[id_]["geometry"])[1:]
        geometry = geometry_of([await self.map.corners(self._outline), *others])
        self._reshaping = False
        await self._do(lambda labels: labels.reshape(id_, geometry))

    def draw(self, what: str) -> None:
        """Begin to draw a label, or an area where nothing is known."""
        self.drawing, self._drawing = what, True
        uncover_map()
        self.map.draw("Polygon")

    def _stopped(self) -> None:
        self._drawing = False
        self.map.stop_aiming()

    async def finish(self) -> None:
        """Close what is drawn, or keep the shape that is being changed."""
        if self._drawing:
            self.map.finish_drawing()
        elif self._reshaping:
            await self.keep_shape()

    async def drawn(self, corners: list[tuple[float, float]]) -> None:
        """Keep what was drawn."""
        polygon, class_id = geometry_of([[corners]]), self.class_id.value

        def add(labels: Corrections) -> int:
            return labels.ignore(polygon) if self.drawing == "ignore" else labels.draw(polygon, class_id)

        await self._do(add, choose=True)

    async def _do(self, action: Callable[[Corrections], Any], *, choose: bool = False) -> Any:
        """Change the labels, which saves them, and show them anew; gives what the change gives."""
        labels = self.corrections
        if labels is None:
            return None
        try:
            result = await run.io_bound(action, labels)
        except SatmaskError as error:
            ui.notify(str(error), type="warning")
            return None
        if choose:
            self.chosen = result
        await self.look_again()
        return result


def _button(text: str, icon: str, action: Callable[[], Any]) -> ui.button:
    return ui.button(text, icon=icon, on_click=action).props("outline dense no-caps size=sm")
