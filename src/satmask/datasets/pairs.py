"""Pairs: a folder of images beside a folder of masks."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from satmask.datasets.dataset import Problem, Sample, place_of
from satmask.datasets.legend_file import to_toml
from satmask.datasets.tile_names import tile_bounds
from satmask.errors import DataError, SatmaskError
from satmask.labels import MaskLabels
from satmask.legend import Legend
from satmask.masks import mask_codes
from satmask.scene import DRIVERS, Scene
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FOLDERS = (("images", "masks"), ("img", "mask"), ("image", "mask"), ("images", "labels"))
# Masks read to learn which values they hold; spread evenly over the set.
SAMPLED_MASKS = 300


def read_pairs(folder: Path, legend: Legend | None = None) -> tuple[tuple[Sample, ...], Legend, list[Problem]]:
    """Read images and the masks that go with them.

    An image and its mask have one name, up to words such as image, tile or mask: `tile_7.tif` and `mask_7.tif`.

    Args:
        folder: Holds two folders, named as one of `FOLDERS`.
        legend: The classes; without one they are numbered as in the masks.

    Returns:
        Samples, legend and problems. What can't be used is left out and reported.

    Raises:
        DataError: If nothing pairs, or the masks are colours and no legend says what they mean.
    """
    images, masks = next(
        (folder / a, folder / b) for a, b in FOLDERS if (folder / a).is_dir() and (folder / b).is_dir()
    )
    pairs, problems = pair(list_images(images), list_images(masks))
    if not pairs:
        first = f" {problems[0].what}" if problems else ""
        msg = f"Data set must hold an image with its mask, got none in {images.name}/ and {masks.name}/ of {folder}.{first}"
        raise DataError(msg)
    return read_masks(pairs, legend, problems)


def read_masks(
    pairs: Sequence[tuple[Path, Path]], legend: Legend | None, problems: list[Problem]
) -> tuple[tuple[Sample, ...], Legend, list[Problem]]:
    """Make samples of images and masks that are already paired."""
    masks = [mask for _, mask in pairs]
    colours = any(_is_coloured(mask) for mask in _spread(masks, 25))
    values = _values(masks, colours=colours)
    lookup: tuple[tuple[int, int], ...] = ()
    if legend is None:
        legend, lookup = _guess_legend(values, colours=colours)
    elif not colours:
        lookup = _one_class_lookup(values, legend)
    known = (
        {int(entry.colour[1:], 16) for entry in legend} if colours else {*legend.ids, *(value for value, _ in lookup)}
    )
    problems += _unknown_values(values, known, legend, colours=colours)
    samples = []
    for image, mask in pairs:
        labels = MaskLabels(legend, mask, colours=colours, lookup=lookup)
        sample = _sample(image, mask, labels)
        if isinstance(sample, Problem):
            problems.append(sample)
        else:
            samples.append(sample)
    return tuple(samples), legend, problems


def list_images(folder: Path) -> list[Path]:
    """The raster files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in DRIVERS)


def pair(images: Iterable[Path], masks: Iterable[Path]) -> tuple[list[tuple[Path, Path]], list[Problem]]:
    """Pair images and masks by name; what stays alone or is ambiguous is a problem."""
    by_key: dict[str, list[Path]] = {}
    for mask in masks:
        by_key.setdefault(key_of(mask.stem), []).append(mask)
    pairs, problems = [], []
    for image in images:
        found = by_key.pop(key_of(image.stem), [])
        if len(found) == 1:
            pairs.append((image, found[0]))
        else:
            wrong = "has no mask" if not found else f"could go with {len(found)} masks, such as {found[0].name!r}"
            problems.append(Problem(image.name, f"Image {image.name!r} {wrong}."))
    for left in by_key.values():
        problems += [Problem(mask.name, f"Mask {mask.name!r} has no image of its own.") for mask in left]
    return pairs, problems


def key_of(stem: str) -> str:
    """What an image and its mask have in common: the name without words that say which of the two it is.

    Examples:
        >>> key_of("tile_52357") == key_of("mask_52357"), key_of("kampala_z20_0_mask")
        (True, 'kampala_z20_0')
    """
    words = re.split(r"[-_. ]", stem)
    kept = [word for word in words if word.lower() not in ("image", "img", "tile", "mask", "label", "labels", "gt")]
    return "_".join(kept) or stem


def _sample(image: Path, mask: Path, labels: MaskLabels) -> Sample | Problem:
    try:
        with Scene(image) as scene, Scene(mask) as drawn:
            if drawn.grid.shape != scene.grid.shape:
                sizes = " and ".join(f"{h} × {w}" for h, w in (scene.grid.shape, drawn.grid.shape))
                return Problem(image.name, f"Image {image.name!r} and its mask must be of one size, got {sizes}.")
            bounds = scene.grid.degrees or tile_bounds(image.stem)
            return Sample(image.stem, image, scene.grid.shape, labels, place_of(key_of(image.stem)), bounds)
    except SatmaskError as error:
        return Problem(image.name, str(error))


def _is_coloured(mask: Path) -> bool:
    try:
        with Scene(mask) as scene:
            return len(scene.bands) >= 3
    except SatmaskError:
        return False


def _spread(items: Sequence[Path], count: int) -> list[Path]:
    return [items[index] for index in np.unique(np.linspace(0, len(items) - 1, count).astype(int))] if items else []


def _values(masks: Sequence[Path], *, colours: bool) -> Counter[int]:
    """Pixels of each value in a sample of the masks; files that can't be read are somebody else's to report."""
    counts: Counter[int] = Counter()
    for mask in _spread(masks, SAMPLED_MASKS):
        try:
            with Scene(mask) as scene:
                # One block of rows is enough of a scene-sized mask.
                window = Window(0, 0, min(scene.grid.height, 4096), min(scene.grid.width, 4096))
                values, pixels = np.unique(mask_codes(scene, window, colours=colours), return_counts=True)
        except SatmaskError:
            continue
        counts.update(dict(zip(values.tolist(), pixels.tolist(), strict=True)))
    return counts


def _guess_legend(values: Counter[int], *, colours: bool) -> tuple[Legend, tuple[tuple[int, int], ...]]:
    """A legend for masks that came without one."""
    common = sorted(value for value, pixels in values.items() if pixels >= 0.001 * values.total())
    if colours:
        found = [f"#{value:06X}" for value in common] or ["none"]
        example = to_toml(Legend.of({1: "building"}, colours={1: found[0] if common else "#3C1098"}))
        msg = (
            f"Masks of colours must come with a legend, got none for {', '.join(found[:12])}. Pass --legend FILE.toml, "
            f"or put legend.toml into the folder, such as:\n{example}"
        )
        raise DataError(msg)
    if len(common) < 2:
        msg = f"Masks must hold at least two values, got {common}."
        raise DataError(msg)
    if len(common) == 2 and common[0] == 0:
        return Legend.of({1: "foreground"}), ((common[1], 1),)
    return Legend.of({value: f"class {value}" for value in common if value < 255}, exclusive=True), ()


def _one_class_lookup(values: Counter[int], legend: Legend) -> tuple[tuple[int, int], ...]:
    """Masks of 0 and one other value, such as 255, mean the only class of the legend."""
    others = [value for value in values if value and values[value] >= 0.001 * values.total()]
    if len(legend) == 1 and len(others) == 1 and others[0] not in legend.ids:
        return ((others[0], legend.ids[0]),)
    return ()


def _unknown_values(values: Counter[int], known: set[int], legend: Legend, *, colours: bool) -> list[Problem]:
    """Say which share of the masks is unlabelled because the legend doesn't know its value."""
    left = {value: pixels for value, pixels in values.items() if value not in known and (legend.exclusive or value)}
    if not left:
        return []
    share = sum(left.values()) / values.total()
    worst = max(left, key=lambda value: left[value])
    name = f"#{worst:06X}" if colours else str(worst)
    what = (
        f"{share:.2%} of the masks' pixels have a value that the legend doesn't know, most of them {name}: unlabelled."
    )
    return [Problem("masks", what, "warning", "unknown class")]
