"""The panel for judging: scores, and what is worst, to be looked at one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nicegui import run, ui

from satmask.errors import SatmaskError
from satmask.viewing.judging import overall
from satmask.viewing.page.curve_panel import CurvePanel
from satmask.viewing.page.finding_list import FindingList, kind_text
from satmask.viewing.page.parts import icon_button

if TYPE_CHECKING:
    from satmask.viewing.findings import Finding
    from satmask.viewing.judging import Judge
    from satmask.viewing.page.scene_map import SceneMap
    from satmask.viewing.page.session import Session
    from satmask.viewing.page.shared import Shared

EVERY = ""  # no filter
LISTED = 100
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
        self._loaded = False
        with ui.element("section").props('aria-label="Scores"').classes("satmask-section"):
            ui.label("Scores").classes("satmask-head")
            self.scores = ui.column().classes("satmask-wide").mark("scores")
        if session.first("probabilities"):
            CurvePanel(session, self.judge)
        with ui.element("section").props('aria-label="What to look at"').classes("satmask-section"):
            self._filters()
            self.list = FindingList(session, map_)

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
            found = await run.io_bound(self._find) or []
        except SatmaskError as error:
            self.list.show([], str(error))
            return
        self._offer_kinds(found)
        self.list.show(found)

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

    def _offer_kinds(self, found: list[Finding]) -> None:
        """Offer the kinds of errors that were met."""
        known = dict(self.kind.options) | {one.kind: kind_text(one.kind) for one in found if one.kind != "window"}
        if known != self.kind.options:
            self.kind.set_options(known)

    def step(self, by: int) -> None:
        """Go to the next of the list, or back."""
        self.list.step(by)

    def clear(self) -> None:
        """Take the outline off the map."""
        self.list.clear()


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
