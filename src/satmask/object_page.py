"""The part of a run's page about objects: what became of them, and which are furthest from right, with pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from satmask.figures import at_most
from satmask.pictures import panel_key, panels
from satmask.report import Picture, Section, Table
from satmask.sample_objects import KEPT
from satmask.scoring.object_list import RANKINGS, locate, worst
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from satmask.legend import Legend
    from satmask.pictures import Example
    from satmask.report import Value
    from satmask.scoring.object_list import ListedObject
    from satmask.validation import Verdict

SHOWN = 4  # worst objects of each ranking on the page
AROUND, NEAREST = 1.8, 64  # sides of what is shown: times those of the object, and pixels at least
PICTURE, GAP = 400, 4
TITLES = {"missed": "Missed objects", "invented": "Invented objects", "badly drawn": "Badly drawn objects"}
KINDS = {
    "matched": "IoU of 0.5 or more with one object of the other side",
    "doubled": "IoU above 0.5, but with an object that has another match",
    "merged": "several true objects in one predicted",
    "split": "several predicted objects in one true",
    "boundary": "IoU of 0.1 to 0.5",
    "missed": "IoU below 0.1: missed if true, invented if predicted",
}


@dataclass(frozen=True)
class ShownObject:
    """One of the worst objects, with its picture.

    Attributes:
        image: Name of its sample.
        listed: What became of it.
        told: The same as `satmask.scoring.object_list.locate` tells it.
        window: What is shown of the sample.
        example: The picture.
    """

    image: str
    listed: ListedObject
    told: dict[str, Any]
    window: Window
    example: Example


def collect_objects(verdicts: Sequence[Verdict], legend: Legend) -> dict[str, Any] | None:
    """What became of all objects, as plain values for JSON; None where they weren't listed.

    Args:
        verdicts: Of `satmask.validation.judge`.
        legend: The classes.

    Returns:
        `counts` by class and kind, true and predicted; `worst` by ranking; `left_out`, the samples that were too large.
    """
    found = [verdict.objects.kinds for verdict in verdicts if verdict.objects]
    if not found:
        return None
    return {
        "counts": {
            name: {kind: np.sum([kinds[name][kind] for kinds in found], axis=0).tolist() for kind in KINDS}
            for name in legend.names
        },
        "worst": {
            name: [{"image": verdict.sample.name} | told for verdict, _, told in found]
            for name, found in find_worst(verdicts, count=KEPT).items()
        },
        "left_out": [verdict.sample.name for verdict in verdicts if not verdict.objects],
    }


def find_worst(
    verdicts: Sequence[Verdict], *, count: int = SHOWN
) -> dict[str, list[tuple[Verdict, ListedObject, dict[str, Any]]]]:
    """The worst objects of each ranking, with where they are."""
    # By place in the list, for names of samples may repeat.
    numbered = {f"{place:09d}": verdict for place, verdict in enumerate(verdicts)}
    listed = {number: verdict.objects.worst if verdict.objects else () for number, verdict in numbered.items()}
    ranked = worst(listed, count=count)
    return {
        name: [(numbered[number], one, _told(numbered[number], one)) for number, one in pairs]
        for name, pairs in ranked.items()
    }


def _told(verdict: Verdict, one: ListedObject) -> dict[str, Any]:
    from satmask.grid import Grid

    return locate(one, verdict.grid or Grid(*verdict.sample.shape))


def window_around(one: ListedObject, shape: tuple[int, int]) -> Window:
    """A square around an object, as far as the image reaches.

    Examples:
        >>> from satmask.scoring.object_list import ListedObject
        >>> house = ListedObject("house", "truth", "missed", 0.0, 100.0, (2, 40, 12, 50), 7, 45)
        >>> window_around(house, (200, 100))
        Window(row=13, column=0, height=64, width=64)
    """
    left, top, right, bottom = one.bounds
    side = max(round(AROUND * max(right - left, bottom - top)), NEAREST)
    height, width = min(side, shape[0]), min(side, shape[1])
    row = min(max(round((top + bottom - height) / 2), 0), shape[0] - height)
    column = min(max(round((left + right - width) / 2), 0), shape[1] - width)
    return Window(row, column, height, width)


def object_sections(
    errors: Mapping[str, Any],
    shown: Mapping[str, Sequence[ShownObject]],
    legend: Legend,
    quality: int,
) -> list[Section]:
    """Lay out what became of objects.

    Args:
        errors: As `collect_objects` gives it.
        shown: The worst of each ranking.
        legend: The classes.
        quality: Of photographs, 1 to 100.
    """
    return [_table(errors), *(_gallery(name, shown[name], legend, quality) for name in RANKINGS if shown.get(name))]


def _table(errors: Mapping[str, Any]) -> Section:
    counts: dict[str, dict[str, list[int]]] = errors["counts"]
    several, left_out = len(counts) > 1, len(errors["left_out"])
    rows: list[list[Value]] = [
        [*([name] if several else []), "missed, invented" if kind == "missed" else kind, true, said, KINDS[kind]]
        for name, kinds in counts.items()
        for kind, (true, said) in kinds.items()
        if true or said
    ]
    headers = [*(["Class"] if several else []), "Kind", "True", "Predicted", "Which means"]
    text = (
        "Each true and each predicted object is of exactly one kind, the first that fits: true ones as the labels have "
        "them, predicted ones groups of pixels that share edges."
    )
    if left_out:
        text += (
            f" {left_out:,} of the images {'is' if left_out == 1 else 'are'} left out: too large, or full of specks."
        )
    return Section("Objects", text, [Table(headers, rows)])


def _gallery(name: str, shown: Sequence[ShownObject], legend: Legend, quality: int) -> Section:
    systems = sorted({one.told["crs"] for one in shown if one.told["crs"]})
    rows = [_row(place, one) for place, one in enumerate(shown, start=1)]
    kept = [
        column
        for column in rows[0]
        if not (column == "Class" and len(legend) == 1)
        and not (column == "Kind" and name != "badly drawn")
        and not (column in ("x", "y") and not systems)
        and not (column == "CRS" and len(systems) < 2)
    ]
    where = f" Coordinates x and y are those of {systems[0]}." if len(systems) == 1 else ""
    pictures = [
        picture for place, one in enumerate(shown, start=1) for picture in _pictures(place, one, legend, quality)
    ]
    table = Table([column.replace("No.", "") for column in kept], [[row[column] for column in kept] for row in rows])
    key = panel_key(legend)[len(legend) :]  # kinds of errors: no classes are drawn
    return Section(TITLES[name], f"{RANKINGS[name]} A box marks each.{where}", [table], pictures, columns=4, key=key)


def _row(place: int, one: ShownObject) -> dict[str, Value]:
    """Cells of a table by their headers; "No." stays without one."""
    told = one.told
    degrees = told["crs"] is not None and max(abs(told["x"]), abs(told["y"])) <= 360
    x, y = (None if told["crs"] is None else f"{told[axis]:.{6 if degrees else 1}f}" for axis in ("x", "y"))
    return {
        "No.": f"{place}.",
        "Image": one.image,
        "Class": told["class"],
        "Kind": told["kind"],
        "IoU": told["iou"],
        "Pixels": round(told["area_px"]),
        "m²": None if told["area_m2"] is None else round(told["area_m2"]),
        "Column": int(told["column"]),
        "Row": int(told["row"]),
        "x": x,
        "y": y,
        "CRS": told["crs"],
    }


def _pictures(place: int, one: ShownObject, legend: Legend, quality: int) -> list[Picture]:
    """Image and error, with a box around the object."""
    drawn = panels(one.example, legend, side=PICTURE)
    what = f"{one.listed.name}, {one.listed.kind}, in {one.image}"
    return [
        Picture.photo(
            _boxed(at_most(drawn[kind], 2 * PICTURE), one),
            f"{kind.capitalize()} of {what}",
            f"{place}. {kind}",
            quality=quality,
        )
        for kind in ("image", "error")
    ]


def _boxed(rgb: npt.NDArray[np.uint8], one: ShownObject) -> npt.NDArray[np.uint8]:
    """Draw a box around the object, white with a dark rim, so that it shows on any ground; it stays in the picture."""
    left, top, right, bottom = one.listed.bounds
    factor, most = rgb.shape[0] / one.window.height, np.array(rgb.shape[1::-1]) - 1
    low = np.array([left - one.window.column, top - one.window.row]) * factor - GAP
    high = np.array([right - one.window.column, bottom - one.window.row]) * factor + GAP
    corners = [np.clip(np.rint(corner), GAP, most - GAP).astype(int).tolist() for corner in (low, high)]
    boxed = np.ascontiguousarray(rgb)
    for colour, wide in (((20, 24, 28), 5), ((255, 255, 255), 2)):
        cv2.rectangle(boxed, corners[0], corners[1], colour, wide)
    return boxed
