"""Legend files: `legend.toml`, or JSON that names classes."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

from satmask.errors import DataError, SettingError
from satmask.legend import Legend

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("legend.toml", "legend.json", "classes.json")
UNLABELLED = ("unlabelled", "unlabeled", "ignore", "void")


def find_legend(folder: Path) -> Legend | None:
    """Read the legend that lies in a folder, if there is one."""
    path = next((folder / name for name in NAMES if (folder / name).is_file()), None)
    return read_legend(path) if path else None


def read_legend(path: Path) -> Legend:
    """Read a legend file.

    TOML or JSON with `exclusive` and `classes`, a list of `id`, `name` and `colour`; or JSON whose `classes` (or whose
    whole content) maps ids to names, with colours as `[r, g, b]` under `rgb`. Classes named unlabelled, ignore or void
    are left out. Several ids exclude each other unless the file says otherwise.

    Raises:
        DataError: If the file can't be read.
        SettingError: If it names no usable classes.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        msg = f"Legend must be TOML or JSON, got {error} in {path}."
        raise DataError(msg) from error
    if not isinstance(content, dict):
        msg = f"Legend must map names to values, got a {type(content).__name__} in {path}."
        raise SettingError(msg)
    classes = content.get("classes", content)
    return Legend.from_dict(content) if isinstance(classes, list) else _from_names(classes, content)


def _from_names(classes: Any, content: dict[str, Any]) -> Legend:
    try:
        names = {int(key): str(name) for key, name in classes.items() if str(name).lower() not in UNLABELLED}
        rgb = content.get("rgb", {})
        colours = {key: "#{:02X}{:02X}{:02X}".format(*rgb[name]) for key, name in names.items() if name in rgb}
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        msg = f"Legend must map ids to names, got {classes!r:.200}."
        raise SettingError(msg) from error
    return Legend.of(names, colours=colours, exclusive=bool(content.get("exclusive", len(names) > 1)))


def to_toml(legend: Legend) -> str:
    """Write a legend as TOML that `read_legend` reads."""
    lines = [f"exclusive = {'true' if legend.exclusive else 'false'}"]
    for entry in legend:
        name = json.dumps(entry.name, ensure_ascii=False)
        lines += ["", "[[classes]]", f"id = {entry.id}", f"name = {name}", f'colour = "{entry.colour}"']
    return "\n".join(lines) + "\n"
