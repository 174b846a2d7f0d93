"""What one tab of a browser shows, and who is told when that changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from satmask.viewing.page.state import View
from satmask.viewing.styles import TileStyle

if TYPE_CHECKING:
    from satmask.viewing.shelf import Layer, Place, Shelf

# Opacities that leave what lies beneath in sight, and what is seen at first.
OPACITIES = {
    "image": 100,
    "uncertainty": 70,
    "probabilities": 70,
    "truth": 60,
    "classes": 60,
    "error": 70,
    "polygons": 100,
}
AT_FIRST = ("image", "classes", "polygons")
ORDER = ("image", "uncertainty", "probabilities", "truth", "classes", "error", "polygons")


class Session:
    """The view of one tab.

    Args:
        shelf: What there is to see.
        view: What the address says; what isn't there is left out.
    """

    def __init__(self, shelf: Shelf, view: View) -> None:
        self.shelf = shelf
        known = {place.id: place for place in shelf.places}
        self.place: Place = known.get(view.place or "", shelf.places[0])
        self.view = self._fitting(view)
        self._listeners: list[Callable[[], Any]] = []

    def listen(self, listener: Callable[[], Any]) -> None:
        """Have something called whenever the view has changed."""
        self._listeners.append(listener)

    def change(self, **parts: Any) -> None:
        """Change parts of the view."""
        changed = replace(self.view, **parts)
        if changed != self.view:
            self.view = changed
            for listener in self._listeners:
                listener()

    @property
    def layers(self) -> list[Layer]:
        """The place's layers in the order of the map, lowest first."""
        return sorted(self.place.layers, key=lambda layer: ORDER.index(layer.kind))

    @property
    def shown(self) -> dict[str, int]:
        """Opacities, 0 to 100, of the layers that are shown, by id."""
        return dict(self.view.layers or ())

    def first(self, kind: str) -> Layer | None:
        """The place's first layer of a kind."""
        return next((layer for layer in self.place.layers if layer.kind == kind), None)

    def show(self, id_: str, opacity: int) -> None:
        """Show a layer with an opacity from 0 to 100."""
        self._set(self.shown | {id_: opacity})

    def hide(self, id_: str) -> None:
        """Show a layer no more."""
        self._set({other: opacity for other, opacity in self.shown.items() if other != id_})

    def switch_class(self, id_: int, on: bool) -> None:
        """Show a class, or leave it out of all layers."""
        hidden = set(self.view.hidden) - {id_} if on else {*self.view.hidden, id_}
        self.change(hidden=tuple(sorted(hidden)))

    def style(self, layer: Layer) -> TileStyle:
        """How a layer's tiles are drawn."""
        view = self.view
        if layer.kind == "image":
            bands = view.bands and (view.bands[0] - 1, view.bands[1] - 1, view.bands[2] - 1)
            return TileStyle(bands=bands, percent=view.percent)
        if layer.kind == "probabilities":
            return TileStyle(class_id=self.class_id, threshold=view.threshold)
        return TileStyle() if layer.kind == "uncertainty" else TileStyle(hidden=view.hidden)

    @property
    def class_id(self) -> int | None:
        """The class whose probability is shown: the one chosen, or the legend's first."""
        legend = self.place.legend
        ids = () if legend is None else legend.ids
        return self.view.class_id if self.view.class_id in ids else next(iter(ids), None)

    def _set(self, shown: dict[str, int]) -> None:
        ordered = tuple((layer.id, shown[layer.id]) for layer in self.layers if layer.id in shown)
        self.change(layers=ordered)

    def _fitting(self, view: View) -> View:
        """The view without what this place doesn't have."""
        ids = {layer.id for layer in self.place.layers}
        shown = None if view.layers is None else tuple(pair for pair in view.layers if pair[0] in ids)
        if shown is None:
            shown = tuple((layer.id, OPACITIES[layer.kind]) for layer in self.layers if self._begins(layer))
        image = self.first("image")
        count = 0 if image is None else len(image.bands)
        return replace(
            view,
            place=self.place.id,
            layers=shown,
            swipe=view.swipe if view.swipe in ids else None,
            bands=view.bands if view.bands and max(view.bands) <= count else None,
        )

    def _begins(self, layer: Layer) -> bool:
        """Whether a layer is seen at first: image, classes and polygons; the truth where nothing was predicted."""
        kinds = AT_FIRST if self.first("classes") or self.first("polygons") else (*AT_FIRST, "truth")
        return layer.kind in kinds and self.first(layer.kind) is layer
