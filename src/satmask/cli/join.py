"""`satmask join`: tiles in, scenes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from satmask.cli.options import Json, LegendFile, Quiet, SkipInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.joining import JoinedScene


def join(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of tiles with labels.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    *,
    legend: LegendFile = None,
    skip_invalid: SkipInvalid = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put tiles that lie side by side together into scenes.

    Tiles tell their place in their names, …-x-y-zoom or …_r0_c0. Objects that were cut at the edges of tiles are made
    whole. Writes GeoTIFFs with their polygons or masks, and legend.toml, into OUT.
    """
    from satmask import read_dataset, read_legend
    from satmask.cli.output import complain_about, say, say_json
    from satmask.folders import check_empty
    from satmask.joining import join_tiles
    from satmask.progress import track

    check_empty(out)
    dataset = read_dataset(data, legend=read_legend(legend) if legend else None)
    dataset.require_sound(skip_invalid=skip_invalid)
    tiles = sum(map(len, dataset.splits.values()))
    with track("Joining tiles", tiles, unit="tiles", quiet=quiet) as advance:
        found = join_tiles(dataset, out, progress=advance)
    complain_about([problem.what for problem in dataset.problems])
    if as_json:
        say_json({"out": out, "scenes": [scene.to_dict() for scene in found]})
        return
    _say(found)
    say(f"written to {out}")


def _say(found: Sequence[JoinedScene]) -> None:
    from satmask.cli.output import say, say_table

    rows = [
        (
            f"{scene.split}/{scene.name}",
            f"{scene.width:,} × {scene.height:,}",
            f"{scene.tiles:,}",
            "mask" if scene.polygons is None else f"{scene.polygons:,} of {scene.pieces:,}",
            "unknown" if scene.gsd_m is None else f"{scene.gsd_m:.3f} m",
        )
        for scene in found
    ]
    say_table([("scene", "size", "tiles", "polygons of pieces", "gsd"), *rows])
    say(f"{len(found):,} scenes of {sum(scene.tiles for scene in found):,} tiles")
