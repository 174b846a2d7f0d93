"""Uploads: GeoTIFFs that somebody sends, kept hidden until they are whole and known to be what they say.

A file comes in parts into a hidden draft. When the last part is there it is looked at as every scene is, by the driver for
GeoTIFF alone, whatever its name says. Only then it gets a name, one that nothing had before.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
import unicodedata
from pathlib import Path
from typing import Self

from satmask.datasets.scenes import is_mask
from satmask.errors import DataError, SatmaskError
from satmask.scene import Scene
from satmask.scene_lists import MARKS
from satmask.viewing.files import NotFoundError

FOLDER = "uploaded"
"""Where uploads lie in the folder that is shown."""
SUFFIXES = (".tif", ".tiff")
LONGEST = 120
"""Bytes of a name, so that names made from it still fit a file system."""
UNPACKED = 32
"""How many times the most that may be sent a file may hold when it is decoded."""
SPARE = 64 * 2**20
"""Bytes that are left on the disk."""
OLD_S = 3600
"""Seconds after which a draft that nothing was written to is left over from a server that died."""
# Names that mean a device to Windows, whatever comes after the first dot.
DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.IGNORECASE)
HIDDEN = ".upload-"


class UploadError(DataError):
    """An upload is refused.

    Attributes:
        code: HTTP's word for it: 400 for its name, 409 for one that is taken, 413 for its size, 415 for what it holds, 503
            where others have to end first.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def safe_name(text: str) -> str:
    """Make a file name of what somebody sends; what looks like a path is refused, odd characters become `_`.

    Args:
        text: Any text.

    Returns:
        A name that ends in `.tif` or `.tiff`, of a scene by itself.

    Raises:
        UploadError: If none can be made of it.

    Examples:
        >>> safe_name("Kampala #2 (copy).TIF")
        'Kampala _2 (copy).tif'
    """
    name = unicodedata.normalize("NFKC", text)
    if any(sign in name for sign in "/\\:%") or any(unicodedata.category(sign) == "Cc" for sign in name):
        raise _bad_name(must_be="a plain file name", got=text)
    stem, dot, suffix = name.rpartition(".")
    if f"{dot}{suffix.lower()}" not in SUFFIXES:
        raise _bad_name(must_be="one that ends in .tif", got=text)
    stem = re.sub(r"[^\w .()+,@=-]", "_", stem).strip()
    if not re.search(r"\w", stem) or stem.startswith((".", "-")) or stem.endswith(".") or DEVICES.match(stem):
        raise _bad_name(must_be="a plain file name", got=text)
    if len(stem.encode()) > LONGEST:
        raise _bad_name(must_be=f"at most {LONGEST} bytes long", got=text)
    made = f"{stem}.{suffix.lower()}"
    if stem.lower().endswith(MARKS) or is_mask(Path(made)):
        raise _bad_name(must_be="a scene's, not a mask's or a prediction's", got=text)
    return made


class Uploads:
    """Where uploads go to. Safe in threads.

    Args:
        root: The folder that is shown, without links.
        most_bytes: What a file may take.
        at_once: Uploads at a time.
    """

    def __init__(self, root: Path, *, most_bytes: int, at_once: int = 4) -> None:
        self.root, self.most_bytes, self.at_once = root, most_bytes, at_once
        self._begun: set[Draft] = set()

    @property
    def folder(self) -> Path:
        """Where they lie; made when it is needed.

        Raises:
            UploadError: If it can't be written to.
            NotFoundError: If a link leads out of the folder that is shown.
        """
        folder = self.root / FOLDER
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            msg = f"Folder that is shown must be writable to take uploads, got {error.strerror or error}."
            raise UploadError(msg, 400) from error
        if not folder.resolve().is_relative_to(self.root):
            raise NotFoundError
        return folder

    def begin(self, name: str, size: int | None = None) -> Draft:
        """Begin to take a file.

        Args:
            name: What it is called where it comes from.
            size: Bytes that are announced; None if nobody knows.

        Raises:
            UploadError: If the name can't be used or is taken, the size is too much, or too many come at once.
        """
        made = safe_name(name)
        if size is not None and size > self.most_bytes:
            raise self.too_large(got=f"{size:,}")
        if len(self._begun) >= self.at_once:
            msg = f"Uploads must be at most {self.at_once} at a time. Try again when one has ended."
            raise UploadError(msg, 503)
        folder = self.folder
        _sweep(folder)
        _check_free(folder, made)
        if shutil.disk_usage(folder).free < (size or 0) + SPARE:
            msg = f"Disk must have room for an upload, got too little for {made}."
            raise UploadError(msg, 413)
        draft = Draft(self, folder, made)
        self._begun.add(draft)
        return draft

    def ended(self, draft: Draft) -> None:
        """Note that an upload has ended, well or not."""
        self._begun.discard(draft)

    def too_large(self, *, got: str = "more") -> UploadError:
        """What is said of a file that takes more than it may, as was announced or turns out."""
        return UploadError(f"Upload must have at most {self.most_bytes:,} bytes, got {got}.", 413)


class Draft:
    """A file that is being sent. Leaving the `with` block without `publish` throws it away.

    Attributes:
        name: What it will be called.
        path: Where it lies meanwhile.
    """

    def __init__(self, uploads: Uploads, folder: Path, name: str) -> None:
        self.name, self._uploads, self._bytes = name, uploads, 0
        try:
            number, path = tempfile.mkstemp(prefix=HIDDEN, suffix=".part", dir=folder)
        except OSError as error:
            msg = f"Folder that is shown must be writable to take uploads, got {error.strerror or error}."
            raise UploadError(msg, 400) from error
        self.path = Path(path)
        self._file = os.fdopen(number, "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._uploads.ended(self)
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, part: bytes) -> None:
        """Take the next part.

        Raises:
            UploadError: If there is more than may be, or the disk is full.
        """
        self._bytes += len(part)
        if self._bytes > self._uploads.most_bytes:
            raise self._uploads.too_large()
        try:
            self._file.write(part)
        except OSError as error:
            msg = f"Disk must have room for an upload, got {error.strerror or error} for {self.name}."
            raise UploadError(msg, 413) from error

    def publish(self) -> Path:
        """Look at what was sent, and give it its name.

        Returns:
            Where it lies.

        Raises:
            UploadError: If it is no GeoTIFF that can be read, or the name was taken meanwhile.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            msg = f"Disk must have room for an upload, got {error.strerror or error} for {self.name}."
            raise UploadError(msg, 413) from error
        _check_content(self.path, self.name, UNPACKED * self._uploads.most_bytes)
        final = self.path.with_name(self.name)
        _check_free(final.parent, self.name)
        self.path.chmod(0o644)  # mkstemp lets nobody else in
        try:
            _name_once(self.path, final)
        except FileExistsError:
            raise _taken(self.name) from None
        return final


def _bad_name(*, must_be: str, got: str) -> UploadError:
    return UploadError(f"Upload's name must be {must_be}, got {got[:60]!a}. Rename the file.", 400)


def _taken(name: str) -> UploadError:
    return UploadError(
        f"Upload must have a name of its own, got {name!r}, which is there already. Rename the file.", 409
    )


def _check_free(folder: Path, name: str) -> None:
    """Refuse a name that is taken, also in other letters or with the other suffix: results are called after it."""
    stem = name.rpartition(".")[0].casefold()
    taken = {path.name.rpartition(".")[0].casefold() for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}
    if stem in taken or (folder / name).exists():
        raise _taken(name)


def _check_content(path: Path, name: str, most_bytes: int) -> None:
    """Refuse what isn't a whole GeoTIFF; a draft's name has no suffix that GDAL knows, so that driver opens it."""
    try:
        with Scene(path) as scene:
            height, width = scene.shape
            unpacked = height * width * len(scene.all_bands) * scene.dtype.itemsize
    except SatmaskError as error:
        raise UploadError(str(error).replace(path.name, name), 415) from error
    if unpacked > most_bytes:
        msg = f"Upload must hold at most {most_bytes:,} bytes when it is decoded, got {unpacked:,} in {name}."
        raise UploadError(msg, 413)


def _name_once(draft: Path, final: Path) -> None:
    """Give a file its name unless something has it; two that try at once can't both succeed."""
    try:
        os.link(draft, final)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with final.open("xb"):
            pass
        draft.replace(final)


def _sweep(folder: Path) -> None:
    """Throw away drafts of a server that died."""
    for path in folder.glob(f"{HIDDEN}*.part"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > OLD_S:
                path.unlink()
