"""Identities: by what a model and a scene are known again, so that nobody goes on with the work on another."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from satmask.addresses import Remote, as_address
from satmask.paths import inner_path
from satmask.stack import SUFFIX, Stack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from satmask.engines import Engine
    from satmask.scene_lists import SceneSource

# Of a scene's file, so many blocks of so many bytes are looked at: its beginning, its end, and what lies between.
SAMPLES = 64
SAMPLE_BYTES = 4096
_HEAD = 1 << 16
_PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "keras": "keras"}


def identify_model(engine: Engine) -> dict[str, str] | None:
    """Name a model and what runs it.

    Args:
        engine: The network.

    Returns:
        A digest of all its files, and the engine with its version, which decides about the last bits; None for an engine
        that didn't come from a file.
    """
    if engine.path is None:
        return None
    names = [engine.name] if engine.name in _PACKAGES else sorted(_PACKAGES)
    versions = []
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(_PACKAGES[name])}")
    return {"digest": _digest(_model_files(engine.path)), "engine": f"{engine.name} ({', '.join(versions)})"}


def model_files(path: Path) -> list[Path]:
    """All files that a model consists of, in its folder or below.

    Args:
        path: The file that `satmask.engines.open_engine` opened.
    """
    return [file for file, _ in _model_files(path)]


def identify_scene(image: str | SceneSource) -> dict[str, Any]:
    """Name a scene as it is now: what is read from it later must be the same.

    Size and time of change of each file are taken, and some of its content: a header and 64 blocks of 4 KiB spread over it.
    A file that is changed in place is noticed by its time, one that is replaced by its content.

    Args:
        image: What the scene is opened from.

    Returns:
        Plain values for JSON.
    """
    if isinstance(image, Stack):
        return {"stack": hashlib.sha256(repr(image).encode()).hexdigest(), "files": _files(image)}
    address = as_address(image)
    if isinstance(address, Remote):
        return {"address": hashlib.sha256(address.url.partition("?")[0].encode()).hexdigest(), **_remote(address)}
    if address.name.endswith(SUFFIX):
        return {"files": [_file(address), *_files(Stack.load(address))]}
    return {"files": [_file(path) for path in [address, *_sources(address)]]}


def _files(stack: Stack) -> list[dict[str, Any]]:
    return [_file(product.path) for product in stack.products]


def _sources(path: Path) -> list[Path]:
    """The files that a VRT is put together from."""
    if path.suffix.lower() != ".vrt":
        return []
    import rasterio

    with rasterio.open(path, driver="VRT") as file:
        return [Path(name) for name in file.files if Path(name).is_file() and Path(name) != path]


def _remote(address: Remote) -> dict[str, Any]:
    """What of a raster on the network costs one look: its header."""
    import rasterio

    from satmask.scene import Scene

    with Scene(address) as scene:
        profile = {key: str(value) for key, value in sorted(scene.profile.items())}
        sampled = hashlib.sha256(np.ascontiguousarray(scene.sample()).tobytes()).hexdigest()
    return {"profile": profile, "sample": sampled, "rasterio": rasterio.__version__}


def _file(path: Path) -> dict[str, Any]:
    """Size, time of change, and a digest of parts of a file."""
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_HEAD))
        for number in range(SAMPLES):
            file.seek(max(status.st_size - SAMPLE_BYTES, 0) * number // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return {"bytes": status.st_size, "changed_ns": status.st_mtime_ns, "digest": digest.hexdigest()}


def _model_files(path: Path) -> tuple[tuple[Path, int], ...]:
    """All files that a model consists of, and when they were changed."""
    files = [path]
    if path.suffix == ".json":
        members = json.loads(path.read_text(encoding="utf-8"))["members"]  # an assembly; it has been opened
        files += [inner_path(member["file"], path) for member in members]
    files += [file.with_suffix(".keras") for file in files if file.with_suffix(".keras").is_file()]
    return tuple((file, file.stat().st_mtime_ns) for file in files)


@lru_cache(maxsize=16)
def _digest(files: Iterable[tuple[Path, int]]) -> str:
    """Digest of whole files; remembered, for folders of scenes."""
    digest = hashlib.sha256()
    for path, _ in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
