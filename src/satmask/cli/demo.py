"""`satmask demo`: the whole pipeline on a synthetic town."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from satmask.cli.options import Json, Quiet


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("demo"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Try it all on a synthetic town.

    Draws a town, trains on it, predicts and scores another, offline and in a few minutes.
    """
    from satmask.cli.output import calm_tensorflow, say, say_json

    with calm_tensorflow():
        from satmask import train  # noqa: F401  # fails here, with the way out, where Keras isn't installed
    from satmask.demo import run_demo

    result = run_demo(out, quiet=quiet)
    if as_json:
        say_json(result)
        return
    for line in result["lines"]:
        say(line)
