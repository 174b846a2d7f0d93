"""`satmask view`: see predictions on a map, judge them, correct them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from satmask.cli.options import LegendFile, Quiet


def view(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", exists=True, help="Folder of predictions, a run, or scenes; or a raster."),
    ],
    *,
    scenes: Annotated[
        list[Path] | None, typer.Option("--scenes", metavar="PATH", help="Where the scenes lie, if not in DIR.")
    ] = None,
    truth: Annotated[Path | None, typer.Option("--truth", exists=True, help="Labels to judge by.")] = None,
    legend: LegendFile = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="MODEL", help="Model to run, besides those in DIR; repeatable."),
    ] = None,
    max_upload: Annotated[
        str, typer.Option(metavar="SIZE", help="What a GeoTIFF may take that is sent to the page; 0 takes none.")
    ] = "2GB",
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Write nothing: no corrections, no uploads, no predictions.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8090,
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this computer's own wants a token.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")] = True,
    quiet: Quiet = False,
) -> None:
    """See, judge, correct and run predictions on a map.

    Serves a page at 127.0.0.1, which shows what lies in DIR and nothing else, until Ctrl-C.
    """
    from functools import partial

    from satmask import read_legend
    from satmask.cli.output import complain, say
    from satmask.errors import InstallError, SettingError
    from satmask.viewing.page.shared import Shared
    from satmask.viewing.running import Runner
    from satmask.viewing.shelf import open_shelf
    from satmask.viewing.shown import Shown
    from satmask.viewing.uploads import Uploads

    try:
        from satmask.viewing.server import serve
    except ModuleNotFoundError as error:
        msg = f"The viewer must have NiceGUI and rio-tiler, got no {error.name}. Run `pip install 'satmask[view]'`."
        raise InstallError(msg) from error
    classes = read_legend(legend) if legend else None
    most = _bytes(max_upload)
    shown = Shown(partial(open_shelf, folder, scenes=tuple(scenes or ()), truth=truth, legend=classes))
    shelf, writes = shown.shelf, folder.is_dir() and not read_only  # of a single raster the folder isn't shown
    if not shelf.places:
        msg = f"Folder to be shown must hold rasters, got none in {str(folder)!r}. Name that of predictions or scenes."
        raise SettingError(msg)
    if not quiet:
        complain(f"{len(shelf.places):,} {'place' if len(shelf.places) == 1 else 'places'} to see; stop with Ctrl-C.")
    shared = Shared(
        shown,
        runner=Runner(shown, model or ()) if writes else None,
        uploads=Uploads(shelf.root, most_bytes=most) if writes and most else None,
        read_only=read_only,
    )
    try:
        serve(shared, host=host, port=port, browser=browser, announce=say)
    except KeyboardInterrupt:
        return


def _bytes(text: str) -> int:
    """Read a size; 0 without a unit is one, too."""
    from satmask.errors import SettingError
    from satmask.prediction.planning import parse_bytes

    try:
        return 0 if text.strip() == "0" else parse_bytes(text)
    except SettingError as error:
        msg = f"--max-upload must be a size such as 500MB, got {text!r}."
        raise SettingError(msg) from error
