"""Buckets: folders and files of an object store, for what is written there.

An object appears whole under its name or not at all, and whether it is there or has changed can be made a condition of
writing it: that is all that results and locks need. obstore knows S3, Google Cloud Storage and Azure, waits and tries again
when a store is busy, and reads credentials from the environment as the stores' own tools do.
"""

from __future__ import annotations

import errno
import importlib.util
import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from satmask.errors import InstallError, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

SCHEMES = ("s3", "gs", "az")


@dataclass(frozen=True)
class Bucket:
    """A folder or a file of an object store; it is used where a path to write would be.

    Attributes:
        url: Such as `s3://bucket/predictions`.

    Raises:
        SettingError: If it is no such address.

    Examples:
        >>> str(Bucket("s3://maps/2026/") / "north.classes.tif"), (Bucket("s3://maps") / "a" / "b.tif").name
        ('s3://maps/2026/north.classes.tif', 'b.tif')
    """

    url: str

    def __post_init__(self) -> None:
        """Hold the rule of the docstring; a slash at the end means nothing."""
        scheme, _, rest = self.url.partition("://")
        if scheme not in SCHEMES or not rest.strip("/") or not self.url.isprintable():
            schemes = ", ".join(f"{name}://" for name in SCHEMES)
            msg = f"Output must be a folder, or an address by one of {schemes} and a bucket, got {self.url!r}."
            raise SettingError(msg)
        object.__setattr__(self, "url", f"{scheme}://{rest.strip('/')}")

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Bucket:
        return Bucket(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]

    def mkdir(self, **_: Any) -> None:
        """Do nothing: folders are there when something is in them."""

    def resolve(self) -> Bucket:
        """Give the address itself, as a path without links does."""
        return self

    def exists(self) -> bool:
        """Whether there is such an object."""
        return self.changed() is not None

    def changed(self) -> datetime | None:
        """When the object was written, by the store's clock; None if there is none."""
        import obstore

        with _told(self.url):
            try:
                return obstore.head(*self._place())["last_modified"]
            except FileNotFoundError:
                return None

    def read(self) -> tuple[bytes, str | None]:
        """Read the object, and by what its state is known.

        Raises:
            FileNotFoundError: If there is none.
        """
        import obstore

        with _told(self.url):
            result = obstore.get(*self._place())
            return bytes(result.bytes()), result.meta["e_tag"]

    def read_text(self, encoding: str = "utf-8") -> str:
        """Read the object as text, as `Path.read_text` does."""
        return self.read()[0].decode(encoding)

    def write(self, content: bytes | Path, *, expected: str | None = None, new: bool = False) -> str | None:
        """Write the object, whole.

        Args:
            content: Its bytes, or the file that holds them.
            expected: Write only if its state is still known by this.
            new: Write only if there is none.

        Returns:
            By what its new state is known.

        Raises:
            FileExistsError: If there is one although there mustn't be, or it has changed.
            OSError: If it can't be written.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if new else {"e_tag": expected} if expected else "overwrite"
        with _told(self.url):
            try:
                return obstore.put(*self._place(), content, mode=mode)["e_tag"]
            except (AlreadyExistsError, PreconditionError) as error:
                raise FileExistsError(errno.EEXIST, "changed by somebody else", self.url) from error

    def delete(self) -> None:
        """Delete the object, if there is one."""
        import obstore

        with _told(self.url):
            try:
                obstore.delete(*self._place())
            except FileNotFoundError:
                return

    def clear(self, *, but: str = "") -> None:
        """Delete everything in this folder, but the object of this name."""
        import obstore

        store = _open(self.url)
        with _told(self.url):
            for batch in obstore.list(store):
                paths = [entry["path"] for entry in batch if entry["path"] != but]
                if paths:
                    obstore.delete(store, paths)

    def zarr_store(self) -> Any:
        """The folder as Zarr takes it."""
        from obstore.exceptions import BaseError
        from zarr.storage import ObjectStore

        class Store(ObjectStore[Any]):
            """Says that writing failed as other stores do."""

            async def set(self, key: str, value: Any) -> None:
                try:
                    await super().set(key, value)
                except BaseError as error:
                    raise _failed(error, key) from error

        return Store(_open(self.url))

    def _place(self) -> tuple[Any, str]:
        folder, _, name = self.url.rpartition("/")
        return _open(folder), name


def as_folder(out: str | Path | Bucket) -> Path | Bucket:
    """See where outputs go: a folder, or an address in an object store.

    Examples:
        >>> as_folder("s3://maps/2026"), as_folder("maps").name
        (Bucket(url='s3://maps/2026'), 'maps')
    """
    text = out if isinstance(out, str) else ""
    return out if isinstance(out, Bucket) else Bucket(text) if "://" in text else Path(out)


def zarr_address(folder: Path | Bucket) -> Any:
    """A folder as Zarr takes it."""
    return folder.zarr_store() if isinstance(folder, Bucket) else str(folder)


@lru_cache(maxsize=256)
def _open(url: str) -> Any:
    """A store for all that lies in a folder."""
    if importlib.util.find_spec("obstore") is None:
        msg = "Object stores must be reached by obstore, got no such package. Run pip install 'satmask[remote]'."
        raise InstallError(msg)
    from obstore.store import from_url

    # Who names an address without TLS as the endpoint wants it.
    plain = any(os.environ.get(name, "").startswith("http://") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"))
    return from_url(url, client_options={"allow_http": True} if plain else None)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn errors of the store into those of files."""
    from obstore.exceptions import BaseError

    try:
        yield
    except BaseError as error:
        raise _failed(error, url) from error


def _failed(error: Exception, where: str) -> OSError:
    return OSError(errno.EIO, str(error).splitlines()[0][:300], where)
