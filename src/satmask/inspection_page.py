"""The page about a data set: what it holds, what is wrong with it, and what it looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from satmask.band_sheets import LARGEST, band_sheet, composite
from satmask.contact import Tile, contact_sheets
from satmask.data_charts import ClassAreas, band_histograms, class_bars
from satmask.figures import png_bytes, svg_bytes
from satmask.report import Page, Picture, Section, Table, render_small
from satmask.run import write_text
from satmask.stack import open_imagery
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from satmask.datasets.dataset import Sample
    from satmask.findings import Finding
    from satmask.inspection import Inspection, Part
    from satmask.leaks import Duplicate
    from satmask.report import Value

SIDE = 512  # of what is shown of an image, in pixels
EXAMPLES = 8  # lines shown of a finding
TILES, PAIRS, SHIFTED = 16, 8, 8  # images shown of a split, of duplicates, and of labels that lie off


def write_inspection(found: Inspection, findings: Sequence[Finding], path: Path) -> None:
    """Write an inspection as one self-contained HTML file.

    Args:
        found: The inspection.
        findings: What is wrong, worst first.
        path: Where to; an older file is replaced.
    """
    sections = [section for section in _sections(found, findings) if section is not None]
    title = f"Data set “{found.data.root.resolve().name}”"
    images = sum(len(part.samples) for part in found.parts.values())
    subtitle = f"{images:,} images, layout {found.data.layout}, classes: {', '.join(found.data.legend.names)}"
    page = Page(title, subtitle, sections)
    write_text(path, render_small(lambda _: page))


def facts(found: Inspection) -> list[list[str]]:
    """What each split holds, in a few lines.

    Returns:
        Rows of text, the first of them the head: a column a split.
    """
    parts = list(found.parts.values())
    described = [_facts_of(part) for part in parts]
    rows = [["", *(part.name for part in parts)]]
    return rows + [[name, *(facts[name] for facts in described)] for name in described[0]]


def _facts_of(part: Part) -> dict[str, str]:
    seen, told = part.survey, part.to_dict()
    crs = [f"{name or 'none'}" for name in told["crs"]]
    facts = {
        "images": f"{len(part.samples):,}",
        "sizes": _few([f"{size} ({count:,})" for size, count in told["sizes"].items()]),
        "bands": f"{len(seen.bands)}: {', '.join(seen.bands)}" if len(seen.bands) <= 5 else str(len(seen.bands)),
        "type": f"{seen.dtype}, {seen.smallest.min():g} to {seen.largest.max():g}",
        "CRS": _few(crs),
        "pixel size": "unknown" if seen.gsd_m is None else _span(*seen.gsd_m),
        "nodata": f"{told['nodata_share']:.1%}",
        "labelled": f"{told['labelled_share']:.1%}",
        "places": f"{len(told['places']):,}",
    }
    for entry in told["classes"]:
        objects = (
            f"{entry['objects']:,} objects in {entry['images']:,} images, {entry['share']:.2%} of the labelled area"
        )
        facts[entry["name"]] = objects + ("" if not entry["area_m2"] else f", {_area(entry['area_m2'])}")
    return facts


def _sections(found: Inspection, findings: Sequence[Finding]) -> Iterator[Section | None]:
    parts = list(found.parts.values())
    head, *rows = facts(found)
    yield Section("What it holds", tables=[Table(head, rows)])
    yield _wrong(findings)
    yield _duplicates(found)
    for part in parts:
        yield _shifts(part)
    yield _classes(found)
    for part in parts:
        yield _contact(part)
    yield _bands(found)


def _wrong(findings: Sequence[Finding]) -> Section:
    if not findings:
        return Section("Findings", "Nothing was found wrong.")
    overview = Table(
        ["Finding", "Weight", "What to do"],
        [[finding.what, finding.severity, finding.advice] for finding in findings],
    )
    examples = [
        Table([finding.what.rstrip(".")], [[line] for line in _cut(finding.examples)])
        for finding in findings
        if finding.examples
    ]
    text = "Errors make training fail or its scores worthless, warnings cost accuracy, notes are good to know."
    return Section("Findings, worst first", text, tables=[overview, *examples])


def _cut(lines: Sequence[str]) -> list[str]:
    more = len(lines) - EXAMPLES
    return [*lines[:EXAMPLES], *([f"… and {more:,} more"] if more > 0 else [])]


def _duplicates(found: Inspection) -> Section | None:
    pairs = sorted(found.leaks.duplicates, key=lambda pair: pair.splits[0] == pair.splits[1])
    samples = {(name, sample.name): (part, sample) for name, part in found.parts.items() for sample in part.samples}
    pairs = [pair for pair in pairs if all(key in samples for key in zip(pair.splits, pair.names, strict=True))]
    if not pairs:
        return None
    tiles = [tile for pair in pairs[:PAIRS] for tile in _pair(pair, samples)]
    shown = "" if len(pairs) <= PAIRS else f" {PAIRS} of {len(pairs):,} pairs, those in two splits first."
    text = f"Pairs of images that show the same picture, side by side; how the second is made from the first is below it.{shown}"
    figures = contact_sheets(tiles, found.data.legend, per_page=2 * PAIRS)
    return Section("Duplicates", text, pictures=_photos(figures, "Pairs of duplicate images side by side"))


def _pair(pair: Duplicate, samples: dict[tuple[str, str], tuple[Part, Sample]]) -> Iterator[Tile]:
    how = "exact copy" if pair.exact and pair.symmetry == "same" else pair.symmetry
    for split, name, note in zip(pair.splits, pair.names, ("", f" · {how}"), strict=True):
        part, sample = samples[split, name]
        yield _tile(sample, part, title=f"{split}: {name}{note}", labels=False)


def _shifts(part: Part) -> Section | None:
    if not part.shifted:
        return None
    tiles = []
    for sample, seen in part.shifted[:SHIFTED]:
        tile = _tile(sample, part, title=sample.name)
        moved = _moved(tile, round(seen.dx), round(seen.dy))
        tiles += [tile, moved]
    text = (
        "Labels as they are, and moved to where they fit the image's edges best. Judge by eye: leaning walls and shadows "
        "draw labels away from roofs."
    )
    figures = contact_sheets(tiles, part.legend, per_page=2 * SHIFTED)
    alt = f"Images of {part.name} with their labels as they are and moved"
    return Section(f"Labels that look shifted: {part.name}", text, pictures=_photos(figures, alt))


def _moved(tile: Tile, dx: int, dy: int) -> Tile:
    """The tile with its labels moved; what comes in from outside has none."""
    labels = np.asarray(tile.labels)
    height, width = labels.shape[:2]
    window = Window(-dy, -dx, height, width)
    inside = window.clip(height, width)
    moved = np.zeros_like(labels)
    moved[inside.seen_from(window).slices] = labels[inside.slices]
    return Tile(tile.image, moved, valid=tile.valid, title=f"moved by {dx:+d}, {dy:+d} px")


def _classes(found: Inspection) -> Section:
    splits = {}
    for name, part in found.parts.items():
        pixels = part.survey.class_pixels
        images = np.count_nonzero(pixels, axis=0).tolist()
        labelled = float(part.survey.labelled.sum())
        splits[name] = ClassAreas(pixels.sum(axis=0).tolist(), labelled, part.objects.sum(axis=0).tolist(), images)
    figure = class_bars(splits, found.data.legend)
    text = "Share of the labelled area, and how many objects and images there are. In masks, objects are connected regions."
    return Section("Classes", text, pictures=[Picture(svg_bytes(figure), "Share of the labelled area of each class")])


def _contact(part: Part) -> Section:
    chosen = _spread_out(part)
    figures = contact_sheets([_tile(part.samples[index], part) for index in chosen], part.legend, per_page=TILES)
    text = f"{len(chosen)} of {len(part.samples):,} images, some of each class; of large ones the middle."
    return Section(f"Samples: {part.name}", text, pictures=_photos(figures, f"Images of {part.name} with their labels"))


def _spread_out(part: Part) -> list[int]:
    """Choose images evenly from all, and some in which the rarest classes are at their largest."""
    images = len(part.samples)
    pixels = part.survey.class_pixels
    rarest = np.argsort(pixels.sum(axis=0))
    wanted = [int(index) for channel in rarest for index in np.argsort(-pixels[:, channel], kind="stable")[:2]]
    evenly = [int(index) for index in np.linspace(0, images - 1, min(TILES, images))]
    held = list(dict.fromkeys(index for index in wanted if pixels[index].any()))[: TILES // 2]
    return sorted(dict.fromkeys([*held, *evenly[:: max(len(evenly) // max(TILES - len(held), 1), 1)], *evenly]))[:TILES]


def _bands(found: Inspection) -> Section:
    parts = found.parts
    names = next(iter(parts.values())).survey.bands
    rows: list[list[Value]] = []
    for name, part in parts.items():
        for band in part.to_dict()["bands"]:
            levels = band["percentiles"]
            known = [band["smallest"], levels["1"], levels["50"], levels["99"], band["largest"]]
            rows.append([f"{name}: {band['name']}", *map(_short, known), band["mean"], band["deviation"]])
    head = ["Band", "Smallest", "1 %", "Median", "99 %", "Largest", "Mean", "Deviation"]
    values = {name: part.survey.values for name, part in parts.items()}
    nodata = {name: part.to_dict()["nodata_share"] for name, part in parts.items()}
    figure = band_histograms(values, names, nodata=nodata)
    pictures = [Picture(svg_bytes(figure), "Histogram of each band")]
    if len(names) <= LARGEST:
        pictures += _one_by_one(next(iter(parts.values())), names)
    return Section("Bands", tables=[Table(head, rows)], pictures=pictures)


def _one_by_one(part: Part, names: Sequence[str]) -> list[Picture]:
    """Every band of the image that shows most classes, and its near infrared as red where there is one."""
    pixels = part.survey.class_pixels
    shares = pixels / np.maximum(pixels.sum(axis=1, keepdims=True), 1)
    sample = part.samples[int(np.argmax((shares * (1 - shares)).sum(axis=1)))]
    tile = _tile(sample, part)
    pictures = _photos([band_sheet(tile.image, valid=tile.valid, names=names, title=sample.name)], "Every band in grey")
    if len(names) > 3:
        infrared = next((number for number, name in enumerate(names, 1) if "nir" in name.lower()), len(names))
        figure = composite(tile.image, (infrared, 1, 2), valid=tile.valid, names=names, title=sample.name)
        pictures += _photos([figure], f"Composite of {names[infrared - 1]}, {names[0]} and {names[1]}")
    return pictures


def _short(value: float) -> float:
    """Whole numbers as such, so that pixel values of integer images have no decimals."""
    return int(value) if float(value).is_integer() else value


def _tile(sample: Sample, part: Part, *, title: str | None = None, labels: bool = True) -> Tile:
    """The middle of an image with its labels, as far as it is shown."""
    height, width = sample.shape
    tall, wide = min(height, SIDE), min(width, SIDE)
    window = Window((height - tall) // 2, (width - wide) // 2, tall, wide)
    with open_imagery(sample.image, bands=part.survey.indexes) as scene:
        pixels = scene.read(window)
    title = sample.name if title is None else title
    if not labels:
        return Tile(pixels.values, valid=pixels.valid, title=title)
    truth = sample.labels.read(window)
    return Tile(pixels.values, truth.classes.astype(bool), truth.labelled, pixels.valid, title)


def _photos(figures: Sequence[Figure], alt: str) -> list[Picture]:
    return [Picture(png_bytes(figure, dpi=150), alt) for figure in figures]


def _few(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _span(low: float, high: float) -> str:
    return f"{low:.2g} m" if high < 1.05 * low else f"{low:.2g} to {high:.2g} m"


def _area(area_m2: float) -> str:
    return (
        f"{area_m2:,.0f} m²"
        if area_m2 < 1e4
        else f"{area_m2 / 1e4:,.1f} ha"
        if area_m2 < 1e6
        else f"{area_m2 / 1e6:,.2f} km²"
    )
