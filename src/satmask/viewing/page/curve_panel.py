"""The panel of curves: precision and recall over thresholds, and how many pixels got which probability."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from nicegui import background_tasks, run, ui

from satmask.errors import SatmaskError

if TYPE_CHECKING:
    from nicegui.events import ValueChangeEventArguments

    from satmask.viewing.judging import Judge
    from satmask.viewing.page.session import Session

RIGHT, WRONG, MARK = "#0072B2", "#D55E00", "#E69F00"
GREY = "#888888"  # of axes: read on light and on dark


class CurvePanel:
    """Two charts that mark where the threshold is.

    Args:
        session: The view; its class and threshold.
        judge: What counts.
    """

    def __init__(self, session: Session, judge: Judge) -> None:
        self.session, self.judge = session, judge
        self._wanted = False  # counting takes long; not before somebody wants to see it
        self._counted: tuple[int, Mapping[str, Any], Mapping[str, Any]] | None = None
        with ui.expansion("Curves", on_value_change=self._opened).props("dense").classes("satmask-curves"):
            ui.label("Precision and recall").classes("satmask-note")
            self.curve = ui.echart({"series": []}).classes("satmask-chart")
            self.best = ui.label().classes("satmask-note")
            ui.label("Pixels by probability").classes("satmask-note")
            self.bars = ui.echart({"series": []}).classes("satmask-chart")
        for chart, name in ((self.curve, "Precision over recall"), (self.bars, "Pixels by probability")):
            chart.props(f'role="img" aria-label="{name}"')
        session.listen(lambda: background_tasks.create(self.show()))

    async def _opened(self, event: ValueChangeEventArguments[bool]) -> None:
        self._wanted = event.value
        await self.show()

    async def show(self) -> None:
        """Draw the curves of the class that is shown; nothing where there is no probability or no truth."""
        class_id = self.session.class_id
        if not self._wanted or class_id is None or not self.session.first("probabilities"):
            return
        if self._counted is None or self._counted[0] != class_id:
            try:
                curve = await run.io_bound(self.judge.curve, class_id)
                histogram = await run.io_bound(self.judge.histogram, class_id)
            except SatmaskError as error:
                self.best.text = str(error)
                return
            if curve is None or histogram is None:
                return
            self._counted = class_id, curve, histogram
        self._draw(*self._counted[1:])

    def _draw(self, curve: Mapping[str, Any], histogram: Mapping[str, Any]) -> None:
        threshold = self.session.view.threshold
        for chart, options in (
            (self.curve, curve_options(curve, threshold)),
            (self.bars, bar_options(histogram, threshold)),
        ):
            chart.options.clear()
            chart.options.update(options)
            chart.update()
        best = curve["best"]
        if best["iou"] is not None:
            self.best.text = f"Highest IoU {best['iou']:.3f} from {best['threshold']:.2f} on."


def curve_options(curve: Mapping[str, Any], threshold: float | None) -> dict[str, Any]:
    """What ECharts draws of a precision-recall curve, with a point at the threshold."""
    points = list(zip(curve["recall"], curve["precision"], strict=True))
    known = [[recall, precision] for recall, precision in points if recall is not None and precision is not None]
    series: list[dict[str, Any]] = [{"type": "line", "data": known, "showSymbol": False, "itemStyle": {"color": RIGHT}}]
    if threshold is not None:
        at = min(range(len(points)), key=lambda number: abs(curve["threshold"][number] - threshold))
        here = [list(points[at])] if None not in points[at] else []
        series.append({"type": "scatter", "data": here, "symbolSize": 11, "itemStyle": {"color": MARK}})
    return _chart("Recall", "Precision", series, x_max=1, y_max=1)


def bar_options(histogram: Mapping[str, Any], threshold: float | None) -> dict[str, Any]:
    """What ECharts draws of a histogram, with a line at the threshold; the axis of pixels is logarithmic."""
    edges = histogram["edges"]
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    series: list[dict[str, Any]] = [
        {
            "type": "line", "step": "middle", "showSymbol": False, "name": name, "itemStyle": {"color": colour}, "areaStyle": {"opacity": 0.15},
            "data": [[x, max(count, 0.9)] for x, count in zip(middles, histogram[key], strict=True)],
        }
        for key, name, colour in (("outside", "Outside the class", WRONG), ("inside", "Inside", RIGHT))
    ]  # fmt: skip
    if threshold is not None:
        mark = {"silent": True, "symbol": "none", "label": {"show": False}, "data": [{"xAxis": threshold}]}
        series[0]["markLine"] = mark | {"lineStyle": {"color": MARK, "width": 2, "type": "solid"}}
    chart = _chart("Probability", "Pixels", series, x_max=1)
    chart["yAxis"] |= {"type": "log", "min": 0.9, "axisLabel": {"show": False}}
    chart["legend"] = {"bottom": 0, "itemHeight": 8, "textStyle": {"color": GREY, "fontSize": 11}}
    chart["grid"] |= {"bottom": 52}
    return chart


def _chart(x: str, y: str, series: list[dict[str, Any]], *, x_max: float, y_max: float | None = None) -> dict[str, Any]:
    label = {
        "nameTextStyle": {"color": GREY},
        "axisLabel": {"color": GREY, "fontSize": 11},
        "splitLine": {"show": False},
    }
    return {
        "animation": False,
        "grid": {"left": 34, "right": 12, "top": 10, "bottom": 34},
        "xAxis": {"type": "value", "min": 0, "max": x_max, "name": x, "nameLocation": "middle", "nameGap": 20} | label,
        "yAxis": {"type": "value", "min": 0, "max": y_max, "name": y, "nameLocation": "middle", "nameGap": 26} | label,
        "series": series,
    }
