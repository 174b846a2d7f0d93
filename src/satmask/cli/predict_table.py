"""The table at the end of `satmask predict`: one row a scene, and how it went."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

MOST = 50
"""Scenes listed one by one; of more only those that failed, and the sums."""


def summary(done: list[dict[str, Any]], failed: list[dict[str, Any]]) -> list[list[str]]:
    """Rows under a head: each scene with its status, and the sums.

    Args:
        done: What was written for each scene: `scene`, `megapixels`, `objects` and `polygons`.
        failed: `scene` and `reason` of the others.

    Returns:
        Rows for `satmask.cli.output.say_table`.

    Examples:
        >>> rows = summary([{"scene": "a/b.tif", "megapixels": 2.0, "objects": 7, "polygons": "b.gpkg"}], [])
        >>> rows[1], rows[-1]
        (['b.tif', 'done', '2.00', '7', ''], ['1 of 1', 'done', '2.00', '7', ''])
    """
    few = len(done) + len(failed) <= MOST
    rows = [["scene", "status", "MP", "polygons", "reason"]]
    listed = done if few else []
    rows += [[_name(one["scene"]), "done", f"{one['megapixels']:.2f}", _objects([one]), ""] for one in listed]
    rows += [[_name(one["scene"]), "failed", "", "", f"{one['reason']:.120}"] for one in failed]
    total = sum(one["megapixels"] for one in done)
    rows.append([f"{len(done)} of {len(done) + len(failed)}", "done", f"{total:,.2f}", _objects(done), ""])
    return rows


def print_summary(done: list[dict[str, Any]], failed: list[dict[str, Any]]) -> None:
    """Print the table of several scenes to stderr, since stdout holds the results themselves; of one nothing.

    Args:
        done: See `summary`.
        failed: See `summary`.
    """
    if len(done) + len(failed) < 2:
        return
    import sys

    rows = summary(done, failed)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, status, size, objects, why in rows:
        cells = (name.ljust(widths[0]), status.ljust(widths[1]), size.rjust(widths[2]), objects.rjust(widths[3]), why)
        sys.stderr.write("  ".join(cells).rstrip() + "\n")
    sys.stderr.flush()


def _objects(done: list[dict[str, Any]]) -> str:
    """Number of polygons, where some were asked for."""
    counts = [one["objects"] for one in done if one["polygons"]]
    return f"{sum(counts):,}" if counts else ""


def _name(scene: str) -> str:
    return PurePath(scene).name or scene
