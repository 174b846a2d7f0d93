"""`satmask submit`: predictions to a benchmark's result file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from satmask.cli.options import File, Json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from satmask.submission import PredictedTile


class Score(StrEnum):
    """How sure a building is."""

    mean = "mean"
    mean_sqrt_area = "mean_sqrt_area"


class Segmentation(StrEnum):
    """How a building's pixels are written."""

    rle = "rle"
    polygons = "polygons"


def submit(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="Folder that predict wrote.", exists=True, file_okay=False)
    ],
    *,
    out: Annotated[Path, typer.Option(help="Result file to write.")],
    truth: Annotated[Path | None, typer.Option(**File, help="Annotation file that has the tiles' ids.")] = None,
    score: Annotated[Score, typer.Option(help="How sure a building is.")] = Score.mean,
    segmentation: Annotated[Segmentation, typer.Option(help="How its pixels are written.")] = Segmentation.rle,
    as_json: Json = False,
) -> None:
    """Write crowdAI's result file."""
    from satmask import write_crowdai
    from satmask.cli.output import say, say_json
    from satmask.submission import find_tiles

    names: list[int] = []
    tiles = _noted(find_tiles(predictions, truth=truth), names)
    count = write_crowdai(out, tiles, truth=truth, score=score.value, segmentation=segmentation.value)
    if as_json:
        say_json({"file": out, "tiles": len(names), "detections": count})
    else:
        say(f"{count:,} buildings in {len(names):,} tiles written to {out}")


def _noted(tiles: Iterable[PredictedTile], names: list[int]) -> Iterator[PredictedTile]:
    for tile in tiles:
        names.append(tile.image_id)
        yield tile
