"""Lists of scenes: what the user names, as files, folders, patterns or lists, one after the other."""

from __future__ import annotations

import glob
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from satmask.addresses import Remote, as_address, is_remote
from satmask.buckets import SCHEMES, Bucket
from satmask.datasets.dataset import Problem
from satmask.datasets.dstl import is_dstl, labelled_images, list_stacks
from satmask.datasets.pairs import FOLDERS, list_images
from satmask.datasets.scenes import is_mask
from satmask.errors import SatmaskError, SettingError
from satmask.permissions import allowed
from satmask.stac import read_items
from satmask.stack import SUFFIX, Stack, open_imagery

if TYPE_CHECKING:
    from collections.abc import Sequence

SceneSource: TypeAlias = Path | Remote | Stack
"""What a scene is opened from."""

MARKS = (".classes", ".probabilities", ".uncertainty")
"""What predictions are called after the scene's name."""


def find_scenes(
    names: Sequence[str | Path],
    *,
    labelled: bool | None = None,
    registration: Path | None = None,
    assets: Sequence[str] = (),
    problems: list[Problem] | None = None,
) -> list[SceneSource]:
    """List the scenes that somebody names.

    A name is a raster or a stack file; an address such as `s3://bucket/scene.tif`; a folder, which stands for its rasters,
    or for those in its `images/` or `img/`, without masks and predictions; a DSTL folder; a pattern such as
    `tiles/**/*.tif`; a text file of names, one a line, as `list.txt` or `@list`; or a STAC item or collection of items, as
    `items.json`. What such files name on the network is listed only with the permission "remote".

    Args:
        names: What the user names. A file that isn't there is listed: who opens it says so.
        labelled: Of a DSTL folder only images with polygons (True) or without (False).
        registration: Shifts of its products, instead of its `registration.json`.
        assets: Of STAC items the asset of this name; several make one scene.
        problems: Takes entries of lists that can't be used, and warnings.

    Returns:
        The scenes, in the order named, each once.

    Raises:
        SettingError: If a folder, a pattern or all of it holds none, or a setting has nothing to apply to.
    """
    problems = [] if problems is None else problems
    if (labelled is not None or registration) and not any(is_dstl(Path(name)) for name in names):
        msg = (
            f"--labelled, --unlabelled and --registration must go with a DSTL folder, got {', '.join(map(str, names))}."
        )
        raise SettingError(msg)
    if assets and not any(map(_is_items, names)):
        msg = f"--asset must go with a STAC file, got {', '.join(map(str, names))}."
        raise SettingError(msg)
    found: list[SceneSource] = []
    for name in names:
        if is_list(name):
            found += _in_list(Path(str(name).removeprefix("@")), problems)
        elif _is_items(name):
            found += _of_items(Path(name), problems, assets)
        elif is_dstl(Path(name)):
            found += _of_dstl(Path(name), problems, labelled=labelled, registration=registration)
        else:
            found += _named(name)
    if not found and not any(problem.severity == "error" for problem in problems):
        msg = f"Scenes must be at least one, got none in {', '.join(map(str, names))}."
        raise SettingError(msg)
    return list(dict.fromkeys(found))


def is_list(name: str | Path) -> bool:
    """Whether a name is that of a list file: `list.txt`, or `@list`.

    Examples:
        >>> is_list("scenes.txt"), is_list("@scenes"), is_list("scene.tif")
        (True, True, False)
    """
    text = str(name)
    return not is_remote(name) and (text.startswith("@") or text.lower().endswith(".txt"))


def _is_items(name: str | Path) -> bool:
    return not is_remote(name) and str(name).lower().endswith((".json", ".geojson")) and not str(name).endswith(SUFFIX)


def _of_items(file: Path, problems: list[Problem], assets: Sequence[str]) -> list[SceneSource]:
    def report(item: str, what: str) -> None:
        problems.append(Problem(item, what))

    return list(read_items(file, assets=assets, report=report))


def _named(name: str | Path) -> list[SceneSource]:
    """The scenes of a folder or a pattern, or the one of this name."""
    if is_remote(name):
        return [as_address(name)]
    path = Path(name)
    if path.is_dir():
        return list(_in_folder(path))
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    matches = sorted(Path(match) for match in glob.iglob(str(path), recursive=True))  # noqa: PTH207  # absolute patterns
    scenes = [match for match in matches if match.is_file() and not _is_ours(match)]
    if not scenes:
        msg = f"Pattern must match a scene, got none for {str(path)!r}."
        raise SettingError(msg)
    return list(scenes)


def _in_folder(folder: Path) -> list[Path]:
    inner = next((folder / name for name, _ in FOLDERS if (folder / name).is_dir()), folder)
    scenes = [path for path in list_images(inner) if not _is_ours(path)]
    scenes = sorted(inner.glob(f"*{SUFFIX}")) or scenes
    if not scenes:
        msg = f"Scenes must be rasters or folders of rasters, got a folder without any: {folder}."
        raise SettingError(msg)
    return scenes


def _is_ours(path: Path) -> bool:
    """Whether a raster is a mask, a prediction, or what a prediction is being written to."""
    return is_mask(path) or path.stem.endswith(MARKS) or path.name.startswith(".")


def _in_list(file: Path, problems: list[Problem]) -> list[SceneSource]:
    """The scenes that a text file names, relative to its folder; `#` begins a remark."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        msg = f"List of scenes must be a text file in UTF-8, got {str(error)!r:.120} for {file.name}."
        raise SettingError(msg) from error
    found: list[SceneSource] = []
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        try:
            found += _from_line(name, file)
        except SatmaskError as error:
            problems.append(Problem(f"{file.name}, line {number}", str(error)))
    return found


def _from_line(name: str, file: Path) -> list[SceneSource]:
    if is_remote(name):
        if not allowed("remote"):
            msg = f"List of scenes must name local files, got {name!r:.120} in {file.name}. --allow-remote lets it."
            raise SettingError(msg)
        return [as_address(name)]
    if is_list(name) or _is_items(name):
        msg = f"List of scenes must name no other list, got {name!r} in {file.name}. Name it on the command line."
        raise SettingError(msg)
    return _named(file.parent / name)


def _of_dstl(folder: Path, problems: list[Problem], *, labelled: bool | None, registration: Path | None) -> list[Stack]:
    stacks = list_stacks(folder, registration=registration, problems=problems)
    if labelled is None:
        return list(stacks.values())
    known = labelled_images(folder)
    return [stack for image, stack in stacks.items() if (image in known) == labelled]


def choose_scenes(scenes: Sequence[SceneSource], patterns: Sequence[str] | None) -> list[SceneSource]:
    """The scenes whose names, without suffix, match one of the patterns; all without patterns.

    Raises:
        SettingError: If none is left of some.
    """
    chosen = [scene for scene in scenes if not patterns or any(fnmatch(stem_of(scene), one) for one in patterns)]
    if not chosen and patterns:
        msg = f"Scenes must be at least one, got none of {len(scenes)} named {' or '.join(patterns)}."
        raise SettingError(msg)
    return chosen


def refuse_overwriting(scenes: Sequence[SceneSource], out: Path | Bucket) -> None:
    """Refuse scenes whose results would lie over one another, over a scene, or over somebody's vector file.

    Raises:
        SettingError: With the names of the files.
    """
    read = {file.resolve() for scene in scenes for file in _files(scene)}
    owners: dict[str, SceneSource] = {}
    for scene in scenes:
        stem = stem_of(scene)
        if stem in owners:
            msg = f"Scenes must have names of their own, got {owners[stem]} and {scene}. Predict them apart."
            raise SettingError(msg)
        owners[stem] = scene
        targets = [out / f"{stem}{mark}.tif" for mark in MARKS]
        if hit := [target for target in targets if target.resolve() in read]:
            msg = f"Output must not lie over a scene, got {hit[0]}. Choose another --out."
            raise SettingError(msg)
        features = out / f"{stem}.gpkg"
        if features.exists() and not targets[0].exists():
            msg = f"Output must not lie over a file of another origin, got {features}. Choose another --out."
            raise SettingError(msg)


def _files(scene: SceneSource) -> list[Path | Bucket]:
    """The files that a scene is read from, where something can be written."""
    if isinstance(scene, Stack):
        return [product.path for product in scene.products]
    if isinstance(scene, Remote):
        return [Bucket(scene.url)] if scene.url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)) else []
    return [scene]


def stem_of(scene: str | SceneSource) -> str:
    """What the outputs of a scene are called after.

    Examples:
        >>> stem_of("data/north.tif"), stem_of("data/south.stack.json"), stem_of("s3://bucket/east.tif")
        ('north', 'south', 'east')
    """
    if isinstance(scene, Stack):
        return scene.name
    address = as_address(scene)
    return address.name.removesuffix(SUFFIX) if address.name.endswith(SUFFIX) else address.stem


def megapixels(scene: SceneSource) -> float:
    """Size of a scene by its header; 0 for what can't be opened, which is reported in its turn."""
    try:
        with open_imagery(scene) as imagery:
            return imagery.shape[0] * imagery.shape[1] / 1e6
    except SatmaskError:
        return 0.0
