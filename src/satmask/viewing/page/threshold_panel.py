"""The panel of the threshold: where a probability becomes a class, and what that scores."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nicegui import background_tasks, run, ui

from satmask.viewing.page.layer_panel import PAUSE_S
from satmask.viewing.page.parts import Slider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nicegui.events import GenericEventArguments, ValueChangeEventArguments

    from satmask.viewing.judging import Judge
    from satmask.viewing.page.session import Session


def threshold_panel(session: Session, judge: Judge | None) -> None:
    """Build the choice of a class and of its threshold; does nothing where there is no probability.

    Args:
        session: The view.
        judge: What compares the place with the truth; None where there is none.
    """
    layer, legend = session.first("probabilities"), session.place.legend
    if layer is None or legend is None:
        return
    with ui.element("section").props('aria-label="Probability"').classes("satmask-section"):
        ui.label("Probability").classes("satmask-head")
        if len(legend) > 1:
            names = dict(zip(legend.ids, legend.names, strict=True))
            ui.select(
                names, value=session.class_id, label="Class", on_change=lambda e: session.change(class_id=e.value)
            )
        _Threshold(session, judge)


class _Threshold:
    """A switch, a slider, and the scores that follow it."""

    def __init__(self, session: Session, judge: Judge | None) -> None:
        self.session = session
        self.judge = judge
        threshold = session.view.threshold
        with ui.row().classes("satmask-row"):
            self.switch = ui.switch("Threshold", value=threshold is not None, on_change=self._switched).props("dense")
            self.switch.classes("col").mark("threshold-switch")
            self.value = ui.label().classes("satmask-number").mark("threshold-value")
        self.slider = Slider(min=0, max=1, step=0.01, value=0.5 if threshold is None else threshold)
        self.slider.props["aria-label"] = "Probability from which a pixel has the class"
        self.slider.mark("threshold").on("update:model-value", self._moved, throttle=PAUSE_S)
        self.slider.bind_enabled_from(self.switch, "value")
        self.scores = ui.label().classes("satmask-note").mark("threshold-scores").props('aria-live="polite"')
        self.session.listen(self._changed)
        ui.timer(0, self._tell, once=True)

    def _switched(self, event: ValueChangeEventArguments[bool | None]) -> None:
        if bool(event.value) != (self.session.view.threshold is not None):
            self.session.change(threshold=float(self.slider.value) if event.value else None)

    def _moved(self, event: GenericEventArguments) -> None:
        self.session.change(threshold=round(float(event.args), 4))

    def _changed(self) -> None:
        # Keys move the threshold, too.
        threshold = self.session.view.threshold
        if threshold is not None:
            self.slider.set_value(threshold)
        self.switch.set_value(threshold is not None)
        background_tasks.create(self._tell())

    async def _tell(self) -> None:
        """Say what the threshold scores, which is counted beside the page the first time."""
        threshold, class_id = self.session.view.threshold, self.session.class_id
        self.value.text = "" if threshold is None else f"{threshold:.2f}"
        if threshold is None or class_id is None or self.judge is None:
            self.scores.text = ""
            return
        found = await run.io_bound(self.judge.at, class_id, threshold)
        if found is not None and self.session.view.threshold == threshold:
            self.scores.text = scores_text(found)


def scores_text(scores: Mapping[str, Any]) -> str:
    """Say scores in one line.

    Examples:
        >>> scores_text({"iou": 0.5, "precision": 0.75, "recall": None})
        'IoU 0.500 · precision 0.750 · recall –'
    """
    names = {"iou": "IoU", "precision": "precision", "recall": "recall"}
    return " · ".join(f"{name} {_number(scores.get(key))}" for key, name in names.items())


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"
