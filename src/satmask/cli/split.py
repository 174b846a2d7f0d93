"""`satmask split`: a data set in, one with a clean split out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from satmask.cli.options import Json, LegendFile, Quiet, SkipInvalid

if TYPE_CHECKING:
    from satmask.splitting import Plan


class Link(StrEnum):
    """How files get into the new folder."""

    hard = "hard"
    symbolic = "symbolic"
    copy = "copy"


def split(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of imagery with labels.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    by: Annotated[
        str, typer.Option(metavar="place|REGEX", help="What stays together: places, or what matches in the names.")
    ] = "place",
    share: Annotated[float, typer.Option(help="Share that validation gets, of the images and of each class.")] = 0.2,
    val: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Images that validation gets, such as 'tile6_*'; repeatable."),
    ] = None,
    part_neighbours: Annotated[
        bool, typer.Option("--part-neighbours", help="Let images side by side whose names tell no place be parted.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another number makes another choice.")] = 0,
    link: Annotated[Link, typer.Option(help="Copy files, or link them, which costs no space.")] = Link.copy,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how it would be split.")] = False,
    legend: LegendFile = None,
    class_field: Annotated[str | None, typer.Option(help="Column of a vector file that tells the class.")] = None,
    skip_invalid: SkipInvalid = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Split a data set for training and validation.

    What shows one place, the same ground or the same picture stays on one side. Writes train/ and val/ in the layout of
    DATA, with splits.csv and splits.json, into --out.
    """
    from satmask import read_dataset, read_legend
    from satmask.cli.output import complain_about, say, say_json
    from satmask.datasets.dataset import refuse
    from satmask.folders import check_empty
    from satmask.progress import track_steps
    from satmask.split_files import write_split
    from satmask.splitting import plan_split

    check_empty(out)
    dataset = read_dataset(data, legend=read_legend(legend) if legend else None, class_field=class_field)
    dataset.require_sound(skip_invalid=skip_invalid)
    images = sum(map(len, dataset.splits.values()))
    with track_steps(dict.fromkeys(("Comparing images", "Counting labels"), images), quiet=quiet) as progress:
        plan = plan_split(
            dataset, by=by, share=share, val=val or (), seed=seed, neighbours=not part_neighbours, progress=progress
        )
    refuse(plan.problems, skip_invalid=skip_invalid)
    if not dry_run:
        write_split(plan, out, link=link.value, legend_given=legend is not None)
    complain_about([problem.what for problem in (*dataset.problems, *plan.problems)])
    complain_about(plan.notes, what="note")
    if as_json:
        say_json(plan.to_dict() | {"out": None if dry_run else out})
        return
    _say(plan)
    say("nothing written" if dry_run else f"written to {out}")


def _say(plan: Plan) -> None:
    from satmask.cli.output import say, say_table

    groups = sorted(plan.groups, key=lambda group: (group.split != "val", -len(group.members)))
    rows = [(group.name, group.split, f"{len(group.members):,}", group.why) for group in groups]
    most = 30
    say_table([("group", "split", "images", "joined by"), *rows[:most]])
    if len(rows) > most:
        say(f"and {len(rows) - most:,} more")
    shares = ", ".join(f"{name} {share:.1%}" for name, share in plan.shares().items())
    say(f"train {len(plan.members('train')):,}   val {len(plan.members('val')):,}   share of val: {shares}")
