"""Corrections: labels that a person accepts, deletes, reshapes and draws, kept beside the scene in a file of their own.

`NAME.labels.gpkg` is what the layout of scenes reads as the labels of `NAME`, before all others, so `satmask train` takes it
as it is. Nobody's file is written over: neither the scene, nor its truth, nor a prediction.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import geopandas
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from satmask.datasets.scenes import LABELS
from satmask.errors import DataError, SettingError
from satmask.legend import Legend
from satmask.polygons import place as to_ground
from satmask.polygons import read_polygons, true_areas, write_polygons
from satmask.viewing.drawn import as_polygons, to_map
from satmask.viewing.files import NotFoundError, ShelfFile
from satmask.viewing.handles import Stamp, stamp
from satmask.viewing.outlines import outlines_of
from satmask.viewing.shelf import Place
from satmask.viewing.starting import Status, starting_labels

MOST_UNDONE = 500
"""Changes that can be undone."""


@dataclass(frozen=True)
class Label:
    """A polygon and what was said of it.

    Attributes:
        shape: The polygon, in the scene's CRS; in pixels where it has none.
        class_id: Its class; None where nothing is known inside it.
        status: "truth" where it was there before, "proposed" where a network said it and nobody has looked, "accepted",
            "reshaped", "drawn" by a person, or "ignored".
    """

    shape: BaseGeometry
    class_id: int | None
    status: Status

    @property
    def ignored(self) -> bool:
        """Whether training leaves its pixels out: what nobody has looked at is neither there nor not there."""
        return self.status in ("proposed", "ignored")


class Corrections:
    """The labels of a place, as a person corrects them. Safe in threads.

    They begin with what an earlier session saved; else with the truth; else with the predicted polygons, as proposals.

    Args:
        place: The place.
        legend: The classes, where the place has none of its own.
        autosave: Whether every change is saved at once.

    Attributes:
        path: The file.
        legend: The classes.
        unsaved: Whether something has changed since it was saved.

    Raises:
        SettingError: If nobody says what the classes are.
        DataError: If the file can't be read, or isn't one that this wrote.
    """

    def __init__(self, place: Place, *, legend: Legend | None = None, autosave: bool = True) -> None:
        chosen = place.legend or legend
        if chosen is None:
            msg = f"Labels must have classes, got none for {place.name}. Give a legend."
            raise SettingError(msg)
        self.place, self.legend, self.autosave, self.unsaved = place, chosen, autosave, False
        beside = _beside(place)
        self.path, self._root = beside.path.with_name(f"{place.files.stem}{LABELS}.gpkg"), beside.root
        self._lock = threading.RLock()
        self._history: list[tuple[int, Label | None]] = []
        self._stamp: Stamp | None = None
        self._labels = dict(enumerate(self._read() if self.path.exists() else self._start(), start=1))
        self._next = len(self._labels) + 1

    @property
    def labels(self) -> dict[int, Label]:
        """The labels by their ids."""
        with self._lock:
            return dict(self._labels)

    def features(self) -> dict[str, Any]:
        """The labels as a GeoJSON FeatureCollection in map coordinates, with what was said of each."""
        labels = self.labels
        shapes = np.asarray([*(label.shape for label in labels.values()), None], object)[:-1]
        areas = true_areas(shapes, self.place.grid.crs)
        found = [
            {
                "type": "Feature",
                "id": id_,
                "geometry": shapely.geometry.mapping(to_map(label.shape, self.place)),
                "properties": self._told(label) | {"area_m2": float(area) if np.isfinite(area) else None},
            }
            for (id_, label), area in zip(labels.items(), areas, strict=True)
        ]
        return {"type": "FeatureCollection", "features": found}

    def accept(self, id_: int, *, class_id: int | None = None) -> int:
        """Say that a polygon is right, or what its class is.

        Raises:
            NotFoundError: If there is no such polygon.
            SettingError: If it has no class.
        """
        with self._lock:
            label = self._label(id_)
            wanted = label.class_id if class_id is None else class_id
            return self._set(id_, Label(label.shape, self._class(wanted), "accepted"))

    def delete(self, id_: int) -> None:
        """Say that there is no such thing.

        Raises:
            NotFoundError: If there is no such polygon.
        """
        with self._lock:
            self._label(id_)
            self._set(id_, None)

    def reshape(self, id_: int, geometry: Mapping[str, Any]) -> int:
        """Give a polygon another outline.

        Args:
            id_: The polygon.
            geometry: GeoJSON in map coordinates.

        Raises:
            NotFoundError: If there is no such polygon.
            DataError: If the outline is none, or lies outside the scene.
        """
        shape = as_polygons(geometry, self.place)
        with self._lock:
            label = self._label(id_)
            status: Status = "ignored" if label.status == "ignored" else "reshaped"
            return self._set(id_, replace(label, shape=shape, status=status))

    def draw(self, geometry: Mapping[str, Any], class_id: int) -> int:
        """Add a polygon.

        Args:
            geometry: GeoJSON in map coordinates.
            class_id: Its class.

        Returns:
            Its id.

        Raises:
            SettingError: If there is no such class.
            DataError: If the outline is none, or lies outside the scene.
        """
        return self._add(Label(as_polygons(geometry, self.place), self._class(class_id), "drawn"))

    def ignore(self, geometry: Mapping[str, Any]) -> int:
        """Say that nothing is known inside an outline: training leaves its pixels out.

        Returns:
            Its id.

        Raises:
            DataError: If the outline is none, or lies outside the scene.
        """
        return self._add(Label(as_polygons(geometry, self.place), None, "ignored"))

    def adopt(self, number: int) -> int:
        """Add a polygon of the prediction, as accepted.

        Args:
            number: Its id among the features of the place's layer of polygons.

        Returns:
            Its id among the labels.

        Raises:
            NotFoundError: If there is no such polygon.
        """
        layer = self.place.first("polygons")
        outlines = outlines_of(self.place.view, layer) if layer is not None else None
        if outlines is None or not 0 <= number < len(outlines.shapes) or outlines.channels[number] < 0:
            raise NotFoundError
        shape = to_ground(outlines.shapes[number : number + 1], self.place.grid)[0]
        return self._add(Label(shape, self.legend.ids[outlines.channels[number]], "accepted"))

    def undo(self) -> bool:
        """Take back the last change that wasn't taken back yet; False if there is none."""
        with self._lock:
            if not self._history:
                return False
            id_, before = self._history.pop()
            self._put(id_, before)
            return True

    def save(self) -> Path:
        """Write the labels; the file is whole at every moment, whatever happens.

        Raises:
            DataError: If somebody else has written it meanwhile.
        """
        with self._lock:
            if (stamp(self.path) if self.path.exists() else None) != self._stamp:
                msg = f"Labels must not be written by two at once, got others in {self.path.name} meanwhile. Open it anew."
                raise DataError(msg)
            if not self.path.parent.resolve().is_relative_to(self._root):
                raise NotFoundError
            write_polygons(self._frame(), self.path)
            self._stamp, self.unsaved = stamp(self.path), False
            return self.path

    def _start(self) -> list[Label]:
        shapes = starting_labels(self.place, self.legend)
        return [Label(shape, class_id, status) for shape, class_id, status in shapes]

    def _read(self) -> list[Label]:
        frame = read_polygons(self.path)
        if "status" not in frame.columns:
            msg = f"Labels to be corrected must be a file that the viewer wrote, got another: {self.path.name}. Rename it."
            raise DataError(msg)
        self._stamp = stamp(self.path)
        known = get_args(Status)
        ids = [None if pd.isna(id_) else int(id_) for id_ in frame["class_id"]]
        return [
            Label(shape, id_ if id_ in self.legend.ids else None, status if status in known else "truth")
            for shape, id_, status in zip(frame.geometry, ids, frame["status"], strict=True)
            if shape is not None and not shape.is_empty
        ]

    def _frame(self) -> geopandas.GeoDataFrame:
        labels = list(self._labels.values())
        told = [self._told(label) for label in labels]
        columns = {
            "class_id": pd.array([row["class_id"] for row in told], dtype="Int32"),
            "class": pd.Series([row["class"] for row in told], dtype="str"),
            "status": pd.Series([row["status"] for row in told], dtype="str"),
            "ignore": np.array([row["ignore"] for row in told], bool),
        }
        shapes = np.asarray([*(label.shape for label in labels), None], object)[:-1]
        return geopandas.GeoDataFrame(columns, geometry=shapes, crs=self.place.grid.crs)

    def _told(self, label: Label) -> dict[str, Any]:
        id_ = label.class_id
        name = None if id_ is None else self.legend.names[self.legend.channel(id_)]
        return {"class_id": id_, "class": name, "status": label.status, "ignore": label.ignored}

    def _label(self, id_: int) -> Label:
        try:
            return self._labels[id_]
        except (KeyError, TypeError):
            raise NotFoundError from None

    def _class(self, class_id: int | None) -> int:
        if class_id is None:
            msg = "Label must have a class to be accepted, got none. Say which."
            raise SettingError(msg)
        return self.legend.ids[self.legend.channel(class_id)]

    def _add(self, label: Label) -> int:
        with self._lock:
            self._next += 1
            return self._set(self._next - 1, label)

    def _set(self, id_: int, label: Label | None) -> int:
        self._history.append((id_, self._labels.get(id_)))
        del self._history[:-MOST_UNDONE]
        self._put(id_, label)
        return id_

    def _put(self, id_: int, label: Label | None) -> None:
        if label is None:
            self._labels.pop(id_, None)
        else:
            self._labels[id_] = label
        self.unsaved = True
        if self.autosave:
            self.save()


def _beside(place: Place) -> ShelfFile:
    """The file that labels lie beside: the scene if it lies in the folder that is shown, else its prediction."""
    files = place.files
    said = next((file for file in files.rasters if file is not files.image), None)
    first = files.image if files.image is not None and (said is None or said.root == files.image.root) else said
    if first is None:
        raise NotFoundError
    return first
