"""The panel for judging: scores, and what is worst, to be looked at one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nicegui import run, ui

from satmask.errors import SatmaskError
from satmask.viewing.judging import overall
from satmask.viewing.page.curve_panel import CurvePanel
from satmask.viewing.page.parts import icon_button, uncover_map
from satmask.viewing.page.thumbnails import thumbnail_of
from satmask.viewing.page.tile_address import tile_address
from satmask.viewing.styles import TileStyle

if TYPE_CHECKING:
    from satmask.viewing.findings import Finding
    from satmask.viewing.judging import Judge
    from satmask.viewing.page.scene_map import SceneMap
    from satmask.viewing.page.session import Session
    from satmask.viewing.page.shared import Shared

EVERY = ""  # no filter
LISTED = 100
WORDS = {"matched": "Edges off", "boundary": "Edges far off", "unsure": "Least certain"}
MEASURES = {"iou": "IoU", "precision": "Precision", "recall": "Recall", "f1": "F1"}
ORDERS = {"objects": "Objects", "wrong": "Windows, most wrong", "missed": "Windows, most missed",
          "invented": "Windows, most invented", "uncertainty": "Windows, least certain"}  # fmt: skip


class JudgePanel:
    """Scores and the list of the worst.

    Args:
        session: The view.
        shared: What compares places with their truth.
        map_: Where findings are shown.
    """

    def __init__(self, session: Session, shared: Shared, map_: SceneMap) -> None:
        self.session, self.shared, self.map = session, shared, map_
        self.judge: Judge = shared.judge(session.place)
        self.findings: list[Finding] = []
        self.at = -1
        self._outline: Any = None
        self._loaded = False
        with ui.element("section").props('aria-label="Scores"').classes("satmask-section"):
            ui.label("Scores").classes("satmask-head")
            self.scores = ui.column().classes("satmask-wide").mark("scores")
        if session.first("probabilities"):
            CurvePanel(session, self.judge)
        with ui.element("section").props('aria-label="What to look at"').classes("satmask-section"):
            self._filters()
            self.list = ui.column().classes("satmask-wide satmask-findings").props('role="list"')

    def _filters(self) -> None:
        with ui.row().classes("satmask-row"):
            ui.label("What to look at").classes("satmask-head col")
            icon_button("chevron_left", "Previous (P)", lambda: self.step(-1))
            icon_button("chevron_right", "Next (N)", lambda: self.step(1))
        with ui.row().classes("satmask-row"):
            self.order = ui.select(ORDERS, value="objects", label="List", on_change=self.refresh)
            self.kind = ui.select({EVERY: "Every error"}, value=EVERY, label="Error", on_change=self.refresh)
            for box in (self.order, self.kind):
                box.props("dense options-dense").classes("col")
        with ui.row().classes("satmask-row"):
            names = {EVERY: "Every class"} | {name: name for name in self._names}
            self.class_name = ui.select(names, value=EVERY, label="Class", on_change=self.refresh)
            self.smallest = ui.number("From pixels", value=0, min=0, on_change=self.refresh)
            self.largest = ui.number("To pixels", min=0, on_change=self.refresh)
            for field in (self.class_name, self.smallest, self.largest):
                field.props("dense options-dense").classes("col")

    @property
    def _names(self) -> Sequence[str]:
        legend = self.session.place.legend
        return () if legend is None else legend.names

    async def load(self) -> None:
        """Count and list, the first time that the panel is opened."""
        if self._loaded:
            return
        self._loaded = True
        with self.scores:
            ui.spinner().props('aria-label="Counting"')
        await self._show_scores()
        await self.refresh()

    async def _show_scores(self) -> None:
        judges = self.shared.judges(self.session.shelf.places)
        try:
            found = await run.io_bound(self.judge.scores)
            self.scores.clear()
            with self.scores:
                _table((found or {}).get("classes", []), "This place")
                if len(judges) > 1:
                    ui.button(f"All {len(judges):,} places", on_click=self._show_all).props("flat dense no-caps")
        except SatmaskError as error:
            self.scores.clear()
            with self.scores:
                ui.label(str(error)).classes("satmask-note")

    async def _show_all(self) -> None:
        try:
            found = await run.io_bound(overall, self.shared.judges(self.session.shelf.places)) or {}
        except SatmaskError as error:
            ui.notify(str(error), type="warning")
            return
        self.scores.clear()
        with self.scores:
            _table(found["classes"], f"{found['places']:,} places, with intervals of {found['level']:.0%}")

    async def refresh(self) -> None:
        """List anew what the filters leave."""
        if not self._loaded:
            return
        try:
            self.findings = await run.io_bound(self._find) or []
            message = "" if self.findings else "Nothing here."
        except SatmaskError as error:
            self.findings, message = [], str(error)
        self.at = -1
        self._offer_kinds()
        self.list.clear()
        with self.list:
            if message:
                ui.label(message).classes("satmask-note")
            for number, finding in enumerate(self.findings):
                self._row(number, finding)

    def _find(self) -> list[Finding]:
        if self.order.value != "objects":
            return self.judge.windows(by=self.order.value, count=LISTED)
        return self.judge.worst(
            classes=(self.class_name.value,) if self.class_name.value else (),
            kinds=(self.kind.value,) if self.kind.value else (),
            min_area_px=self.smallest.value or 0,
            max_area_px=self.largest.value,
            count=LISTED,
        )

    def _offer_kinds(self) -> None:
        """Offer the kinds of errors that were met."""
        known = dict(self.kind.options) | {
            one.kind: kind_text(one.kind) for one in self.findings if one.kind != "window"
        }
        if known != self.kind.options:
            self.kind.set_options(known)

    def _row(self, number: int, finding: Finding) -> None:
        button = ui.button(on_click=lambda: self.go(number), color=None).props("flat no-caps align=left")
        with button.classes("satmask-finding").props('role="listitem"').mark(f"finding-{number}"):
            self._thumbnail(finding)
            with ui.element("div").classes("satmask-finding-text"):
                ui.label(f"{number + 1}. {kind_text(finding.kind)}").classes("satmask-head")
                ui.label(said(finding)).classes("satmask-note")

    def _thumbnail(self, finding: Finding) -> None:
        """The image, and what is wrong over it where that is known."""
        found = thumbnail_of(self.session.place.view, finding)
        zoom, column, row = (str(value) for value in found.tile)
        with ui.element("div").classes("satmask-thumbnail"):
            for layer in (self.session.first("image"), self.session.first("error")):
                if layer is not None:
                    address = tile_address(
                        layer.id, self.session.style(layer) if layer.kind == "image" else TileStyle()
                    )
                    address = address.replace("{z}", zoom).replace("{x}", column).replace("{y}", row)
                    ui.element("img").props(f'loading="lazy" alt="" src="{address}"').style(found.style)

    def step(self, by: int) -> None:
        """Go to the next of the list, or back."""
        if self.findings:
            self.go((self.at + by) % len(self.findings) if self.at >= 0 else 0)

    def go(self, number: int) -> None:
        """Show a finding on the map."""
        self.at = number
        finding = self.findings[number]
        self.clear()
        (south, west), (north, east) = finding.box
        self._outline = self.map.outline([[[(west, south), (east, south), (east, north), (west, north)]]])
        uncover_map()
        self.map.fit(finding.box, closest=self.session.place.view.native_zoom + 1)
        ui.notify(
            f"{number + 1} of {len(self.findings)}: {kind_text(finding.kind)}, {said(finding)}",
            position="top",
            timeout=1500,
        )

    def clear(self) -> None:
        """Take the outline off the map."""
        if self._outline is not None:
            self.map.remove(self._outline)
            self._outline = None


def kind_text(kind: str) -> str:
    """Say what is wrong.

    Examples:
        >>> kind_text("missed"), kind_text("matched")
        ('Missed', 'Edges off')
    """
    return WORDS.get(kind, kind.capitalize())


def said(finding: Finding) -> str:
    """Say a finding in a few words."""
    area = f"{finding.area_px:,.0f} px" if finding.area_m2 is None else f"{finding.area_m2:,.0f} m²"
    parts = [finding.class_name, f"{area} wrong" if finding.kind == "window" else area]
    if finding.iou is not None and finding.iou > 0:
        parts.append(f"IoU {finding.iou:.2f}")
    if finding.certainty is not None:
        parts.append(f"{finding.certainty:.0%} certain")
    return " · ".join(part for part in parts if part)


def _table(classes: Sequence[Mapping[str, Any]], caption: str) -> None:
    """Scores of classes, with their intervals where there are some."""
    columns = [{"name": "name", "label": "Class", "field": "name", "align": "left"}]
    columns += [{"name": key, "label": label, "field": key} for key, label in MEASURES.items()]
    rows = [
        {"id": entry["id"], "name": entry["name"]} | {key: score_text(entry[key]) for key in MEASURES}
        for entry in classes
    ]
    ui.label(caption).classes("satmask-note")
    ui.table(columns=columns, rows=rows).props("dense flat wrap-cells hide-bottom").classes("satmask-scores")


def score_text(score: float | Mapping[str, float | None] | None) -> str:
    """Say a score, with its interval where it is known.

    Examples:
        >>> score_text(0.5), score_text({"value": 0.5, "low": 0.4, "high": 0.6}), score_text(None)
        ('0.500', '0.500 (0.40–0.60)', '–')
    """
    if isinstance(score, Mapping):
        low, high = score["low"], score["high"]
        interval = "" if low is None or high is None else f" ({low:.2f}–{high:.2f})"
        return score_text(score["value"]) + interval
    return "–" if score is None or math.isnan(score) else f"{score:.3f}"
