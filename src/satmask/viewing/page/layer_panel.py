"""The panel of layers: what is shown, how strongly, in which colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui import ui

from satmask.pictures import ERRORS
from satmask.viewing.page.parts import Range, Slider
from satmask.viewing.page.session import OPACITIES

if TYPE_CHECKING:
    from nicegui.events import GenericEventArguments, ValueChangeEventArguments

    from satmask.legend import LegendClass
    from satmask.viewing.page.session import Session
    from satmask.viewing.shelf import Layer

ERROR_WORDS = {
    "true positive": "Right",
    "false positive": "Invented",
    "false negative": "Missed",
    "wrong class": "Another class",
}
PAUSE_S = 0.2  # between two looks of all tiles, while a slider is drawn
MOST_PROBLEMS = 20
WIDEST_LEGEND = 60  # classes with a switch


def layer_panel(session: Session) -> None:
    """Build the switches and sliders of a place's layers."""
    with ui.element("section").props('aria-label="Layers"').classes("satmask-section"):
        ui.label("Layers").classes("satmask-head")
        for layer in reversed(session.layers):
            _layer_row(session, layer)
    _legend(session)
    if session.first("error"):
        _error_key()
    image = session.first("image")
    if image is not None:
        _image(session, image)


def problem_notes(session: Session) -> None:
    """Say what of a place can't be shown."""
    if session.place.problems:
        with ui.element("section").props('aria-label="Not shown"').classes("satmask-section"):
            ui.label("Not shown").classes("satmask-head")
            for problem in session.place.problems[:MOST_PROBLEMS]:
                ui.label(problem).classes("satmask-note")


def _layer_row(session: Session, layer: Layer) -> None:
    """A switch, and a slider of the opacity."""
    opacity = session.shown.get(layer.id)
    with ui.row().classes("satmask-row"):
        switch = ui.switch(layer.title, value=opacity is not None).props("dense")
        switch.mark(f"layer-{layer.kind}").classes("col")
        slider = Slider(min=0, max=100, step=5, value=OPACITIES[layer.kind] if opacity is None else opacity)
        slider.classes("satmask-slider").props["aria-label"] = f"Opacity of {layer.title} in per cent"

    def apply() -> None:
        if switch.value:
            session.show(layer.id, int(slider.value))
        else:
            session.hide(layer.id)

    switch.on_value_change(apply)
    slider.on_value_change(apply)
    slider.bind_enabled_from(switch, "value")
    # Keys and other panels switch layers, too.
    session.listen(lambda: switch.set_value(layer.id in session.shown))


def _legend(session: Session) -> None:
    legend = session.place.legend
    if legend is None:
        return
    with ui.element("section").props('aria-label="Legend"').classes("satmask-section"):
        ui.label("Classes").classes("satmask-head")
        for entry in legend.classes[:WIDEST_LEGEND]:
            _class_row(session, entry)
        if len(legend) > WIDEST_LEGEND:
            ui.label(f"… and {len(legend) - WIDEST_LEGEND:,} more").classes("satmask-note")


def _class_row(session: Session, entry: LegendClass) -> None:
    def change(event: ValueChangeEventArguments[bool | None]) -> None:
        session.switch_class(entry.id, bool(event.value))

    with ui.row().classes("satmask-row"):
        ui.element("span").classes("satmask-swatch").style(f"background: {entry.colour}").props('aria-hidden="true"')
        box = ui.checkbox(entry.name, value=entry.id not in session.view.hidden, on_change=change)
        box.props("dense").classes("col")


def _error_key() -> None:
    """What the colours of errors mean."""
    with ui.element("section").props('aria-label="Colours of errors"').classes("satmask-section"):
        ui.label("Errors").classes("satmask-head")
        for name, colour in ERRORS.items():
            with ui.row().classes("satmask-row satmask-key"):
                ui.element("span").classes("satmask-swatch").style(f"background: {colour}").props('aria-hidden="true"')
                ui.label(ERROR_WORDS[name]).classes("satmask-note")


def _image(session: Session, image: Layer) -> None:
    """Which bands are shown, and where black and white lie."""
    with ui.element("section").props('aria-label="Image"').classes("satmask-section"):
        ui.label("Image").classes("satmask-head")
        if len(image.bands) > 1:
            _bands(session, image)
        _stretch(session)


def _bands(session: Session, image: Layer) -> None:
    names = {number: f"{number} {name}" for number, name in enumerate(image.bands, start=1)}
    count = len(names)
    chosen = session.view.bands or ((1, 2, 3) if count >= 3 else (1, 1, 1))
    boxes: list[ui.select] = []

    def apply() -> None:
        red, green, blue = (int(box.value) for box in boxes)
        session.change(bands=(red, green, blue))

    with ui.row().classes("satmask-row"):
        for colour, value in zip(("Red", "Green", "Blue"), chosen, strict=True):
            box = ui.select(names, value=value, label=colour, on_change=apply)
            boxes.append(box.props("dense options-dense").classes("col"))


def _stretch(session: Session) -> None:
    low, high = session.view.percent or (2, 98)

    def apply(event: GenericEventArguments) -> None:
        low, high = float(event.args["min"]), float(event.args["max"])
        if low < high:
            session.change(percent=(low, high))

    ui.label("Stretch, in percentiles").classes("satmask-note")
    span = Range(min=0, max=100, step=0.5, value={"min": low, "max": high})
    span.props("label").classes("satmask-range").props["aria-label"] = "Stretch from and to these percentiles"
    span.on("update:model-value", apply, throttle=PAUSE_S)
