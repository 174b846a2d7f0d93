"""The panel for correcting: labels to be accepted, deleted, reshaped and drawn, saved as one goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from nicegui import run, ui

from satmask.errors import SatmaskError
from satmask.viewing.page.parts import icon_button, uncover_map

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
            icon_button("chevron_left", "Previous proposal", lambda: self.step(-1))
            icon_button("chevron_right", "Next proposal", lambda: self.step(1))

    async def load(self) -> None:
        """Read the labels the first time, and show them."""
        if self.corrections is None:
            try:
                self.corrections = await run.io_bound(self.shared.corrections, self.session.place)
            except SatmaskError as error:
                self.note.text = str(error)
                return
        await self.show()

    async def show(self) -> None:
        """Show the labels that the map has in sight."""
        if self.corrections is None:
            return
        self.hide()
        box = await self.map.box()
        found = await run.io_bound(self.corrections.features) or {"features": []}
        seen = [one for one in found["features"] if box is None or _meets(one, box)][:MOST_SHOWN]
        for status, look in LOOKS.items():
            some = [_bare(one) for one in seen if one["properties"]["status"] == status]
            if some:
                self._shapes.append(self.map.shapes(some, {"weight": 2, "interactive": False} | look))
        self._mark()
        self._tell(found["features"], len(seen))

    def hide(self) -> None:
        """Take everything off the map."""
        for shape in [*self._shapes, self._outline]:
            if shape is not None:
                self.map.remove(shape)
        self._shapes, self._outline, self._reshaping = [], None, False

    def _tell(self, every: list[dict[str, Any]], shown: int) -> None:
        labels = self.corrections
        if labels is None:
            return
        waiting = sum(one["properties"]["status"] == "proposed" for one in every)
        state = (
            "unsaved"
            if labels.unsaved
            else f"saved in {labels.path.name}"
            if labels.path.exists()
            else "nothing changed yet"
        )
        more = f", {shown:,} shown" if shown == MOST_SHOWN else ""
        self.note.text = f"{len(every):,} labels{more}, {waiting:,} that nobody looked at; {state}."

    def _mark(self) -> None:
        """Outline the chosen label and say what it is."""
        label = None if self.corrections is None or self.chosen is None else self.corrections.labels.get(self.chosen)
        if label is None:
            self.chosen = None
        for button in self.on_chosen:
            button.set_enabled(label is not None)
        self.keep.set_visibility(self._reshaping)
        if label is None or self.chosen is None:
            self.what.text = "Click on a label, or draw one."
            return
        self.what.text = f"Label {self.chosen}: {WORDS[label.status].lower()}"
        if label.class_id is not None:
            self.class_id.set_value(label.class_id)
        self._outline = self.map.outline(self._rings(self.chosen), editable=self._reshaping)

    def _rings(self, id_: int) -> list[list[tuple[float, float]]]:
        feature = self._feature(id_)
        shape = shapely.geometry.shape(feature["geometry"])
        largest = max(getattr(shape, "geoms", [shape]), key=lambda part: part.area)
        return [[(x, y) for x, y in list(ring.coords)[:-1]] for ring in (largest.exterior, *largest.interiors)]

    def _feature(self, id_: int) -> dict[str, Any]:
        found = self.corrections.features()["features"] if self.corrections else []
        feature: dict[str, Any] = next(one for one in found if one["id"] == id_)
        return feature

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

    async def step(self, by: int) -> None:
        """Go to the next label that nobody looked at, or back."""
        if self.corrections is None:
            return
        waiting = [id_ for id_, label in self.corrections.labels.items() if label.status == "proposed"]
        if not waiting:
            ui.notify("Every label was looked at.")
            return
        later = [id_ for id_ in waiting if self.chosen is not None and (id_ - self.chosen) * by > 0]
        self.chosen = (later or waiting)[0 if by > 0 else -1]
        shape = shapely.geometry.shape(self._feature(self.chosen)["geometry"])
        west, south, east, north = shape.bounds
        self.map.fit(((south, west), (north, east)), closest=self.session.place.view.native_zoom + 1)
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
        rings = await self.map.corners(self._outline)
        await self._do(lambda labels: labels.reshape(id_, _polygon(rings)))

    def draw(self, what: str) -> None:
        """Begin to draw a label, or an area where nothing is known."""
        self.drawing, self._drawing = what, True
        uncover_map()
        self.map.draw("Polygon")

    def _stopped(self) -> None:
        self._drawing = False

    async def drawn(self, corners: list[tuple[float, float]]) -> None:
        """Keep what was drawn."""
        polygon, class_id = _polygon([corners]), self.class_id.value

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
        await self.show()
        return result


def _button(text: str, icon: str, action: Callable[[], Any]) -> ui.button:
    return ui.button(text, icon=icon, on_click=action).props("outline dense no-caps size=sm")


def _polygon(rings: list[list[tuple[float, float]]]) -> dict[str, Any]:
    """GeoJSON of rings of `(lng, lat)`, which it wants closed."""
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in rings]}


def _bare(feature: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": feature["geometry"], "properties": {}}


def _meets(feature: dict[str, Any], box: tuple[tuple[float, float], tuple[float, float]]) -> bool:
    (south, west), (north, east) = box
    left, low, right, high = shapely.geometry.shape(feature["geometry"]).bounds
    return bool(left <= east and right >= west and low <= north and high >= south)
