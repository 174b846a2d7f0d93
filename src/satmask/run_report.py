"""The report of a run: scores of the trained network for machines, and one page for people."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from satmask import validation
from satmask.engines import open_engine
from satmask.labels import PolygonLabels
from satmask.object_page import ShownObject, collect_objects, find_worst, window_around
from satmask.progress import track
from satmask.report import render_small
from satmask.run import write_text
from satmask.run_page import Findings, page_of
from satmask.scoring.pixels import Confusion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from satmask.datasets.dataset import Dataset
    from satmask.engines import Engine
    from satmask.run import Run
    from satmask.scoring.object_list import ListedObject
    from satmask.survey import Survey
    from satmask.validation import Verdict, View

SHOWN = 4  # best and worst views on the page


def report_run(run: Run, data: Dataset, held: Survey, split: str, *, quiet: bool = False) -> dict[str, Any]:
    """Score a run's model file on the validation samples; write `scores.json` and `report.html`.

    The model file itself is run, as `satmask predict` runs it, so the scores are those of what users get.

    Args:
        run: The run; its model file, recipe and history are there.
        data: The data set.
        held: Survey of its validation samples.
        split: A sentence that says how they were chosen.
        quiet: Show no progress.

    Returns:
        The content of `scores.json`: `data`, `model`, `total`, `probabilities`, `errors`, `objects`, `places` and `samples`.

    Raises:
        ModelError: If the model file can't be used.
        SceneError: If an image can't be decoded.
    """
    engine = open_engine(run.model)
    objects = data.layout == "coco" and all(
        len(sample.labels.legend) == 1 and isinstance(sample.labels, PolygonLabels) for sample in held.samples
    )
    with track("Scoring", len(held.samples), unit="images", quiet=quiet) as advance:
        verdicts, spread = validation.judge(engine, held, objects=objects, progress=advance)
        scores = collect(run, data, split, verdicts)
        scores["probabilities"] = spread.to_dict()
        scores["errors"] = collect_objects(verdicts, engine.info.legend)
        scores["objects"] = validation.score_objects(verdicts).to_dict() if objects else None
        advance(0, f"IoU {scores['total']['mean']['iou'] or 0:.4f} on {len(verdicts):,} validation images")
    write_text(run.folder / "scores.json", json.dumps(scores, ensure_ascii=False) + "\n")
    shown = {
        name: [(view, validation.illustrate(engine, view, held)) for view in views]
        for name, views in choose(validation.rank(verdicts)).items()
    }
    counts = validation.add(verdict.counts for verdict in verdicts)
    worst = {name: [_shown(engine, held, *one) for one in found] for name, found in find_worst(verdicts).items()}
    findings = Findings(run, data, held, split, engine.info, counts, spread, scores, shown, worst)
    write_text(run.folder / "report.html", render_small(lambda quality: page_of(findings, quality=quality)))
    return scores


def _shown(engine: Engine, held: Survey, verdict: Verdict, one: ListedObject, told: dict[str, Any]) -> ShownObject:
    """Predict what lies around an object once more."""
    window = window_around(one, verdict.sample.shape)
    view = validation.View(verdict.sample, window, Confusion.empty(engine.info.legend))
    return ShownObject(verdict.sample.name, one, told, window, validation.illustrate(engine, view, held))


def choose(ranked: Sequence[View]) -> dict[str, Sequence[View]]:
    """The worst and the best of views that go from worst to best; none is both.

    Examples:
        >>> {name: list(views) for name, views in choose(range(5)).items()}
        {'worst': [0, 1, 2], 'best': [4, 3]}
    """
    count = min(SHOWN, -(-len(ranked) // 2))
    return {"worst": ranked[:count], "best": ranked[count:][::-1][:SHOWN]}


def collect(run: Run, data: Dataset, split: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Put scores into plain values for JSON: of all samples together, of each place, and of each sample."""
    return {
        "data": {"name": data.root.resolve().name, "layout": data.layout, "split": split, "images": len(verdicts)},
        "model": run.model.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "total": validation.add(verdict.counts for verdict in verdicts).to_dict(),
        "objects": None,
        "places": [
            {"place": place, "images": len(found)} | brief(validation.add(verdict.counts for verdict in found))
            for place, found in validation.by_place(verdicts).items()
        ],
        "samples": [
            {"name": verdict.sample.name, "place": verdict.sample.place} | brief(verdict.counts) for verdict in verdicts
        ],
    }


def brief(counts: Confusion) -> dict[str, Any]:
    """What is told of each place and sample: less than `Confusion.to_dict`, but the counts, from which all follows."""
    whole = counts.to_dict()
    return {
        "pixels": whole["pixels"],
        "iou": whole["pooled"]["iou"],
        "mean": whole["mean"],
        "classes": {entry["name"]: entry["iou"] for entry in whole["classes"]},
        "matrix": whole["matrix"],
    }
