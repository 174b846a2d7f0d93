"""The page: a map in the middle, panels at its sides, and a line of coordinates below."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nicegui import run, ui
from starlette.requests import Request

from satmask.errors import SatmaskError
from satmask.viewing.page.coordinates import said_coordinates
from satmask.viewing.page.correct_panel import CorrectPanel
from satmask.viewing.page.info_panel import show_facts
from satmask.viewing.page.judge_panel import JudgePanel
from satmask.viewing.page.keys import Actions, add_keys, layer_actions
from satmask.viewing.page.layer_panel import layer_panel, problem_notes
from satmask.viewing.page.parts import icon_button
from satmask.viewing.page.place_panel import place_panel, step
from satmask.viewing.page.run_panel import RunPanel
from satmask.viewing.page.scene_map import SceneMap
from satmask.viewing.page.session import Session
from satmask.viewing.page.shared import Shared
from satmask.viewing.page.state import View
from satmask.viewing.page.swipe_panel import Swipe, swipe_choice
from satmask.viewing.page.threshold_panel import threshold_panel
from satmask.viewing.page.tile_address import tile_address
from satmask.viewing.pointing import describe

if TYPE_CHECKING:
    from nicegui.events import ValueChangeEventArguments

    from satmask.viewing.shelf import Shelf

LAYERS, JUDGE, CORRECT, RUN = "Layers", "Judge", "Correct", "Run"
LINKED = 100
WIDE_PX = 700  # from which the panels stand beside the map


def add_page(shared: Shared) -> None:
    """Serve the page of what is shown at `/`."""

    @ui.page("/", title=f"{shared.shown.shelf.name} · satmask")
    def page(request: Request) -> None:
        shelf, view = shared.shown.shelf, View.read(request.query_params)
        view = replace(view, place=shared.shown.now(view.place))
        ui.add_head_html('<link rel="stylesheet" href="/assets/page.css">')
        ui.colors(primary="#0072B2")
        try:
            session = Session(shelf, view)
        except SatmaskError as error:
            build_problem(shelf, str(error))
        else:
            Page(session, shared)


def build_problem(shelf: Shelf, problem: str) -> None:
    """Build a page that says why a place can't be shown, and leads to others."""
    ui.dark_mode(value=None)
    with ui.element("main").classes("satmask-problem"):
        ui.label(problem)
        for place in shelf.places[:LINKED]:
            ui.link(place.name, f"/?place={place.id}")


class Page:
    """One tab: its parts, and how they hear of each other."""

    def __init__(self, session: Session, shared: Shared) -> None:
        self.session, self.shared = session, shared
        self.judging: JudgePanel | None = None
        self.correcting: CorrectPanel | None = None
        self.running: RunPanel | None = None
        self.dark = ui.dark_mode(value=None)
        self.screen = ui.fullscreen()
        self.side = ui.left_drawer(value=None, bordered=True).props(f"width=320 breakpoint={WIDE_PX}")
        self.facts_side = ui.right_drawer(value=False, bordered=True).props(f"width=320 breakpoint={WIDE_PX} overlay")
        for drawer, label in ((self.side, "Panels"), (self.facts_side, "What lies here")):
            drawer.classes("satmask-side").props(f'aria-label="{label}"')
        with self.facts_side:
            self._facts_head()
            self.facts = ui.column().classes("satmask-section").mark("facts").props('aria-live="polite"')
        self._header()
        with ui.element("main").classes("satmask-main") as main:
            self.map = self._map()
            self.swipe = Swipe(session, self.map)
        with self.side:
            self._panels()
        ui.skip_link("To the map", target=main)
        self._footer()
        self.keys = add_keys(self._actions())
        session.listen(self.sync)
        self.map.leaflet.on("init", lambda: self._open(self.tabs.value))

    def _map(self) -> SceneMap:
        return SceneMap(
            self.session.place.view,
            at=self.session.view.at,
            on_click=self._clicked,
            on_move=self._moved,
            on_point=self._pointed,
            on_ready=self.sync,
            on_draw=self._drawn if CORRECT in self._names else None,
        )

    def _header(self) -> None:
        with ui.header().classes("satmask-header"):
            icon_button("menu", "Panels", self.side.toggle)
            ui.label(self.session.place.name).classes("satmask-title").mark("title")
            ui.space()
            icon_button("info", "Tell about the middle of the map", self.tell_middle)
            icon_button("contrast", "Light or dark", self._turn_light)
            icon_button("keyboard", "Keys", self._show_keys)
            icon_button("fullscreen", "Full screen", self.screen.toggle)

    @property
    def _names(self) -> list[str]:
        """The panels that there are: to judge and correct there must be classes, to write somebody must allow it."""
        judged, shared = self.session.place.legend is not None, self.shared
        there = {
            LAYERS: True,
            JUDGE: judged,
            CORRECT: judged and not shared.read_only,
            RUN: shared.runner is not None or shared.uploads is not None,
        }
        return [name for name, is_there in there.items() if is_there]

    def _panels(self) -> None:
        """Tabs of what can be seen, judged, corrected and run."""
        place_panel(self.session)
        names, wanted = self._names, (self.session.view.panel or "").capitalize()
        with ui.tabs().props("dense no-caps align=justify").classes("satmask-tabs") as self.tabs:
            for name in names:
                ui.tab(name)
        first = wanted if wanted in names else LAYERS
        with (
            ui.tab_panels(self.tabs, value=first, on_change=self._turned).props("keep-alive").classes("satmask-panels")
        ):
            with ui.tab_panel(LAYERS):
                layer_panel(self.session)
                threshold_panel(self.session, self.shared.judge(self.session.place))
                swipe_choice(self.session)
                problem_notes(self.session)
            if JUDGE in names:
                with ui.tab_panel(JUDGE):
                    self.judging = JudgePanel(self.session, self.shared, self.map)
            if CORRECT in names:
                with ui.tab_panel(CORRECT):
                    self.correcting = CorrectPanel(self.session, self.shared, self.map)
            if RUN in names:
                with ui.tab_panel(RUN):
                    self.running = RunPanel(self.session, self.shared, is_open=lambda: self.tabs.value == RUN)

    async def _turned(self, event: ValueChangeEventArguments[Any]) -> None:
        """Load what a panel needs when it is opened, and clear the map of the last one's shapes."""
        self.session.view = replace(self.session.view, panel=None if event.value == LAYERS else event.value.lower())
        self._keep_address()
        await self._open(event.value)

    async def _open(self, name: str) -> None:
        if self.judging is not None:
            self.judging.clear()
        if self.correcting is not None:
            self.correcting.leave()
        if name == JUDGE and self.judging is not None:
            await self.judging.load()
        elif name == CORRECT and self.correcting is not None:
            await self.correcting.load()

    async def _clicked(self, lng: float, lat: float) -> None:
        if self._corrected is not None:
            await self._corrected.choose(lng, lat)
        else:
            await self.tell(lng, lat)

    @property
    def _corrected(self) -> CorrectPanel | None:
        """The panel for correcting while it is open."""
        return self.correcting if self.tabs.value == CORRECT else None

    async def _drawn(self, corners: list[tuple[float, float]]) -> None:
        if self.correcting is not None:
            await self.correcting.drawn(corners)

    def _facts_head(self) -> None:
        with ui.element("div").classes("satmask-section"), ui.row().classes("satmask-row"):
            ui.label("What lies here").classes("satmask-head col")
            icon_button("close", "Close", self.facts_side.hide)

    def _footer(self) -> None:
        with ui.footer().classes("satmask-footer"):
            self.coordinates = ui.label().mark("coordinates").props('aria-label="Coordinates"')

    def sync(self) -> None:
        """Let the map and the address show what the view says."""
        if not self.map.ready:
            return
        shown = self.session.shown
        for id_ in set(self.map.tiles) - set(shown):
            self.map.hide(id_)
        for order, layer in enumerate(self.session.layers, start=1):
            if layer.id in shown:
                address = tile_address(layer.id, self.session.style(layer))
                self.map.show(layer.id, address, opacity=shown[layer.id] / 100, order=order)
        self._keep_address()

    def _keep_address(self) -> None:
        address = json.dumps(f"/?{self.session.view.query}")
        ui.run_javascript(f"history.replaceState(history.state, '', {address})")

    async def _moved(self, lat: float, lng: float, zoom: float) -> None:
        self.session.view = self.session.view.moved((lat, lng, zoom))
        self._keep_address()
        self._pointed(lng, lat)
        if self._corrected is not None:
            await self._corrected.moved()

    def _pointed(self, lng: float, lat: float) -> None:
        self.coordinates.text = said_coordinates(self.session.place, lng, lat)

    async def tell(self, lng: float, lat: float) -> None:
        """Open the panel that tells everything about a point."""
        try:
            facts = await run.io_bound(describe, self.session.place, lng, lat) or {}
        except SatmaskError as error:
            facts = {"here": str(error)}
        self.facts.clear()
        with self.facts:
            show_facts(facts)
        self.facts_side.show()

    async def tell_middle(self) -> None:
        """Tell about the middle of the map, for whoever has no pointer."""
        lat, lng = self.map.leaflet.center
        await self.tell(lng, lat)

    def _show_keys(self) -> None:
        self.keys.open()

    async def _turn_light(self) -> None:
        dark = self.dark.value
        if dark is None:  # as the system has it
            dark = await ui.run_javascript("matchMedia('(prefers-color-scheme: dark)').matches", timeout=3)
        self.dark.value = not dark

    def _actions(self) -> Actions:
        """What keys do on this page."""
        actions = layer_actions(self.session) | {
            "i": ("Tell about the middle of the map", self.tell_middle),
            "f": ("Full screen", self.screen.toggle),
            "d": ("Light or dark", self._turn_light),
            "m": ("Panels on or off", self.side.toggle),
        }
        if self.judging is not None:
            actions |= {
                "n": ("Next to look at", lambda: self._step(1)),
                "p": ("Previous to look at", lambda: self._step(-1)),
            }
        if self.correcting is not None:
            actions |= self._corrections(self.correcting)
        if len(self.session.shelf.places) > 1:
            actions |= {
                "PageDown": ("Next place", lambda: step(self.session, 1)),
                "PageUp": ("Previous place", lambda: step(self.session, -1)),
            }
        return actions

    def _corrections(self, panel: CorrectPanel) -> Actions:
        """Keys for correcting, which do nothing while another panel is open."""
        deeds: Actions = {
            "a": ("Accept the label", panel.accept),
            "Delete": ("Delete the label", panel.delete),
            "e": ("Reshape the label", panel.reshape),
            "v": ("Put a corner at the middle of the map", self.map.add_corner),
            "Enter": ("Finish drawing, or keep the new shape", panel.finish),
            "b": ("Draw a label", partial(panel.draw, "label")),
            "x": ("Draw an area to ignore", partial(panel.draw, "ignore")),
            "Escape": ("Leave the shape as it was", panel.show),
            "u": ("Undo", panel.undo),
        }
        return {key: (words, partial(self._if_correcting, deed)) for key, (words, deed) in deeds.items()}

    def _if_correcting(self, deed: Callable[[], Any]) -> Any:
        return deed() if self._corrected is not None else None

    def _step(self, by: int) -> Any:
        panel = self._corrected or self.judging
        return None if panel is None else panel.step(by)
