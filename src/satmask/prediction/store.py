"""The store: what is known of a scene so far, on disk, so that a run that ends too soon loses next to nothing.

A Zarr 3 group with one chunk for each window, compressed lightly and with a checksum (crc32c), and a mark for each window
that is done, which is written after its chunk. A chunk appears whole under its name or not at all; one that a power cut
damaged fails its checksum, and its window is done again. Several processes may write windows at once.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from satmask.buckets import Bucket, zarr_address
from satmask.errors import SceneError
from satmask.prediction.pieces import Piece

if TYPE_CHECKING:
    from collections.abc import Mapping

    from satmask.prediction.tiling import Step, Tiling

SCHEMA = 2
MANIFEST = "manifest.json"
ARRAYS = "windows.zarr"
TO_DO, DONE, EMPTY = 0, 1, 2


class WindowStore:
    """What a network said about each window of a scene.

    Args:
        folder: Where it is, or will be.
        tiling: The windows.
        classes: Number of classes.
        new: Whether to begin anew, whatever is there.
    """

    def __init__(self, folder: Path | Bucket, tiling: Tiling, classes: int, *, new: bool) -> None:
        self.folder, self.tiling, self.classes = folder, tiling, classes
        if new:
            create_arrays(folder / ARRAYS, tiling, classes)
        import zarr

        group = zarr.open_group(zarr_address(folder / ARRAYS), mode="r+", zarr_format=3)
        self._said: Any = group["probabilities"]
        self._marks: Any = group["marks"]

    def save(self, step: Step, piece: Piece) -> None:
        """Write what is said about a window, then mark it as done. Safe in several threads and processes.

        Raises:
            SceneError: If it can't be written.
        """
        row, column = divmod(step.number, self.tiling.columns)
        known = bool(piece.valid.any())
        try:
            if known:
                self._said[row : row + 1, column : column + 1] = self._padded(piece.probabilities)[None, None]
            self._marks[row, column] = DONE if known else EMPTY
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def _padded(self, probabilities: np.ndarray) -> np.ndarray:
        """What fills a chunk: windows at the scene's edge may keep less."""
        full = (*self.tiling.largest_core, self.classes)
        if probabilities.shape == full:
            return probabilities
        chunk = np.full(full, np.nan, np.float32)
        chunk[: probabilities.shape[0], : probabilities.shape[1]] = probabilities
        return chunk

    def load(self, step: Step) -> Piece | None:
        """Read what is said about a window; None where nothing is, yet.

        Raises:
            DamagedError: If the window is marked as done, but what was written is gone or fails its checksum.
        """
        row, column = divmod(step.number, self.tiling.columns)
        core = step.tile.core
        try:
            mark = int(self._marks[row, column])
            if mark == TO_DO:
                return None
            if mark == EMPTY:
                said = np.full((core.height, core.width, self.classes), np.nan, np.float32)
            else:
                chunk = self._said[row : row + 1, column : column + 1]
                said = np.ascontiguousarray(chunk[0, 0, : core.height, : core.width])
        except FileNotFoundError:
            raise
        except Exception as error:  # codecs raise whatever they like, and share no base class
            raise DamagedError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
        valid = ~np.isnan(said[..., 0])
        if mark == DONE and not valid.any():  # Zarr reads a chunk that isn't there as one without data.
            msg = "its chunk is missing"
            raise DamagedError(msg)
        return Piece(step.tile, said, valid)

    def count(self) -> int:
        """Windows that are done; damaged marks don't count."""
        return len(self.tiling) - len(self.missing())

    def missing(self) -> list[int]:
        """Numbers of the windows that aren't done, in row order."""
        try:
            marks = np.asarray(self._marks[...]).ravel()
            return np.flatnonzero(marks == TO_DO).tolist()
        except Exception:  # noqa: BLE001  # as in `load`
            columns = self.tiling.columns
            return [step.number for step in self.tiling.steps if not self._is_done(*divmod(step.number, columns))]

    def _is_done(self, row: int, column: int) -> bool:
        try:
            return bool(self._marks[row, column])
        except Exception:  # noqa: BLE001  # as in `load`
            return False


class DamagedError(Exception):
    """What was written of a window can't be read again; the window has to be done again."""


def create_arrays(path: Path | Bucket, tiling: Tiling, classes: int) -> None:
    """Make a Zarr group for the windows of a tiling; nothing is marked."""
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

    height, width = tiling.largest_core
    # Floats whose bytes are sorted by place: half the time of zstd, and a tenth less on disk.
    packing = BloscCodec(cname="lz4", clevel=1, shuffle="shuffle", typesize=4)
    try:
        group = zarr.open_group(zarr_address(path), mode="w", zarr_format=3)
        group.create_array(
            "probabilities",
            shape=(tiling.rows, tiling.columns, height, width, classes),
            chunks=(1, 1, height, width, classes),
            dtype="float32",
            fill_value=np.nan,
            compressors=[packing, Crc32cCodec()],
            chunk_key_encoding={"name": "v2", "separator": "."},
            dimension_names=("window_row", "window_column", "row", "column", "class"),
            config={"write_empty_chunks": True},
        )
        group.create_array(
            "marks",
            shape=(tiling.rows, tiling.columns),
            chunks=(1, 1),
            dtype="uint8",
            fill_value=TO_DO,
            compressors=[Crc32cCodec()],
            chunk_key_encoding={"name": "v2", "separator": "."},
            dimension_names=("window_row", "window_column"),
        )
    except OSError as error:
        raise unwritable(path, error) from error


def write_manifest(folder: Path | Bucket, content: Mapping[str, Any]) -> None:
    """Write what a store is about; it appears whole, and stays through a power cut."""
    path, text = folder / MANIFEST, json.dumps({"schema_version": SCHEMA, **content}, indent=1)
    try:
        if isinstance(path, Bucket):
            path.write(text.encode())
            return
        draft = path.with_name(f"{MANIFEST}.part")
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise unwritable(folder, error) from error


def read_manifest(folder: Path | Bucket) -> dict[str, Any] | None:
    """Read what a store is about; None where there is none, or nobody can read it."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def unwritable(path: Path | Bucket, error: OSError) -> SceneError:
    """What to raise where what is being written can't be; a full disk is the usual reason."""
    import errno

    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    way = "Make room there." if full else "Make it writable."
    return SceneError(f"Disk must take what is being written, got {error.strerror or error} for {path}. {way}")
