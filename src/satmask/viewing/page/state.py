"""What the page shows, as it stands in the address: whoever opens the address sees the same."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

MOST_LAYERS = 32
MOST_CLASSES = 256
PANELS = ("judge", "correct", "run")
ID = re.compile(r"[a-z0-9]{1,64}")


@dataclass(frozen=True, slots=True)
class View:
    """What a person looks at; what is None is up to the page.

    An address may come from anywhere, so what it says wrongly is as if it weren't there.

    Attributes:
        place: Id of a place.
        at: Latitude, longitude and zoom of the map's centre, or y, x and zoom for images without a CRS.
        layers: Layers that are shown, with their opacity from 0 to 100; the last lies on top.
        swipe: Id of the layer that is shown only right of the swipe's handle.
        hidden: Ids of classes that are switched off.
        class_id: Class whose probability is shown.
        threshold: Probability from which a pixel has the class, 0 to 1; None shows the probability itself.
        bands: Bands shown as red, green and blue, counted from 1.
        percent: Percentiles of each band that become black and white.
        panel: The panel that is open: "judge", "correct" or "run"; None is that of layers.

    Examples:
        >>> view = View(place="a1", layers=(("b2", 80),), threshold=0.4)
        >>> view.query
        'place=a1&layers=b2.80&threshold=0.4'
        >>> View.read({"place": "a1", "layers": "b2.80", "threshold": "0.4"}) == view
        True
    """

    place: str | None = None
    at: tuple[float, float, float] | None = None
    layers: tuple[tuple[str, int], ...] | None = None
    swipe: str | None = None
    hidden: tuple[int, ...] = ()
    class_id: int | None = None
    threshold: float | None = None
    bands: tuple[int, int, int] | None = None
    percent: tuple[float, float] | None = None
    panel: str | None = None

    @classmethod
    def read(cls, query: Mapping[str, str]) -> View:
        """Read a view from the parts of an address."""
        at = _numbers(query.get("at"), 3, -1e9, 1e9)
        bands = _numbers(query.get("bands"), 3, 1, 1e5)
        percent = _numbers(query.get("percent"), 2, 0, 100)
        threshold = _numbers(query.get("threshold"), 1, 0, 1)
        class_id = _numbers(query.get("class"), 1, 0, 65534)
        low, high = percent or (0, 0)
        return cls(
            place=_id(query.get("place")),
            at=(at[0], at[1], at[2]) if at else None,
            layers=_layers(query.get("layers")),
            swipe=_id(query.get("swipe")),
            hidden=_ids(query.get("hidden")),
            class_id=int(class_id[0]) if class_id else None,
            threshold=threshold[0] if threshold else None,
            bands=(int(bands[0]), int(bands[1]), int(bands[2])) if bands else None,
            percent=(low, high) if low < high else None,
            panel=query.get("panel") if query.get("panel") in PANELS else None,
        )

    @property
    def query(self) -> str:
        """The view as the part of an address after the question mark."""
        parts = {
            "place": self.place,
            "at": self.at and f"{self.at[0]:.6f},{self.at[1]:.6f},{self.at[2]:g}",
            "layers": None if self.layers is None else ",".join(f"{id_}.{opacity}" for id_, opacity in self.layers),
            "swipe": self.swipe,
            "hidden": _joined(self.hidden) or None,
            "class": self.class_id,
            "threshold": None if self.threshold is None else f"{self.threshold:g}",
            "bands": self.bands and _joined(self.bands),
            "percent": self.percent and _joined(self.percent),
            "panel": self.panel,
        }
        return urlencode({name: value for name, value in parts.items() if value is not None}, safe=",")

    def moved(self, at: tuple[float, float, float]) -> View:
        """The same view from elsewhere."""
        return replace(self, at=at)


def _joined(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _numbers(text: str | None, count: int, low: float, high: float) -> tuple[float, ...] | None:
    """Some finite numbers within bounds; None for anything else."""
    try:
        values = tuple(float(part) for part in (text or "").split(","))
    except ValueError:
        return None
    fit = len(values) == count and all(math.isfinite(value) and low <= value <= high for value in values)
    return values if fit else None


def _id(text: str | None) -> str | None:
    return text if text and ID.fullmatch(text) else None


def _ids(text: str | None) -> tuple[int, ...]:
    parts = (text or "").split(",")[:MOST_CLASSES]
    return tuple(dict.fromkeys(int(part) for part in parts if re.fullmatch(r"[0-9]{1,5}", part)))


def _layers(text: str | None) -> tuple[tuple[str, int], ...] | None:
    if text is None:
        return None
    found = re.findall(r"(?:^|,)([a-z0-9]{1,64})\.([0-9]{1,3})(?=,|$)", text)
    if text and not found:
        return None
    return tuple((id_, min(int(opacity), 100)) for id_, opacity in found[:MOST_LAYERS])
