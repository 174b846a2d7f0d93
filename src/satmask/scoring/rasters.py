"""Pixel scores of files and folders: read window by window, paired by name."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from satmask.addresses import Remote
from satmask.decisions import Decision
from satmask.errors import DataError, SatmaskError, SettingError
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.scene import Scene
from satmask.scoring.pixels import Confusion, confusion
from satmask.windows import Window, cover

# Rasters are read in windows of this side, so that memory doesn't grow with the scene.
SIDE = 2048
SUFFIXES = (".tif", ".tiff", ".png", ".jp2", ".img", ".vrt")
# What reads ids or masks of a window, and where they are known.
Reader: TypeAlias = Callable[[Window], tuple[np.ndarray, np.ndarray]]
MARKS = "(?:classes|mask|masks|label|labels|truth|prediction|pred|gt)"


@dataclass(frozen=True)
class FolderScore:
    """Scores of the files of a folder.

    Attributes:
        total: Counts of all pairs together.
        parts: Counts of each pair, by the name that its files share.
        unpaired: Files without a partner.
        failed: Why a pair couldn't be scored, by name.
    """

    total: Confusion
    parts: Mapping[str, Confusion]
    unpaired: tuple[Path, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    def by(self, pattern: str) -> dict[str, Confusion]:
        """Add up the pairs whose names belong together, see `group_of`."""
        groups: dict[str, Confusion] = {}
        for name, part in self.parts.items():
            group = group_of(name, pattern)
            groups[group] = groups[group] + part if group in groups else part
        return dict(sorted(groups.items()))


def group_of(name: str, pattern: str) -> str:
    r"""Name the group of an image: what a pattern's first brackets match in its name, or the whole match.

    Args:
        name: Name of the image without suffix.
        pattern: Regular expression, such as `-(\d+)$` for the number at the end or `^[a-z]+` for the first word.

    Returns:
        The group; "other" where the pattern isn't found.

    Raises:
        SettingError: If the pattern is no regular expression.

    Examples:
        >>> group_of("zanzibar_tz-OAM-638597-541923-20", r"-(\d+)$"), group_of("zanzibar_tz-OAM-638597", "^[a-z]+")
        ('20', 'zanzibar')
    """
    try:
        found = re.search(pattern, name)
    except re.error as error:
        msg = f"Pattern must be a regular expression, got {pattern!r}: {error}."
        raise SettingError(msg) from None
    if found is None:
        return "other"
    return (found.group(1) if found.re.groups else found.group(0)) or "other"


def score_rasters(
    prediction: str | Path, truth: str | Path, legend: Legend | None = None, *, mapping: Mapping[int, int] | None = None
) -> Confusion:
    """Score a raster of class ids against another on the same grid, window by window.

    Pixels outside the prediction (its nodata) and unlabelled ones aren't counted. A truth's nodata tag is left aside if
    it names a class or 0: in masks it often does. If neither file has a place on the ground, or only one has, their
    shapes decide.

    Args:
        prediction: Raster of class ids, one band; or one band a class.
        truth: The same of the truth.
        legend: The classes; by default those found in the two files, 0 being "no class".
        mapping: Class id of values in the truth that aren't class ids, such as `{255: 1}`.

    Returns:
        The counts.

    Raises:
        DataError: If the grids differ, or a raster holds ids that the legend doesn't.
        SceneError: If a file can't be read.
    """
    pair = Path(prediction), Path(truth)
    chosen = legend or _legend_of([pair], mapping or {})
    score = _score_pair(pair, chosen, mapping or {})
    _refuse_unmapped(score, [pair[1]], mapping or {})
    return score


def score_folders(
    prediction_dir: str | Path,
    truth_dir: str | Path,
    legend: Legend | None = None,
    *,
    mapping: Mapping[int, int] | None = None,
) -> FolderScore:
    """Score the rasters of one folder against those of another.

    Files belong together if their names are equal but for suffixes and marks such as `.classes`, `_mask` or `mask_`:
    `a.classes.tif` is paired with `a_mask.png`. Where a folder holds both `a.tif` and `a_mask.tif`, the first is taken
    for the image. A pair that can't be scored is reported, and the rest goes on.

    Args:
        prediction_dir: Folder of predictions.
        truth_dir: Folder of truths.
        legend: See `score_rasters`; by default the classes found in all files.
        mapping: See `score_rasters`.

    Returns:
        Counts in all and of each pair, files without a partner, and pairs that failed.

    Raises:
        DataError: If no two files belong together.
    """
    mapping = mapping or {}
    predictions, truths = files_by_name(Path(prediction_dir)), files_by_name(Path(truth_dir))
    names = sorted(predictions.keys() & truths.keys())
    if not names:
        shown = ", ".join(path.name for path in [*predictions.values()][:2] + [*truths.values()][:2]) or "no rasters"
        msg = f"Folders must hold rasters of the same names, got {shown} in {prediction_dir} and {truth_dir}."
        raise DataError(msg)
    pairs = {name: (predictions[name], truths[name]) for name in names}
    chosen = legend or _legend_of(pairs.values(), mapping)
    parts, failed = {}, {}
    for name, pair in pairs.items():
        try:
            parts[name] = _score_pair(pair, chosen, mapping)
        except SatmaskError as error:
            failed[name] = str(error)
    total = functools.reduce(operator.add, parts.values(), Confusion.empty(chosen))
    _refuse_unmapped(total, truths.values(), mapping)
    alone = [side[name] for side in (predictions, truths) for name in sorted(side.keys() - set(names))]
    return FolderScore(total, parts, tuple(alone), failed)


def same_grid(one: Grid, other: Grid) -> str:
    """Say what differs between two grids; nothing if their pixels lie in the same places.

    A grid without any place on the ground fits every other of its shape.

    Returns:
        The difference in words, or an empty text.

    Examples:
        >>> same_grid(Grid(2, 3), Grid(2, 4))
        '2 × 3 and 2 × 4 pixels'
    """
    if one.shape != other.shape:
        return f"{one.height} × {one.width} and {other.height} × {other.width} pixels"
    if any(grid.crs is None and grid.transform.is_identity for grid in (one, other)):
        return ""
    if one.crs != other.crs and not (one.crs and other.crs and one.crs.equals(other.crs, ignore_axis_order=True)):
        return f"{_crs_name(one)} and {_crs_name(other)}"
    here, there = (np.asarray(grid.transform, np.float64).reshape(3, 3) for grid in (one, other))
    corners = np.array([[0, one.width, 0], [0, 0, one.height], [1, 1, 1]])
    offset = np.abs(np.linalg.solve(here, there @ corners) - corners).max()
    return f"places up to {offset:.3g} pixels apart" if not offset <= 0.01 else ""


def _crs_name(grid: Grid) -> str:
    if grid.crs is None:
        return "no CRS"
    authority = grid.crs.to_authority()
    return ":".join(authority) if authority else grid.crs.name


def _score_pair(pair: tuple[Path, Path], legend: Legend, mapping: Mapping[int, int]) -> Confusion:
    with Scene(pair[0]) as prediction, Scene(pair[1]) as truth:
        if difference := same_grid(prediction.grid, truth.grid):
            msg = (
                f"Prediction and truth must share a grid, got {difference} in {pair[0].name} and {pair[1].name}. "
                "Warp the truth to the prediction's grid."
            )
            raise DataError(msg)
        total = Confusion.empty(legend)
        try:
            read_said, read_true = id_reader(prediction, legend), id_reader(truth, legend, mapping)
            for window in windows_of(prediction.grid):
                said, said_known = read_said(window)
                true, true_known = read_true(window)
                total += confusion(true, said, legend, said_known & true_known)
        except DataError as error:
            msg = f"{error} ({pair[0].name} and {pair[1].name})"
            raise DataError(msg) from error
    return total


def windows_of(grid: Grid) -> list[Window]:
    """The windows in which a raster is read."""
    return [tile.core for tile in cover(grid.height, grid.width, size=SIDE, halo=0, stride=1)]


def id_reader(scene: Scene, legend: Legend, mapping: Mapping[int, int] | None = None) -> Reader:
    """What reads ids, masks or decided probabilities of a window, and where the file's nodata tag says nothing is known.

    Probabilities are decided as the raster's tags say. Where a decision looks at whole objects, as smallest areas do, the
    masks of the whole raster are made here, once: a byte for each pixel and class is then kept.

    Args:
        scene: Class ids; or one band of masks or probabilities a class.
        legend: The classes.
        mapping: Class id of other values.

    Returns:
        A function from a window to ids `(height, width)` or masks `(height, width, classes)`, and what is known, bool,
        `(height, width)`. It raises DataError if the raster has neither one band nor one a class.
    """
    if scene.dtype.kind == "f":
        return _decider(scene, legend)
    nodata = scene.profile.get("nodata")
    # A tag of 0 is often put on masks in which 0 is "no class".
    tagged = nodata is not None and (nodata != 0 or legend.exclusive)
    unknown = tagged and nodata not in (*legend.ids, *(mapping or {}))

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        values = scene.raw(window)
        if values.shape[2] not in (1, len(legend)):
            msg = f"Raster must have one band of class ids or {len(legend)} of masks, got {values.shape[2]}."
            raise DataError(msg)
        known = (values != nodata).all(axis=-1) if unknown else np.ones(values.shape[:2], bool)
        return (values if values.shape[2] > 1 else _mapped(values[..., 0], mapping or {})), known

    return read


def _decider(scene: Scene, legend: Legend) -> Reader:
    """What decides the probabilities of a window as the raster says; 0 for classes that the raster doesn't have."""
    tags = scene.tags
    ids = {name: int(key[6:]) for key, name in tags.items() if key.startswith("CLASS_") and key[6:].isdecimal()}
    names = [band.removesuffix(" probability") for band in scene.bands]
    there = [place for place, name in enumerate(names) if name in ids]
    decision = Decision.from_tags(tags, Legend.of({ids[names[place]]: names[place] for place in there}))
    wanted = [(place, legend.channel(id_)) for place, id_ in enumerate(decision.legend.ids) if id_ in legend.ids]

    def decide(values: np.ndarray | Iterable[np.ndarray]) -> np.ndarray:
        found = decision.masks(values, gsd_m=scene.grid.gsd_m)
        masks = np.zeros((*found.shape[:2], len(legend)), np.uint8)
        for here, channel in wanted:
            masks[..., channel] = found[..., here]
        return masks

    masks: np.ndarray | None = None
    if not decision.local:
        whole = Window(0, 0, *scene.shape)
        masks = decide(_band(scene.path, scene.indexes[place], whole) for place in there)

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        values = scene.raw(window)
        known = np.isfinite(values).all(axis=-1)
        return (decide(values[..., there]) if masks is None else masks[window.slices]), known

    return read


def _band(path: Path | Remote, index: int, window: Window) -> np.ndarray:
    with Scene(path, bands=[index]) as band:
        return band.raw(window)[..., 0]


def _mapped(ids: np.ndarray, mapping: Mapping[int, int]) -> np.ndarray:
    if not mapping:
        return ids
    out = ids.astype(np.int64)
    for value, id_ in mapping.items():
        out[ids == value] = id_
    return out


def _legend_of(pairs: Iterable[tuple[Path, Path]], mapping: Mapping[int, int]) -> Legend:
    """Find the classes in the files: 0 is no class, the type's largest value is nodata unless it stands alone."""
    pairs = list(pairs)
    said, true = (class_values([pair[side] for pair in pairs], mapping if side else {}) for side in (0, 1))
    if said and true and not said & true:
        hint = f" Use mapping={{{min(true)}: {min(said)}}}." if len(said) == len(true) == 1 else " Give a legend."
        msg = f"Truth and prediction must share class ids, got {sorted(true)[:9]} and {sorted(said)[:9]}.{hint}"
        raise DataError(msg)
    if not said | true:
        msg = f"Truth or prediction must hold a class, got only 0 and nodata in {pairs[0][1].name}. Give a legend."
        raise DataError(msg)
    return Legend.of({id_: f"class {id_}" for id_ in sorted(said | true)})


def _refuse_unmapped(score: Confusion, truths: Iterable[Path], mapping: Mapping[int, int]) -> None:
    """Refuse a truth whose classes were all taken for nodata, as those of a mask of 0 and 255 are."""
    if (score.true_positives + score.false_negatives).any() or 0 in score.legend.ids:
        return
    ids = score.legend.ids
    for path in truths:
        if strange := sorted(class_values([path], mapping) - {*ids, *mapping.values()}):
            msg = (
                f"Truth must hold class ids {', '.join(map(str, ids))}, got only {strange[:9]} in {path.name}. "
                f"Use mapping={{{strange[0]}: {ids[0]}}}, or {{{strange[0]}: {score.legend.nodata}}} if that is nodata."
            )
            raise DataError(msg)


def class_values(paths: Iterable[Path], mapping: Mapping[int, int]) -> set[int]:
    """Find the values in rasters of class ids, mapped, without 0 and nodata; the type's largest counts if alone."""
    found: set[int] = set()
    largest = 0
    for path in (paths := list(paths)):
        try:
            with Scene(path) as scene:
                if scene.dtype.kind not in "ui" or len(scene.indexes) > 1:
                    msg = f"Raster must have one band of class ids, got {len(scene.indexes)} of {scene.dtype} in {path.name}."
                    raise DataError(msg)
                for window in windows_of(scene.grid):
                    found |= set(np.unique(_mapped(scene.raw(window)[..., 0], mapping)).tolist())
                found.discard(scene.profile.get("nodata") or 0)
                largest = int(np.iinfo(scene.dtype).max)
        except SatmaskError:
            # In a folder, one bad file is reported when its turn to be scored comes.
            if len(paths) == 1:
                raise
    return found - {0, largest} or found - {0}


def files_by_name(folder: Path) -> dict[str, Path]:
    """Find the rasters of a folder by the names under which `score_folders` pairs them.

    Raises:
        DataError: If there is no such folder, or two files share a name.
    """
    if not folder.is_dir():
        msg = f"Folder must exist, got {str(folder)!r}."
        raise DataError(msg)
    named: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and ".probabilities" not in path.name:
            named.setdefault(bare_name(path), []).append(path)
    chosen = {}
    for name, paths in named.items():
        marked = [path for path in paths if path.stem != name] or paths
        if len(marked) > 1:
            msg = f"Names must tell rasters apart, got {marked[0].name} and {marked[1].name} in {folder}."
            raise DataError(msg)
        chosen[name] = marked[0]
    return chosen


def bare_name(path: Path) -> str:
    """Strip a file name of its suffix and of marks such as `.classes`, `_mask` and `mask_`.

    Examples:
        >>> {bare_name(Path(name)) for name in ("a.classes.tif", "a_mask.png", "mask_a.tif", "a.tif")}
        {'a'}
    """
    return re.sub(rf"^{MARKS}[._-]|[._-]{MARKS}$", "", path.stem, flags=re.IGNORECASE)
