"""`satmask score --errors`: what became of the objects, and which are worst, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satmask.grid import Grid
    from satmask.legend import Legend
    from satmask.scoring.comparisons import Comparison
    from satmask.scoring.object_list import ListedObject

Rows = list[tuple[str, ...]]


@dataclass(frozen=True)
class ErrorList:
    """The objects of all images.

    Attributes:
        legend: Their classes.
        objects: Objects by the name of their image.
        grids: Where each image lies.
    """

    legend: Legend
    objects: Mapping[str, list[ListedObject]]
    grids: Mapping[str, Grid]

    def to_dict(self, *, count: int) -> dict[str, Any]:
        """Counts and the worst objects as plain values, for JSON."""
        from satmask.scoring.object_list import count_kinds, locate, worst

        every = [one for listed in self.objects.values() for one in listed]
        return {
            "counts": count_kinds(every, self.legend),
            "worst": {
                name: [{"image": image} | locate(one, self.grids[image]) for image, one in pairs]
                for name, pairs in worst(self.objects, count=count).items()
            },
        }

    def tables(self, *, count: int) -> Iterator[Rows]:
        """The same as tables, for printing."""
        told = self.to_dict(count=count)
        for name, kinds in told["counts"].items():
            rows = [
                ("missed / invented" if kind == "missed" else kind, f"{true:,}", f"{said:,}")
                for kind, (true, said) in kinds.items()
            ]
            yield [(f"objects, {name}", "true", "predicted"), *rows]
        for name, entries in told["worst"].items():
            if entries:
                yield _worst_rows(name, entries)


def _worst_rows(name: str, entries: list[dict[str, Any]]) -> Rows:
    rows: Rows = [(name, "class", "kind", "IoU", "px", "m²", "column", "row", "x", "y", "CRS")]
    for entry in entries:
        decimals = 6 if entry["x"] is not None and max(abs(entry["x"]), abs(entry["y"])) <= 360 else 1
        numbers = (
            *(_text(entry[key], 0) for key in ("area_px", "area_m2", "column", "row")),
            *(_text(entry[key], decimals) for key in ("x", "y")),
        )
        rows.append(
            (entry["image"], entry["class"], entry["kind"], _text(entry["iou"], 3), *numbers, entry["crs"] or "–")
        )
    return rows


def _text(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def find_errors(comparisons: Mapping[str, Comparison]) -> ErrorList:
    """List the objects of every image; see `satmask.scoring.comparisons.compare_objects` for what counts as one."""
    from satmask.scoring.comparisons import find_objects
    from satmask.scoring.object_list import list_objects, placed

    objects, grids = {}, {}
    for name, comparison in comparisons.items():
        with comparison.reader() as (grid, read):
            truth, predicted = find_objects(grid, read, comparison)
        objects[name], grids[name] = list_objects(truth, predicted, comparison.legend), placed(grid, comparison.bounds)
    return ErrorList(next(iter(comparisons.values())).legend, objects, grids)
