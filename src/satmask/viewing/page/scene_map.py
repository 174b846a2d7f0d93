"""The map: Leaflet, told from Python what to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nicegui import ui

from satmask.viewing.map_view import TILE
from satmask.viewing.page.shapes import Box, Part

if TYPE_CHECKING:
    from nicegui.elements.leaflet.leaflet_layer import Layer as LeafletLayer
    from nicegui.events import GenericEventArguments

    from satmask.viewing.shelf import MapView

DRAWN = {"color": "#D55E00", "weight": 3, "fillOpacity": 0.15}
HAIR = 1e-9  # of a scene
FOUND = {"color": "#F0E442", "weight": 3, "fill": False, "dashArray": "6 4", "interactive": False}


class SceneMap:
    """A map of one place: tiles over each other, and shapes over those.

    Args:
        view: Where the place lies.
        at: Latitude, longitude and zoom to begin with; all of the place if it is None.
        on_click: Told longitude and latitude.
        on_move: Told latitude, longitude and zoom once the map stands still.
        on_point: Told longitude and latitude under the pointer.
        on_ready: Told once the map is there; before that nothing can be shown.
        on_draw: Told the corners of what was drawn, as `(lng, lat)`; nothing can be drawn where it is None.
    """

    def __init__(
        self,
        view: MapView,
        *,
        at: tuple[float, float, float] | None,
        on_click: Callable[[float, float], Any],
        on_move: Callable[[float, float, float], Any],
        on_point: Callable[[float, float], Any],
        on_ready: Callable[[], Any],
        on_draw: Callable[[list[tuple[float, float]]], Any] | None = None,
    ) -> None:
        self.view = view
        self.tiles: dict[str, LeafletLayer] = {}
        self._addresses: dict[str, str] = {}
        self._looks: dict[str, tuple[float, int]] = {}
        self._swiped: tuple[str, float] | None = None
        (south, west), (north, east) = view.bounds
        centre = ((south + north) / 2, (west + east) / 2) if at is None else at[:2]
        self.leaflet = ui.leaflet(
            center=centre,
            zoom=view.min_zoom if at is None else at[2],  # type: ignore[arg-type]  # Leaflet takes halves
            draw_control=on_draw is not None,
            hide_drawn_items=True,
            additional_resources=["/assets/map.js"],
        )
        self.leaflet.clear_layers()  # NiceGUI begins with a map from the network
        self.leaflet.classes("satmask-map").props('role="application" aria-label="Map" tabindex="0"')
        self._set_options(view)
        self._fit_at_first = at is None
        self._on_ready = on_ready
        self.leaflet.on("init", self._begin)
        self.leaflet.on("map-click", lambda event: on_click(*_lng_lat(event)))
        self.leaflet.on("map-moveend", lambda event: on_move(*_stand(event)))
        self.leaflet.on("map-mousemove", lambda event: on_point(*_lng_lat(event)), args=["latlng"], throttle=0.1)
        if on_draw is not None:
            self.leaflet.on("draw:created", lambda event: on_draw(_corners(event)))

    def _set_options(self, view: MapView) -> None:
        # Leaflet isn't loaded yet when options are read, so its CRS is looked up when the map is made.
        crs = "get crs() { return window.L.CRS.Simple; }, " if view.projection == "pixels" else ""
        self.leaflet.props[":options"] = (
            f"{{ {crs}minZoom: {self._farthest:d}, maxZoom: {view.max_zoom:d}, attributionControl: false, "
            "wheelPxPerZoomLevel: 120 }"
        )
        del self.leaflet.props["options"]

    def _begin(self) -> None:
        """Add what needs a map that is there."""
        pixels = 2.0**self.view.native_zoom
        scale = "new L.PixelScale" if self.view.projection == "pixels" else "L.control.scale"
        self.leaflet.run_map_method(":addControl", f"{scale}({{imperial: false, maxWidth: 140, pixels: {pixels}}})")
        if self._fit_at_first:
            self._fit_at_first = False
            self.fit(self.view.bounds, animate=False)
        self._on_ready()
        if self._swiped:
            self.swipe(*self._swiped)

    @property
    def ready(self) -> bool:
        """Whether the map is there."""
        return self.leaflet.is_initialized

    @property
    def _farthest(self) -> int:
        """A zoom from which a phone shows all of the place, by tiles of the first zoom there is, made smaller."""
        return max(self.view.min_zoom - 1, 0)

    def show(self, id_: str, address: str, *, opacity: float, order: int) -> None:
        """Show a layer of tiles, or change how it is shown.

        Args:
            id_: The layer.
            address: Of its tiles.
            opacity: 0 to 1.
            order: Its place among the layers; higher ones lie on top.
        """
        if id_ not in self.tiles:
            self.tiles[id_] = self._add(address, opacity, order)
        else:
            layer = self.tiles[id_]
            layer.options |= {"opacity": opacity, "zIndex": order}  # type: ignore[attr-defined]
            if self._addresses[id_] != address:
                layer.url_template = address  # type: ignore[attr-defined]
                layer.run_method("restyle", address)
            if self._looks[id_] != (opacity, order):
                layer.run_method("setOpacity", opacity)
                layer.run_method("setZIndex", order)
        self._addresses[id_] = address
        self._looks[id_] = (opacity, order)

    def _add(self, address: str, opacity: float, order: int) -> LeafletLayer:
        (south, west), (north, east) = self.view.bounds
        # A hair less: the last bit would ask for more tiles around a scene that ends where tiles do.
        hair = (HAIR * (north - south), HAIR * (east - west))
        layer: LeafletLayer = self.leaflet.tile_layer(
            url_template=address,
            options={
                "bounds": [[south + hair[0], west + hair[1]], [north - hair[0], east - hair[1]]],
                "minZoom": self._farthest,
                "minNativeZoom": self.view.min_zoom,
                "maxZoom": self.view.max_zoom,
                "noWrap": True,
                "opacity": opacity,
                "zIndex": order,
                "tileSize": TILE,
                "keepBuffer": 1,
                "className": "satmask-tiles",
            },
        )
        return layer

    def hide(self, id_: str) -> None:
        """Take a layer off the map."""
        if id_ in self.tiles:
            if self._swiped and self._swiped[0] == id_:
                self.stop_swipe()
            self.leaflet.remove_layer(self.tiles.pop(id_))
            del self._addresses[id_], self._looks[id_]

    def swipe(self, id_: str, share: float) -> None:
        """Show a layer only right of a share of the map's width."""
        if self._swiped and self._swiped[0] != id_:
            self.stop_swipe()
        self._swiped = (id_, share)
        if id_ in self.tiles:
            self.tiles[id_].run_method("swipe", share)

    def stop_swipe(self) -> None:
        """Show all of the layer that was swiped."""
        if self._swiped and self._swiped[0] in self.tiles:
            self.tiles[self._swiped[0]].run_method("unswipe")
        self._swiped = None

    def fit(self, box: Sequence[Sequence[float]], *, closest: int | None = None, animate: bool = True) -> None:
        """Move so that a box, `((south, west), (north, east))`, is in sight."""
        options = {"animate": animate} | ({} if closest is None else {"maxZoom": closest})
        self.leaflet.run_map_method("fitBounds", [list(corner) for corner in box], options)

    def outline(self, parts: Sequence[Part], *, editable: bool = False) -> LeafletLayer:
        """Draw a polygon over everything; the corners of a single part may be moved if it is editable."""
        style = (DRAWN | {"editable": True}) if editable else FOUND
        corners: list[Any] = [[[[lat, lng] for lng, lat in ring] for ring in part] for part in parts]
        corners = corners[0] if len(corners) == 1 else corners
        layer: LeafletLayer = self.leaflet.generic_layer(name="polygon", args=[corners, style])
        return layer

    def shapes(self, features: list[dict[str, Any]], look: Mapping[str, Any]) -> LeafletLayer:
        """Show GeoJSON features, all in one look."""
        bare = [{"type": "Feature", "geometry": feature["geometry"], "properties": {}} for feature in features]
        content = {"type": "FeatureCollection", "features": bare}
        layer: LeafletLayer = self.leaflet.generic_layer(
            name="geoJSON", args=[content, {"style": dict(look), "interactive": False}]
        )
        return layer

    def draw(self, kind: str) -> None:
        """Let the next clicks draw a shape; `Escape` ends it."""
        self.leaflet.run_map_method("startDrawing", kind, {"shapeOptions": DRAWN})
        self.leaflet.classes(add="satmask-aiming")
        ui.run_javascript(f"getElement({self.leaflet.id}).$el.focus()")  # so that arrows move it

    def add_corner(self) -> None:
        """Put a corner of what is drawn at the middle of the map."""
        self.leaflet.run_map_method("addCorner")

    def finish_drawing(self) -> None:
        """Close what is drawn, if it has corners enough."""
        self.leaflet.run_map_method("finishDrawing")

    def stop_aiming(self) -> None:
        """Take away the cross that marks the middle."""
        self.leaflet.classes(remove="satmask-aiming")

    async def box(self) -> Box | None:
        """South and west, north and east of what is in sight; None if the browser doesn't say."""
        try:
            found = await self.leaflet.run_map_method("getBounds", timeout=3)
        except TimeoutError:
            return None
        if not found:
            return None
        low, high = found["_southWest"], found["_northEast"]
        return (low["lat"], low["lng"]), (high["lat"], high["lng"])

    async def corners(self, layer: LeafletLayer) -> Part:
        """The rings of a shape as it is now."""
        found = await layer.run_method("getLatLngs", timeout=5)
        return [[(float(point["lng"]), float(point["lat"])) for point in ring] for ring in found]

    def remove(self, layer: LeafletLayer) -> None:
        """Take a shape off the map."""
        self.leaflet.remove_layer(layer)


def _lng_lat(event: GenericEventArguments) -> tuple[float, float]:
    point = event.args["latlng"]
    return float(point["lng"]), float(point["lat"])


def _stand(event: GenericEventArguments) -> tuple[float, float, float]:
    lat, lng = event.args["center"]
    return float(lat), float(lng), float(event.args["zoom"])


def _corners(event: GenericEventArguments) -> list[tuple[float, float]]:
    ring = event.args["layer"]["_latlngs"][0]
    return [(float(point["lng"]), float(point["lat"])) for point in ring]
