"""Shipping: a Dask cluster's workers are sent the model, also those that come later.

Scenes and outputs are where all workers see them, or nothing could be done; the model is a file of whoever asks, and small.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import distributed


class ModelPlugin(distributed.WorkerPlugin):  # type: ignore[misc]  # Dask has no types
    """Puts the files of a model beside each worker's own.

    Args:
        model: The file that `satmask.engines.open_engine` opens.
        files: All files that it consists of, in its folder or below.
        digest: What its bytes are known by.
    """

    def __init__(self, model: Path, files: list[Path], digest: str) -> None:
        # A name for each command: one that ends must not take away what another uses.
        self.name, self._folder = f"satmask-{uuid.uuid4().hex}", f"satmask-{digest}"
        self._files = {file.relative_to(model.parent).as_posix(): file.read_bytes() for file in files}

    def setup(self, worker: Any) -> None:
        """Write the files, when a worker has come."""
        folder = Path(worker.local_directory) / self._folder
        for name, content in self._files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
            draft.write_bytes(content)
            draft.replace(path)  # whole, where another command's worker reads it


def find_shipped(model: Path, digest: str) -> Path | None:
    """The model as it was sent to the worker that this is; None if it wasn't, or this is none."""
    try:
        worker = distributed.get_worker()
    except ValueError:
        return None
    path = Path(worker.local_directory) / f"satmask-{digest}" / model.name
    return path if path.is_file() else None
