"""Writing a split: the files of a data set, sorted into `train/` and `val/` of a new folder of the same layout."""

from __future__ import annotations

import csv
import filecmp
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from satmask.datasets.coco import sound_content
from satmask.datasets.legend_file import NAMES, to_toml
from satmask.datasets.scenes import find_vectors
from satmask.errors import DataError, SettingError
from satmask.folders import aside
from satmask.labels import MaskLabels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from satmask.datasets.dataset import Sample
    from satmask.splitting import Plan

    Link = Literal["hard", "symbolic", "copy"]

LINKS = ("hard", "symbolic", "copy")
# What lies beside a raster and belongs to it: world files and projections, by its stem; and by its whole name.
STEM_SIDECARS = (".tfw", ".tifw", ".jgw", ".jpgw", ".pgw", ".pngw", ".j2w", ".wld", ".prj")
SHAPEFILE = (".shx", ".dbf", ".prj", ".cpg")
NAME_SIDECARS = (".aux.xml", ".ovr", ".msk")


def write_split(plan: Plan, out: str | Path, *, link: Link = "copy", legend_given: bool = False) -> Path:
    """Write a split as `train/` and `val/`, in the layout of the data set, with `splits.csv` and `splits.json`.

    Images and masks stay as they are, and keep their names and sidecars. Where `train/` and `val/` of the data set have
    files of one name that come to lie on one side, the name of the second begins with its former split, and its id in
    an annotation file is a new one if it has to be.

    Args:
        plan: The split.
        out: Folder to write; it mustn't exist, or must be empty.
        link: Whether images and masks are linked, which costs no space, or copied.
        legend_given: Whether the plan's legend takes the place of the data set's legend file.

    Returns:
        The folder.

    Raises:
        SettingError: If the folder holds something, or files can't be linked.
        DataError: If vector files of one name differ.
    """
    if link not in LINKS:
        msg = f"Link must be one of {', '.join(LINKS)}, got {link!r}."
        raise SettingError(msg)
    if plan.data.layout not in _WRITERS:
        msg = f"Split must be of a layout that can be written, one of {', '.join(_WRITERS)}, got {plan.data.layout!r}."
        raise SettingError(msg)
    out = Path(out)
    with aside(out) as folder:
        for split in ("train", "val"):
            side = _Side(plan, split, folder / split, link)
            side.folder.mkdir()
            _WRITERS[plan.data.layout](side)
        _write_legend(plan, folder, given=legend_given)
        _write_lists(plan, folder)
    return out


@dataclass
class _Side:
    """One side of a split while it is written.

    Attributes:
        plan: The split.
        split: `"train"` or `"val"`.
        folder: Where it is written.
        link: How files get there.
        names: Image file of each of its samples, by index, in the new folder.
    """

    plan: Plan
    split: str
    folder: Path
    link: str
    names: dict[int, str] = field(init=False)

    def __post_init__(self) -> None:
        """Find names for all samples."""
        samples, members = self.plan.samples, self.plan.members(self.split)
        counts = Counter(_file(samples[index]).stem for index in members)
        self.names = {}
        for index in members:
            prefix = "" if counts[_file(samples[index]).stem] == 1 else f"{self.plan.origins[index]}_"
            self.names[index] = prefix + _file(samples[index]).name

    def samples(self) -> Iterator[tuple[int, Sample, str]]:
        """Index, sample, and what its files' names have to begin with to be unique."""
        for index, name in self.names.items():
            sample = self.plan.samples[index]
            yield index, sample, name.removesuffix(_file(sample).name)

    def bring(self, source: Path, target: Path) -> None:
        """Bring a raster with its sidecars."""
        if source.suffix.lower() == ".vrt":
            msg = f"Split must be of rasters that can be moved, got {source.name}, which points to others. Make it a GeoTIFF."
            raise DataError(msg)
        target.parent.mkdir(exist_ok=True)
        self.put(source, target)
        pairs = [(source.with_suffix(suffix), target.with_suffix(suffix)) for suffix in STEM_SIDECARS]
        pairs += [
            (source.with_name(source.name + suffix), target.with_name(target.name + suffix)) for suffix in NAME_SIDECARS
        ]
        for beside, place in pairs:
            if beside.exists():
                self.put(beside, place)

    def put(self, source: Path, target: Path) -> None:
        """Copy or link one file."""
        if target.exists():
            if filecmp.cmp(source, target, shallow=False):
                return
            msg = f"Files of one name must be the same to lie in one folder, got two {target.name} that differ, one in {source.parent}. Rename one."
            raise DataError(msg)
        try:
            _HOW[self.link](source, target)
        except OSError as error:
            if self.link == "copy":
                raise
            msg = f"--link {self.link} must be possible from {source.parent} to --out, got {error.strerror!r}. Use --link copy."
            raise SettingError(msg) from error


def _hard(source: Path, target: Path) -> None:
    os.link(source.resolve(), target)


def _symbolic(source: Path, target: Path) -> None:
    target.symlink_to(source.resolve())


_HOW: dict[str, Callable[[Path, Path], object]] = {"hard": _hard, "symbolic": _symbolic, "copy": shutil.copy2}


def _write_pairs(side: _Side) -> None:
    for _, sample, prefix in side.samples():
        mask = _mask(sample)
        for path in (_file(sample), mask):
            side.bring(path, side.folder / path.parent.name / (prefix + path.name))


def _write_scenes(side: _Side) -> None:
    drawn: set[Path] = set()
    for _, sample, prefix in side.samples():
        side.bring(_file(sample), side.folder / (prefix + _file(sample).name))
        if isinstance(sample.labels, MaskLabels):
            mask = sample.labels.path
            side.bring(mask, side.folder / (prefix + mask.name))
        else:
            if prefix:
                msg = (
                    f"Scenes with vector labels must have names of their own, got two {_file(sample).name}. Rename one."
                )
                raise DataError(msg)
            drawn.add(_file(sample).parent)
    for vector in (path for folder in sorted(drawn) for path in find_vectors(folder)):
        parts = SHAPEFILE if vector.suffix.lower() == ".shp" else ()
        for path in (vector, *(vector.with_suffix(suffix) for suffix in parts)):
            if path.exists():
                side.put(path, side.folder / path.name)


def _write_coco(side: _Side) -> None:
    parts: list[dict[str, Any]] = []
    for origin in dict.fromkeys(side.plan.origins):
        members = {index: name for index, name in side.names.items() if side.plan.origins[index] == origin}
        if members:
            first = side.plan.samples[next(iter(members))]
            content = sound_content(_file(first).parent.parent, side.plan.data.legend)
            names = {_file(side.plan.samples[index]).name: name for index, name in members.items()}
            parts.append(_restrict(content, names))
    for index, name in side.names.items():
        side.bring(_file(side.plan.samples[index]), side.folder / "images" / name)
    text = json.dumps(_merge(parts), ensure_ascii=False)
    (side.folder / "annotation.json").write_text(text, encoding="utf-8")


def _restrict(content: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """An annotation file with some of its images, under new names."""
    images = [
        image | {"file_name": names[image["file_name"]]} for image in content["images"] if image["file_name"] in names
    ]
    ids = {image["id"] for image in images}
    annotations = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    return content | {"images": images, "annotations": annotations}


def _merge(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Annotation files as one; of ids that two of them use, the second's images or annotations get new ones."""
    whole = dict(parts[0])
    for part in parts[1:]:
        images = _renumbered(whole["images"], part["images"])
        annotations = [entry | {"image_id": images[entry["image_id"]]} for entry in part["annotations"]]
        numbers = _renumbered(whole["annotations"], annotations)
        known = {entry["id"] for entry in whole["categories"]}
        whole = whole | {
            "images": [*whole["images"], *({**entry, "id": images[entry["id"]]} for entry in part["images"])],
            "annotations": [*whole["annotations"], *({**entry, "id": numbers[entry["id"]]} for entry in annotations)],
            "categories": [*whole["categories"], *(entry for entry in part["categories"] if entry["id"] not in known)],
        }
    return whole


def _renumbered(there: list[dict[str, Any]], more: list[dict[str, Any]]) -> dict[int, int]:
    """New id of each old one: all as they are if none is taken, else all moved beyond the largest."""
    taken = {entry["id"] for entry in there}
    ids = [entry["id"] for entry in more]
    beyond = max([*taken, *ids], default=0) + 1 if taken & set(ids) else None
    return {old: old if beyond is None else beyond + number for number, old in enumerate(ids)}


_WRITERS: dict[str, Callable[[_Side], None]] = {"coco": _write_coco, "pairs": _write_pairs, "scenes": _write_scenes}


def _file(sample: Sample) -> Path:
    if not isinstance(sample.image, Path):
        msg = f"Split must be of images of one file each, got several products for {sample.name!r}."
        raise DataError(msg)
    return sample.image


def _mask(sample: Sample) -> Path:
    if not isinstance(sample.labels, MaskLabels):
        msg = f"Labels must be a mask, got {type(sample.labels).__name__} for {sample.name!r}."
        raise DataError(msg)
    return sample.labels.path


def _write_legend(plan: Plan, folder: Path, *, given: bool) -> None:
    """Carry the legend file; where there is none, write the legend that was found."""
    places = [plan.data.root, *(plan.data.root / split for split in ("train", "val"))]
    found = next((place / name for place in places for name in NAMES if (place / name).is_file()), None)
    if found and not given:
        shutil.copy2(found, folder / found.name)
    else:
        (folder / "legend.toml").write_text(to_toml(plan.data.legend), encoding="utf-8")


def _write_lists(plan: Plan, folder: Path) -> None:
    rows = [(index, group) for group in plan.groups for index in group.members]
    with (folder / "splits.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "split", "group", "why", "came_from"])
        for index, group in rows:
            writer.writerow([plan.samples[index].name, group.split, group.name, group.why, plan.origins[index]])
    (folder / "splits.json").write_text(json.dumps(plan.to_dict(), indent=2, ensure_ascii=False), encoding="utf-8")
