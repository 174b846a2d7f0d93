"""Resuming: a store is gone on with if it is of the same model, scene and settings, and refused otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from satmask import __version__
from satmask.errors import SceneError
from satmask.prediction.identity import identify_model, identify_scene
from satmask.prediction.store import SCHEMA, WindowStore, read_manifest, write_manifest
from satmask.prediction.tiling import Tiling, choose_window, lay_out
from satmask.windows import sides_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from satmask.buckets import Bucket
    from satmask.engines import Engine
    from satmask.prediction.claim import Claim
    from satmask.prediction.remote_claim import RemoteClaim
    from satmask.prediction.walking import Seeing
    from satmask.scene import Imagery
    from satmask.scene_lists import SceneSource
    from satmask.windows import Size


def prepare(
    claim: Claim | RemoteClaim,
    engine: Engine,
    image: str | SceneSource,
    scene: Imagery,
    *,
    size: Size | None,
    largest: int | None,
    seeing: Seeing,
    tell: Callable[[str], None],
) -> tuple[Tiling, WindowStore | None]:
    """Say which windows a scene is cut into, and open the store that is there, or a new one.

    A scene of one window gets no store: it is done before anything could be kept. Without a size asked for, a store that
    is there says which one it was begun with.

    Args:
        claim: The folder.
        engine: The network.
        image: What the scene was opened from.
        scene: The scene.
        size: Sides of a window at most that the user asked for.
        largest: Side that memory allows, where the user says nothing.
        seeing: How the network sees the scene.
        tell: Called with a note where work goes on.

    Returns:
        The windows, and the store; None for a single window.

    Raises:
        SceneError: If the store that is there is of something else.
    """
    # What an engine without a file has done can't be told from what another has done.
    found = read_manifest(claim.folder) if engine.path is not None else None
    if found is None:
        size = size or _choose(engine, scene, largest)
        tiling = lay_out(engine.info, scene.shape, size=size, workers=engine.workers)
        if len(tiling) == 1:
            return tiling, None
    about = describe(engine, image, scene, seeing)
    classes = len(engine.info.legend)
    if found is not None and (different := differences(found, about, size=size)):
        raise _refusal(claim.folder, scene.name, different)
    store = None
    if found is not None:
        tiling = lay_out(engine.info, scene.shape, size=tuple(found["size"]))
        store = _reopen(claim, tiling, classes)
    if store is None:
        size = size or _choose(engine, scene, largest)
        tiling = lay_out(engine.info, scene.shape, size=size)
        claim.clear()
        store = WindowStore(claim.folder, tiling, classes, new=True)
        write_manifest(claim.folder, about | {"size": tiling.size, "windows": _windows(tiling)})
        return tiling, store
    tell(f"{store.count()} of {len(tiling)} windows of {scene.name} are there already; going on with the rest.")
    return tiling, store


def _reopen(claim: Claim | RemoteClaim, tiling: Tiling, classes: int) -> WindowStore | None:
    """Open the store that is there; None where a power cut, or a kill while it was thrown away, left no store of it."""
    try:
        return WindowStore(claim.folder, tiling, classes, new=False)
    except (KeyError, ValueError, FileNotFoundError):
        return None


def describe(engine: Engine, image: str | SceneSource, scene: Imagery, seeing: Seeing) -> dict[str, Any]:
    """Everything that decides about what a store holds, as plain values."""
    return {
        "satmask": __version__,
        "model": identify_model(engine),
        "scene": {"name": scene.name, "shape": list(scene.shape), **identify_scene(image)},
        "settings": {
            "bands": [str(index) for index in scene.indexes],
            "pixels": ", ".join(f"{key}={value}" for key, value in scene.notes.items()) or "as they are",
            "symmetries": seeing.symmetries if seeing.symmetries == "none" else f"{seeing.symmetries} ({seeing.mean})",
        },
    }


def differences(found: dict[str, Any], wanted: dict[str, Any], *, size: Size | None = None) -> list[str]:
    """Say in words what a store was made with that is otherwise now.

    Args:
        found: Its manifest.
        wanted: What `describe` says now.
        size: Sides of a window that the user asks for; None if any will do.

    Returns:
        Phrases; none if the store can be gone on with.
    """
    if found.get("schema_version") != SCHEMA:
        return [f"layout {found.get('schema_version')} of another version of satmask"]
    said = []
    if found["model"] != wanted["model"]:
        same = (found["model"] or {}).get("digest") == wanted["model"]["digest"]
        said.append(f"engine {found['model']['engine']}" if same else "another model")
    if found["scene"] != wanted["scene"]:
        said.append("another scene, or this one before it was changed")
    before, now = found["settings"], wanted["settings"]
    said += [
        f"{key} {_text(before.get(key))} instead of {_text(now[key])}" for key in now if before.get(key) != now[key]
    ]
    if size is not None and sides_of(size) != tuple(found["size"]):
        said.append(f"windows of {_sides(found['size'])} instead of {_sides(sides_of(size))}")
    return said


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _sides(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))


def _refusal(folder: Path | Bucket, name: str, different: list[str]) -> SceneError:
    return SceneError(
        f"What was begun of {name} must be gone on with by the same model, scene and settings, got "
        f"{'; '.join(different)} in {folder}. Give the command that began it, or --restart to throw that away."
    )


def _choose(engine: Engine, scene: Imagery, largest: int | None) -> tuple[int, int]:
    return choose_window(engine.info, scene.shape, workers=engine.workers, largest=largest)


def _windows(tiling: Tiling) -> dict[str, Any]:
    height, width = tiling.side
    return {"rows": tiling.rows, "columns": tiling.columns, "height": height, "width": width, "halo": tiling.halo}
