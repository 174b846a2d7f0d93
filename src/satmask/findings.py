"""What is wrong with a data set, worst first, and what to do about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from satmask.alignment import Alignment
    from satmask.inspection import Inspection, Part

SEVERITIES = ("error", "warning", "note")
FLAT = 0.02  # share of a data type's values, or of another band's spread, below which a band hardly varies
SATURATED = 0.05  # share of pixels at the largest value from which detail was surely lost
COARSER = 4.0  # ratio of ground sampling distances that few networks bridge

# What to do about each kind of problem that datasets report while they are read.
ADVICE = {
    "unusable": "Mend or remove them; --skip-invalid trains without them.",
    "bbox": "Nothing, for satmask goes by the polygons; other programs may go by the boxes.",
    "unknown class": "Name the class in a legend file, or leave it: those pixels count neither in training nor in scores.",
    "geometry": "Nothing: they are drawn by the even-odd rule, as programs that fill polygons do. Look at the largest.",
    "no labels": "Remove the image if nobody labelled it: it teaches that nothing is there.",
}
UNITS = {
    "unusable": "Images and annotations that can't be used",
    "bbox": "Bounding boxes that don't fit their polygons",
    "unknown class": "Kinds of labels that the legend doesn't know",
    "geometry": "Tables of polygons in which some were invalid and are repaired",
    "no labels": "Scenes without labels inside them",
}


@dataclass(frozen=True)
class Finding:
    """Something that an inspection found.

    Attributes:
        severity: `"error"` for what makes training fail or its scores worthless, `"warning"` for what costs accuracy,
            `"note"` for what one should know.
        kind: What findings of a kind share, in a word or two.
        what: What is wrong, in a sentence.
        advice: What to do about it.
        count: How many images, pairs, polygons or annotations it concerns.
        examples: A line for each of the first of them, worst first.
    """

    severity: Literal["error", "warning", "note"]
    kind: str
    what: str
    advice: str
    count: int = 1
    examples: tuple[str, ...] = ()

    @property
    def is_problem(self) -> bool:
        """Whether something should be done."""
        return self.severity != "note"

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values, for JSON."""
        return asdict(self)


def findings_of(found: Inspection) -> list[Finding]:
    """List what is wrong with a data set, worst first.

    Args:
        found: The inspection.

    Returns:
        Errors, then warnings, then notes; the more frequent first.
    """
    findings = [*_reported(found), *_leaks(found), *_shifts(found), *_splits(found)]
    for part in found.parts.values():
        findings += [*_images(part), *_labels(part), *_bands(part)]
    return sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), -finding.count))


def _reported(found: Inspection) -> Iterator[Finding]:
    """Problems that were met while reading, counted by kind."""
    problems = [*found.data.problems, *(problem for part in found.parts.values() for problem in part.survey.problems)]
    for severity, kind in sorted({(problem.severity, problem.kind) for problem in problems}):
        alike = [problem.what for problem in problems if (problem.severity, problem.kind) == (severity, kind)]
        yield Finding(severity, kind, f"{UNITS[kind]}: {len(alike):,}.", ADVICE[kind], len(alike), tuple(alike))


def _leaks(found: Inspection) -> Iterator[Finding]:
    """Images that are there twice, and ground that two splits see."""
    leaks = found.leaks
    split_again = (
        "Split again with satmask split, which keeps together what shows the same: scores are memory otherwise."
    )
    for pairs, severity, what, advice in (
        (leaks.across, "error", "Pairs of duplicates in two splits", split_again),
        (leaks.within, "warning", "Pairs of duplicates in one split", "Keep one of each, or they count double."),
    ):
        if pairs:
            lines = [
                _pair(pair.splits, pair.names, pair.symmetry + (", exact" if pair.exact else "")) for pair in pairs
            ]
            yield Finding(severity, "duplicate", f"{what}: {len(lines):,}.", advice, len(lines), tuple(lines))  # type: ignore[arg-type]
    if leaks.overlaps:
        worst = sorted(leaks.overlaps, key=lambda pair: -pair.share)
        lines = [_pair(pair.splits, pair.names, f"{pair.share:.0%} of the smaller one") for pair in worst]
        what = f"Pairs of images in two splits that see the same ground: {len(lines):,}."
        yield Finding("error", "overlap", what, split_again, len(lines), tuple(lines))
    if leaks.places:
        lines = [f"{place.place}: {_listed(f'{count:,} in {split}' for split, count in place.images.items())}" for place in leaks.places]  # fmt: skip
        what = f"Places that several splits have images of, by the images' names: {len(lines):,}."
        advice = "Hold out whole places, with satmask split --by place, unless the names don't tell the place."
        yield Finding("warning", "shared place", what, advice, len(lines), tuple(lines))


def _pair(splits: tuple[str, str], names: tuple[str, str], how: str) -> str:
    return f"{splits[0]}: {names[0]} and {splits[1]}: {names[1]} ({how})"


def _shifts(found: Inspection) -> Iterator[Finding]:
    """Labels that would fit the image's edges clearly better a few pixels away."""
    advice = "Look at them on the page. If labels were drawn over other imagery, move them or leave them out."
    places = [(name, seen) for name, seen in found.places.items() if seen.is_shifted]
    if places:
        lines = [f"{name}: {_arrow(seen)}" for name, seen in sorted(places, key=lambda pair: -pair[1].significance)]
        what = f"Places whose labels all look shifted against the images' edges: {len(places):,}."
        yield Finding("warning", "shifted place", what, advice, len(places), tuple(lines))
    for part in found.parts.values():
        lines = [f"{sample.name}: {_arrow(seen)}" for sample, seen in part.shifted]
        if lines:
            what = f"Images of {part.name} whose labels look shifted against edges: {len(lines):,}."
            yield Finding("warning", "shifted labels", what, advice, len(lines), tuple(lines))


def _arrow(seen: Alignment) -> str:
    """Say where the labels should go."""
    across = f"{abs(seen.dx):.1f} px {'right' if seen.dx > 0 else 'left'}" if abs(seen.dx) >= 0.5 else ""
    down = f"{abs(seen.dy):.1f} px {'down' if seen.dy > 0 else 'up'}" if abs(seen.dy) >= 0.5 else ""
    return f"they fit better {' and '.join(filter(None, (across, down)))} ({seen.significance:.0f} σ)"


def _images(part: Part) -> Iterator[Finding]:
    names = [sample.name for sample in part.samples]
    blank = [name for name, valid in zip(names, part.survey.valid, strict=True) if not valid]
    if blank:
        what = f"Images of {part.name} that hold nothing but nodata: {len(blank):,}."
        yield Finding("warning", "blank", what, "Remove them.", len(blank), tuple(blank))
    span = part.survey.gsd_m
    if span and span[1] > COARSER * span[0]:
        what = f"Ground sampling distances in {part.name} reach from {span[0]:.2g} to {span[1]:.2g} m."
        advice = (
            f"Let training meet windows of all sizes of pixels: --set 'augment.gsd_m=[{span[0]:.2g}, {span[1]:.2g}]'."
        )
        yield Finding("note", "resolution", what, advice, len(names))


def _labels(part: Part) -> Iterator[Finding]:
    names = np.array([sample.name for sample in part.samples])
    valid, labelled = part.survey.valid > 0, part.survey.labelled > 0
    unlabelled = names[valid & ~labelled]
    if len(unlabelled):
        what = f"Images of {part.name} without a labelled pixel: {len(unlabelled):,}."
        yield Finding("warning", "unlabelled", what, "Remove them: they only cost time.", len(unlabelled), tuple(unlabelled.tolist()))  # fmt: skip
    invalid = [reason for look in part.looks for reason in look.invalid]
    if invalid:
        what = f"Polygons of {part.name} that cross or touch themselves: {len(invalid):,}."
        advice = "Redraw them: where rings cross, what is inside becomes outside."
        yield Finding("warning", "geometry", what, advice, len(invalid), tuple(invalid))
    drawn = part.survey.class_pixels[:, part.foreground].sum(axis=1) > 0
    empty = names[labelled & ~drawn]
    if len(empty):
        what = f"Images of {part.name} that show no class: {len(empty):,} ({len(empty) / len(names):.0%})."
        advice = "Keep those where there is truly nothing; remove those that nobody labelled."
        yield Finding("note", "empty", what, advice, len(empty), tuple(empty.tolist()))
    hidden = int(part.objects.sum()) if drawn.any() else 0
    if hidden and not drawn.all():
        yield from _invisible(part, names, drawn)


def _invisible(part: Part, names: np.ndarray, drawn: np.ndarray) -> Iterator[Finding]:
    """Labels that cover no pixel's centre, so that nothing is learned from them."""
    lost = names[(part.objects[:, part.foreground].sum(axis=1) > 0) & ~drawn]
    if len(lost):
        what = f"Images of {part.name} whose objects cover the centre of no pixel: {len(lost):,}."
        yield Finding("warning", "too small", what, "Check the labels' place and the image's resolution.", len(lost), tuple(lost.tolist()))  # fmt: skip


def _bands(part: Part) -> Iterator[Finding]:
    seen = part.survey
    spread = seen.high - seen.low
    flat = [name for name, width in zip(seen.bands, spread, strict=True) if width <= FLAT * spread.max()]
    if flat and len(flat) < len(spread):
        what = f"{_listed(flat)} hardly var{'y' if len(flat) > 1 else 'ies'} in {part.name}."
        yield Finding("warning", "flat band", what, "Leave out what tells nothing, by bands in the recipe.", len(flat), tuple(flat))  # fmt: skip
    full = (seen.values >= seen.largest).mean(axis=0)
    burnt = [f"{name}: {share:.0%}" for name, share in zip(seen.bands, full, strict=True) if share > SATURATED]
    if burnt and seen.dtype.kind in "ui":
        what = f"Bands of {part.name} hold their largest value in many pixels: {_listed(burnt)}."
        yield Finding("note", "saturated", what, "Detail there is lost; look for imagery that wasn't clipped.", len(burnt), tuple(burnt))  # fmt: skip


def _splits(found: Inspection) -> Iterator[Finding]:
    parts = found.parts
    legend = found.data.legend
    for channel, entry in enumerate(legend):
        missing = [name for name, part in parts.items() if not part.survey.class_pixels[:, channel].any()]
        if missing:
            severity: Literal["error", "warning"] = (
                "error" if len(missing) == len(parts) or "train" in missing else "warning"
            )
            where = "anywhere" if len(missing) == len(parts) else f"in {_listed(missing)}"
            what = f"Class {entry.name!r} isn't found {where}."
            yield Finding(severity, "absent class", what, "Split again by place, or leave the class out of the legend.")
    if set(parts) == {"train"}:
        places = Counter(sample.place for sample in parts["train"].samples)
        what = f"There is no validation split. The names tell of {len(places)} place{'s' * (len(places) != 1)}."
        yield Finding("note", "no validation", what, "Nothing: training holds out places by itself. To do it once and for all, use satmask split.")  # fmt: skip
    yield from _unlike(list(parts.values()))


def _unlike(parts: Sequence[Part]) -> Iterator[Finding]:
    """Splits whose values don't lie in the same range."""
    if len(parts) < 2:
        return
    one, other = parts[0].survey, parts[1].survey
    shift = np.abs(one.mean - other.mean) / np.maximum(one.deviation, 1e-9)
    worst = int(np.argmax(shift))
    if shift[worst] > 1:
        what = (
            f"Band {one.bands[worst]} has a mean of {one.mean[worst]:.4g} in {parts[0].name} "
            f"and of {other.mean[worst]:.4g} in {parts[1].name}, more than a standard deviation apart."
        )
        yield Finding("note", "unlike splits", what, "Expect lower scores, or vary brightness more in training.")


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
