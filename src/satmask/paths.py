"""Paths inside description files: what somebody sent mustn't point at files elsewhere."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from satmask.errors import DataError, SettingError


def inner_path(text: str, file: Path) -> Path:
    """Find a file that a description file names.

    Args:
        text: What it says: a path relative to its folder, with slashes.
        file: The description file.

    Returns:
        The path.

    Raises:
        DataError: If it leads out of the folder.

    Examples:
        >>> inner_path("water/model.onnx", Path("run/assembly.json")).as_posix()
        'run/water/model.onnx'
    """
    inner = PurePosixPath(text)
    if not text or inner.is_absolute() or ".." in inner.parts or "\\" in text or ":" in text:
        msg = f"File must lie in the folder of {file.name} or below, got {text!r}."
        raise DataError(msg)
    return file.parent / inner


def relative_path(path: Path, file: Path) -> str:
    """Name a file in a description file, the inverse of `inner_path`.

    Raises:
        SettingError: If it doesn't lie in the folder or below.
    """
    here = Path(os.path.abspath(file)).parent  # noqa: PTH100  # `resolve` would follow links, out of the folder
    there = Path(os.path.abspath(path))  # noqa: PTH100
    if not there.is_relative_to(here):
        msg = f"File must lie in the folder of {file.name} or below, got {str(path)!r}. Move one of them."
        raise SettingError(msg)
    return there.relative_to(here).as_posix()
