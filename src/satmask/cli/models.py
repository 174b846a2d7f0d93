"""`satmask models`: the models that are known by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import Json

if TYPE_CHECKING:
    from satmask.catalogue import CatalogueEntry


def models(
    *,
    fetch: Annotated[str | None, typer.Option(metavar="NAME", help="Download this one now.")] = None,
    as_json: Json = False,
) -> None:
    """List models that can be used by name, as in `satmask predict NAME scene.tif`.

    Those that aren't shipped are downloaded when they are first used, and checked by their SHA-256 each time.
    """
    from pathlib import Path

    from satmask.catalogue import OWN, find_named, read_catalogue
    from satmask.cli.output import complain, say, say_json

    if fetch is not None:
        find_named(Path(fetch))
    entries = list(read_catalogue().values())
    if as_json:
        say_json({"models": [_told(entry) for entry in entries]})
        return
    if not entries:
        complain(f"note: no models are shipped yet, and none can be downloaded. {OWN} names a catalogue of your own.")
    for entry in entries:
        say(_line(entry))


def _told(entry: CatalogueEntry) -> dict[str, Any]:
    """An entry as JSON."""
    told = entry.model_dump(mode="json", exclude={"folder", "model", "network"})
    return told | {
        "size_bytes": entry.size_bytes,
        "sha256": entry.model.sha256,
        "start": entry.network is not None,
        "here": entry.here,
        "path": entry.path(entry.model, "model.onnx"),
    }


def _line(entry: CatalogueEntry) -> str:
    """An entry in three lines."""
    low, high = entry.gsd_m
    where = "here" if entry.here else "to download"
    return (
        f"{entry.name} {entry.version}  {entry.summary}\n"
        f"  {', '.join(entry.classes)}; {low:g}–{high:g} m; {entry.size_bytes / 1e6:.1f} MB, {where}; {entry.licence}\n"
        f"  sha256 {entry.model.sha256}"
    )
