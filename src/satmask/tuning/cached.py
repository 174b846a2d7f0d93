"""Probabilities kept on disk: what a network said of an image, by network and image, so that it is asked once."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from satmask.fitting import open_for
from satmask.prediction import walk
from satmask.stack import Stack

if TYPE_CHECKING:
    from satmask.datasets.dataset import Sample
    from satmask.engines import Engine
    from satmask.model_info import ModelInfo

# What a model file says beside what decides on its probabilities.
_SAYS_NOTHING = {
    "thresholds",
    "min_area_m2",
    "min_area_px",
    "merges",
    "shapes",
    "refinements",
    "training",
    "version",
    "created",
}


@dataclass(frozen=True)
class Cache:
    """A folder of probabilities.

    Attributes:
        folder: Where they lie, one `.npy` an image: float32, `(classes, height, width)`, NaN where not valid.
        network: Digest of what the probabilities depend on, see `digest_model`.
    """

    folder: Path
    network: str

    def load(self, engine: Engine, sample: Sample) -> np.ndarray:
        """Read what the network says of an image, or run it and keep that.

        Args:
            engine: The network that the digest is of.
            sample: The image.

        Returns:
            Probabilities, float32, `(classes, height, width)`, mapped from disk.
        """
        path = self.folder / f"{self._key(sample)}.npy"
        shape = (len(engine.info.legend), *sample.shape)
        try:
            found = np.load(path, mmap_mode="r")
            if found.shape == shape and found.dtype == np.float32:
                return np.asanyarray(found)
        except (OSError, ValueError):
            pass  # not there, or half of one
        self._write(path, predict(engine, sample))
        return np.asanyarray(np.load(path, mmap_mode="r"))

    def _key(self, sample: Sample) -> str:
        parts = hashlib.sha256(f"{self.network} {sample.shape}".encode())
        image = sample.image
        if isinstance(image, Stack):
            parts.update(repr(image).encode())
        for path in [product.path for product in image.products] if isinstance(image, Stack) else [image]:
            with path.open("rb") as file:
                parts.update(hashlib.file_digest(file, "sha256").digest())
        return parts.hexdigest()[:32]

    def _write(self, path: Path, said: np.ndarray) -> None:
        """The file gets its name when it is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.stem}.{os.getpid()}.part")
        try:
            with partial.open("wb") as file:
                np.save(file, said)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def digest_model(path: str | Path, info: ModelInfo) -> str:
    """Digest what a model file's probabilities depend on: its graph, and all it says but how they are decided.

    Args:
        path: The `.onnx` file.
        info: What it says.

    Returns:
        64 hexadecimal digits: the same before and after tuning.
    """
    import onnx

    model = onnx.ModelProto.FromString(Path(path).read_bytes())
    del model.metadata_props[:]
    parts = hashlib.sha256(digest_info(info).encode())
    parts.update(model.SerializeToString(deterministic=True))
    return parts.hexdigest()


def digest_info(info: ModelInfo) -> str:
    """Digest an engine's information alone, for a cache that lives as long as the engine."""
    content = info.model_dump(mode="json", exclude=_SAYS_NOTHING)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def predict(engine: Engine, sample: Sample) -> np.ndarray:
    """Run a network over an image: float32, `(classes, height, width)`, NaN where not valid."""
    said = np.empty((len(engine.info.legend), *sample.shape), np.float32)
    with open_for(engine.info, sample.image) as scene:
        for piece in walk(engine, scene):
            said[(slice(None), *piece.tile.core.slices)] = np.moveaxis(piece.probabilities, -1, 0)
    return said
