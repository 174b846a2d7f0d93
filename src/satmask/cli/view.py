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
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8090,
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this computer's own wants a token.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")] = True,
    quiet: Quiet = False,
) -> None:
    """See, judge and correct predictions on a map.

    Serves a page at 127.0.0.1, which shows what lies in DIR and nothing else, until Ctrl-C.
    """
    from satmask import read_legend
    from satmask.cli.output import complain, say
    from satmask.errors import InstallError, SettingError
    from satmask.viewing.shelf import open_shelf

    try:
        from satmask.viewing.server import serve
    except ModuleNotFoundError as error:
        msg = f"The viewer must have NiceGUI and rio-tiler, got no {error.name}. Run `pip install 'satmask[view]'`."
        raise InstallError(msg) from error
    classes = read_legend(legend) if legend else None
    shelf = open_shelf(folder, scenes=tuple(scenes or ()), truth=truth, legend=classes)
    if not shelf.places:
        msg = f"Folder to be shown must hold rasters, got none in {str(folder)!r}. Name that of predictions or scenes."
        raise SettingError(msg)
    if not quiet:
        complain(f"{len(shelf.places):,} {'place' if len(shelf.places) == 1 else 'places'} to see; stop with Ctrl-C.")
    try:
        serve(shelf, host=host, port=port, browser=browser, announce=say)
    except KeyboardInterrupt:
        return
