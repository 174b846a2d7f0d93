"""Write the table of settings into docs/recipe.md, from the fields of the recipe itself.

Run `python tools/recipe_table.py` after a setting has changed; a test compares the page with what this writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from satmask.recipe import Recipe

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipe.md"
BEGIN, END = "<!-- settings: written by tools/recipe_table.py -->", "<!-- end of settings -->"
# What the recipe leaves unsaid because the name says it.
MEANINGS = {
    "schedule.name": "cosine, plateau or constant, see below.",
    "windows_per_epoch": "Training windows in an epoch; by default as many as cover the images once.",
    "epochs": "Epochs at most.",
    "learning_rate": "The highest learning rate.",
    "weight_decay": "AdamW's weight decay.",
    "seed": "Fixes everything that is drawn at random.",
    "compile": "Compile the step with XLA; by default wherever that is faster.",
}


def table() -> str:
    """The table, one row a setting, in the order of the recipe: plain settings first, then its tables."""
    rows = sorted(settings(), key=lambda row: "." in row[0])
    lines = [f"| `{key}` | {default(field)} | {limits(field)}{meaning(key, field)} |" for key, field in rows]
    return "\n".join(["| Setting | Default | Meaning |", "|---|---|---|", *lines])


def settings(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Dotted name and field of every setting."""
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from settings(nested, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def default(field: FieldInfo) -> str:
    """The default as it is written in TOML; a dash where nothing is set."""
    return "–" if field.default is None else f"`{json.dumps(field.default)}`"


def meaning(key: str, field: FieldInfo) -> str:
    """What the recipe, or this script, says of a setting; a setting of which nothing is said is an error."""
    return MEANINGS.get(key) or field.description or _unsaid(key)


def limits(field: FieldInfo) -> str:
    """The smallest and largest value, in words."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found: list[Any] = [
        (signs[name], getattr(rule, name)) for rule in field.metadata for name in signs if hasattr(rule, name)
    ]
    return f"({', '.join(f'{sign} {value:g}' for sign, value in found)}) " if found else ""


def written(page: str) -> str:
    """The page with its table written anew."""
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n\n{table()}\n\n{END}", page, flags=re.DOTALL)


def _unsaid(key: str) -> str:
    msg = f"Setting must say what it means, got nothing for {key!r}. Give its field a description."
    raise ValueError(msg)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
