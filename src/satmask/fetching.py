"""Downloads: one file, whole and the one that was meant, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from satmask.errors import InstallError, SettingError

TIMEOUT_S = 30
_PIECE = 2**16
_HERE = ("127.0.0.1", "localhost", "::1")


class _Guarded(urllib.request.HTTPRedirectHandler):
    """Follows redirections only to where a download may begin."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:  # noqa: PLR0917  # urllib's signature
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_address(url: str) -> None:
    """Refuse what isn't https; a server on this machine may do without.

    Raises:
        SettingError: If it is something else.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _HERE):
        msg = f"Download must come by https://, got {url!r}."
        raise SettingError(msg)


def fetch(url: str, path: Path, *, sha256: str, size_bytes: int) -> Path:
    """Download a file; it gets its name once its size and digest are those expected.

    Args:
        url: Where it lies; https, or http on this machine.
        path: The file to write; folders are made.
        sha256: Its digest, in hexadecimal.
        size_bytes: Its size; nothing beyond is read.

    Returns:
        The path.

    Raises:
        SettingError: If the address isn't allowed.
        InstallError: If it can't be reached, or is another file.
    """
    check_address(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            size, digest = _copy(url, file, size_bytes)
        if (size, digest) != (size_bytes, sha256):
            msg = f"Download must be {size_bytes:,} bytes of sha256 {sha256[:12]}…, got "
            msg += f"{f'{size:,}' if size <= size_bytes else 'more'} of {digest[:12]}… from {url}. Nothing was kept."
            raise InstallError(msg)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _copy(url: str, file: Any, size_bytes: int) -> tuple[int, str]:
    """Copy at most a byte more than there should be; size and digest of what came."""
    opener = urllib.request.build_opener(_Guarded)
    size, digest = 0, hashlib.sha256()
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            while size <= size_bytes and (piece := answer.read(min(_PIECE, size_bytes + 1 - size))):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        reason = getattr(error, "reason", None) or error
        msg = f"Download must be reachable, got {str(reason)!r:.200} for {url}. Go online once, or give the path of a file."
        raise InstallError(msg) from error
    return size, digest.hexdigest()
