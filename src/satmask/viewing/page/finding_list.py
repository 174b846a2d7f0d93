"""A list of what to look at, with small pictures, to be gone through by key; the one looked at is outlined on the map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nicegui import ui

from satmask.viewing.page.parts import uncover_map
from satmask.viewing.page.thumbnails import thumbnail_of
from satmask.viewing.page.tile_address import tile_address
from satmask.viewing.styles import TileStyle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.viewing.findings import Finding
    from satmask.viewing.page.scene_map import SceneMap
    from satmask.viewing.page.session import Session

WORDS = {"matched": "Edges off", "boundary": "Edges far off", "unsure": "Least certain", "label": "Labels would help"}


class FindingList:
    """What to look at, in order.

    Args:
        session: The view.
        map_: Where findings are shown.
    """

    def __init__(self, session: Session, map_: SceneMap) -> None:
        self._session, self._map = session, map_
        self.findings: Sequence[Finding] = ()
        self.at = -1
        self._outline: Any = None
        self._box = ui.column().classes("satmask-wide satmask-findings").props('role="list"')

    def show(self, findings: Sequence[Finding], message: str = "") -> None:
        """List findings, or say why there are none."""
        self.findings, self.at = findings, -1
        self._box.clear()
        with self._box:
            if not findings:
                ui.label(message or "Nothing here.").classes("satmask-note")
            for number, finding in enumerate(findings):
                self._row(number, finding)

    def _row(self, number: int, finding: Finding) -> None:
        with ui.element("div").props('role="listitem"').classes("satmask-wide"):
            button = ui.button(on_click=lambda: self.go(number), color=None).props("flat no-caps align=left")
        with button.classes("satmask-finding").mark(f"finding-{number}"):
            self._thumbnail(finding)
            with ui.element("div").classes("satmask-finding-text"):
                ui.label(f"{number + 1}. {kind_text(finding.kind)}").classes("satmask-head")
                ui.label(said(finding)).classes("satmask-note")

    def _thumbnail(self, finding: Finding) -> None:
        """The image, and what is wrong over it where that is known."""
        found = thumbnail_of(self._session.place.view, finding)
        zoom, column, row = (str(value) for value in found.tile)
        with ui.element("div").classes("satmask-thumbnail"):
            for layer in (self._session.first("image"), self._session.first("error")):
                if layer is not None:
                    address = tile_address(
                        layer.id, self._session.style(layer) if layer.kind == "image" else TileStyle()
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
        self._outline = self._map.outline([[[(west, south), (east, south), (east, north), (west, north)]]])
        uncover_map()
        self._map.fit(finding.box, closest=self._session.place.view.native_zoom + 1)
        ui.notify(
            f"{number + 1} of {len(self.findings)}: {kind_text(finding.kind)}, {said(finding)}",
            position="top",
            timeout=1500,
        )

    def clear(self) -> None:
        """Take the outline off the map."""
        if self._outline is not None:
            self._map.remove(self._outline)
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
    sure = None if finding.certainty is None else f"{finding.certainty:.0%} certain"
    if finding.novelty is not None:
        return " · ".join(part for part in (sure, f"novelty {finding.novelty:.2f}") if part)
    area = f"{finding.area_px:,.0f} px" if finding.area_m2 is None else f"{finding.area_m2:,.0f} m²"
    parts = [finding.class_name, f"{area} wrong" if finding.kind == "window" else area]
    if finding.iou is not None and finding.iou > 0:
        parts.append(f"IoU {finding.iou:.2f}")
    return " · ".join(part for part in (*parts, sure) if part)
