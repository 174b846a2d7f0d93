"""`satmask models`: the models that are known by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import Json

if TYPE_CHECKING:
    from satmask.catalogue import CatalogueEntry


def models(
    *,
    fetch: Annotated[str | None, typer.Option(metavar="NAME", help="Download this one now.")] = None,
    card: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Show a model's card: data, scores, limits, licence.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List models that can be used by name, as in `satmask predict NAME scene.tif`.

    Those that aren't shipped are downloaded when they are first used, and checked by their SHA-256 each time.
    """
    from satmask.catalogue import OWN, find_named, read_catalogue
    from satmask.cli.output import complain, say, say_json

    if fetch is not None:
        find_named(Path(fetch))
    if card is not None:
        say(_card(Path(card)))
        return
    entries = list(read_catalogue().values())
    if as_json:
        say_json({"models": [_told(entry) for entry in entries]})
        return
    if not entries:
        complain(f"note: no models are shipped yet, and none can be downloaded. {OWN} names a catalogue of your own.")
    for entry in entries:
        say(_line(entry))


def _card(model: Path) -> str:
    """The card inside a model file."""
    from satmask.assembly import find_model
    from satmask.catalogue import find_named
    from satmask.errors import ModelError
    from satmask.model_file import read_info

    text = read_info(find_model(find_named(model))).training.get("card")
    if not isinstance(text, str):
        msg = f"Model must have a card inside to show, got none in {str(model)!r}. What it says is in `satmask models`."
        raise ModelError(msg)
    return text.rstrip("\n")


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
