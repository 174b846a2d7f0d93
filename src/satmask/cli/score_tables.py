"""`satmask score` for tables of polygons: DSTL submissions against the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from satmask.scoring.dstl import AreaScore, SubmissionScore

TRUTH = "train_wkt_v4.csv"


def score_tables(
    submission: Path, truth: Path, *, legend: Path | None, grid: Path | None, by: str | None, as_json: bool
) -> bool:
    """Score a submission and print what came out; says whether all of it could be scored."""
    from satmask import read_legend
    from satmask.cli.output import complain_about, say_json
    from satmask.datasets.dstl import LEGEND
    from satmask.scoring.dstl import score_submission

    classes = read_legend(legend) if legend else LEGEND
    result = score_submission(submission, _table(truth), classes, grid=grid or _sizes(truth))
    groups = result.by(by) if by else {}
    complain_about(result.repaired)
    complain_about(result.doubts)
    complain_about([f"{name}: {reason}" for name, reason in result.failed.items()], what="error")
    if as_json:
        say_json({"dstl": _plain(result, groups)})
    else:
        _print(result, groups)
    return not result.failed


def _table(truth: Path) -> Path:
    from satmask import SettingError

    path = truth / TRUTH if truth.is_dir() else truth
    if path.suffix.lower() != ".csv" or not path.is_file():
        msg = f"Truth of a table of polygons must be a CSV file like {TRUTH}, or the folder that holds it, got {truth}."
        raise SettingError(msg)
    return path


def _sizes(truth: Path) -> Path | None:
    beside = (truth if truth.is_dir() else truth.parent) / "grid_sizes.csv"
    return beside if beside.is_file() else None


def _print(result: SubmissionScore, groups: dict[str, AreaScore]) -> None:
    from satmask.cli.output import complain, say, say_table

    if result.left_out:
        complain(f"note: {len(result.left_out):,} images that only one table names aren't counted.")
    say_table(result.total.table())
    say(f"{len(result.parts):,} image{'s' * (len(result.parts) != 1)}")
    if groups:
        say("")
        say_table([("group", "Jaccard"), *((name, _text(part.score)) for name, part in groups.items())])


def _text(value: float) -> str:
    from math import isnan

    return "–" if isnan(value) else f"{value:.4f}"


def _plain(result: SubmissionScore, groups: dict[str, AreaScore]) -> dict[str, Any]:
    return {
        **result.total.to_dict(),
        "parts": {name: part.to_dict() for name, part in result.parts.items()},
        "groups": {name: part.to_dict() for name, part in groups.items()},
        "left_out": list(result.left_out),
        "repaired": list(result.repaired),
        "doubts": list(result.doubts),
        "failed": dict(result.failed),
    }
