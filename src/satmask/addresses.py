"""Addresses of scenes on the network: only what the user names as such is ever fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from satmask.errors import SettingError

# What GDAL calls the file systems behind each scheme.
SYSTEMS = {
    "http": "/vsicurl/",
    "https": "/vsicurl/",
    "s3": "/vsis3/",
    "gs": "/vsigs/",
    "az": "/vsiaz/",
}


@dataclass(frozen=True)
class Remote:
    """A raster on the network; it is used where a path would be.

    Attributes:
        url: Such as `s3://bucket/scenes/north.tif` or `https://example.org/north.tif`.

    Raises:
        SettingError: If it is no such address.

    Examples:
        >>> Remote("s3://bucket/scenes/north.tif").stem
        'north'
    """

    url: str

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        parts = _split(self.url)
        if not (parts.scheme in SYSTEMS and parts.netloc and self.name) or not self.url.isprintable():
            schemes = ", ".join(f"{scheme}://" for scheme in SYSTEMS)
            msg = f"Address must name a file by one of {schemes}, got {self.url!r}."
            raise SettingError(msg)

    def __str__(self) -> str:
        """The address, without what may be a password or a signature."""
        parts = _split(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def name(self) -> str:
        """Name of the file, for messages."""
        return PurePosixPath(_split(self.url).path).name

    @property
    def stem(self) -> str:
        """What outputs are called after."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """What its name ends with, such as `.tif`."""
        return PurePosixPath(self.name).suffix

    @property
    def gdal_name(self) -> str:
        """What GDAL calls it."""
        parts = _split(self.url)
        if parts.scheme in ("http", "https"):
            return f"/vsicurl/{self.url}"
        return f"{SYSTEMS[parts.scheme]}{parts.netloc}{parts.path}"


def is_remote(text: object) -> bool:
    """Whether a text is an address on the network.

    Examples:
        >>> is_remote("https://example.org/a.tif"), is_remote("a.tif"), is_remote("/vsicurl/http://example.org/a.tif")
        (True, False, False)
    """
    return isinstance(text, str) and text.partition("://")[0].lower() in SYSTEMS and "://" in text


def as_address(image: str | Path | Remote) -> Path | Remote:
    """See what the user named as an address on the network or as a path; never as one of GDAL's strings.

    Examples:
        >>> as_address("s3://bucket/north.tif").name, as_address("/vsicurl/http://example.org/a.tif").is_file()
        ('north.tif', False)
    """
    if isinstance(image, str):
        return Remote(image) if is_remote(image) else Path(image)
    return image


def _split(url: str) -> _Parts:
    scheme, _, rest = url.partition("://")
    if scheme.lower() in ("http", "https"):
        parts = urlsplit(url)
        return _Parts(scheme.lower(), parts.netloc, parts.path)
    # In names of objects, `?` and `#` are letters like others.
    bucket, slash, key = rest.partition("/")
    return _Parts(scheme.lower(), bucket, slash + key)


@dataclass(frozen=True)
class _Parts:
    scheme: str
    netloc: str
    path: str
