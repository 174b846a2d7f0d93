"""`satmask inspect`: what a data set holds and what is wrong with it, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from satmask.cli.options import Json, LegendFile, Quiet

if TYPE_CHECKING:
    from satmask.findings import Finding
    from satmask.inspection import Inspection

SHOWN = 3  # examples printed of each finding; the page and --json have more


def inspect(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of imagery with labels.")],
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Page to write; inspection-NAME.html here by default.")
    ] = None,
    legend: LegendFile = None,
    class_field: Annotated[str | None, typer.Option(help="Column of a vector file that tells the class.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if there are problems.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Look at imagery and labels before training.

    Counts what DATA holds, lists what is wrong with it, worst first, and writes a page with pictures: broken files,
    labels that lie off, duplicates, and ground that is seen in two splits.
    """
    from satmask import read_dataset, read_legend
    from satmask.cli.output import say, say_json
    from satmask.findings import findings_of
    from satmask.inspection import inspect as look_at
    from satmask.inspection import steps
    from satmask.inspection_page import write_inspection
    from satmask.progress import track_steps

    dataset = read_dataset(data, legend=read_legend(legend) if legend else None, class_field=class_field)
    with track_steps(steps(dataset), unit="images", quiet=quiet) as advance:
        found = look_at(dataset, progress=advance)
    findings = findings_of(found)
    page = out or Path(f"inspection-{dataset.root.resolve().name}.html")
    write_inspection(found, findings, page)
    if as_json:
        say_json(found.to_dict() | {"findings": [finding.to_dict() for finding in findings], "page": page})
    else:
        _say(found, findings)
        say(f"page  {page}")
    if strict and any(finding.is_problem for finding in findings):
        raise typer.Exit(3)


def _say(found: Inspection, findings: list[Finding]) -> None:
    from satmask.cli.output import say, say_table
    from satmask.inspection_page import facts

    say_table(facts(found))
    for finding in findings:
        say(f"\n{finding.severity}: {finding.what}")
        for example in finding.examples[:SHOWN]:
            say(f"  {example}")
        if len(finding.examples) > SHOWN:
            say(f"  … and {len(finding.examples) - SHOWN:,} more")
        say(f"  → {finding.advice}")
    if not findings:
        say("\nNothing was found wrong.")
    say("")
