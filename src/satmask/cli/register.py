"""`satmask register`: by how much the products of each image are out of register."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import Json, Quiet

if TYPE_CHECKING:
    from satmask.datasets.registrations import Registered
    from satmask.stack import Stack


def register(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", exists=True, help="DSTL folder, or a NAME.stack.json placed by extent.")
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File to write; by default registration.json in DATA.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="DIR", file_okay=False, help="Folder for pictures, before and after.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Only images named so, such as 6120_*; repeatable.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Begin anew instead of keeping what was found.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find by how much products are out of register.

    Shifts are found to a fraction of a pixel against the finest product, or declined, and kept beside the data, where
    training and prediction find them; a NAME.stack.json gets them itself. What was found before isn't done again.
    """
    from satmask.cli.output import complain, say_json
    from satmask.datasets.registrations import register_all
    from satmask.progress import track

    stacks, target = _stacks(data, only), out or _target(data)
    if again:
        target.unlink(missing_ok=True)
    results: dict[str, Any] = {}
    failed: dict[str, str] = {}
    with track("Registering", len(stacks), unit="images", quiet=quiet) as advance:
        for name, found in register_all(stacks, target):
            advance(1, name)
            if isinstance(found, Exception):
                failed[name] = str(found)
                complain(f"error: {name}: {found}")
                continue
            results[name] = {product: one.to_dict() for product, one in found.products.items()}
            if picture:
                _draw(stacks[name], found, picture / f"{name}.registration.png")
            if not as_json:
                _say(name, found)
    if data.is_file() and out is None and results:
        _put_into(data, target)
    if as_json:
        say_json({"file": data if data.is_file() and out is None else target, "images": results, "failed": failed})
    if failed:
        complain(f"error: {len(results)} of {len(stacks)} images registered; {len(failed)} failed.")
        raise typer.Exit(1)


def _stacks(data: Path, only: list[str] | None) -> dict[str, Stack]:
    """The stacks of a folder or of a stack file.

    Raises:
        SettingError: If there is nothing to register.
    """
    from fnmatch import fnmatch

    from satmask.datasets.dstl import list_stacks
    from satmask.errors import SettingError
    from satmask.stack import Stack

    if data.is_file():
        stack = Stack.load(data)
        found = {stack.name: stack} if stack.placed == "extent" else {}
    else:
        found = list_stacks(data, registration=False)
    chosen = {
        name: stack
        for name, stack in found.items()
        if len(stack.products) > 1 and (not only or any(fnmatch(name, pattern) for pattern in only))
    }
    if not chosen:
        msg = f"Data must hold images of several products placed by extent, got none in {data}. Is it a DSTL folder?"
        raise SettingError(msg)
    return chosen


def _target(data: Path) -> Path:
    from satmask.datasets.registrations import FILE

    return data.with_name(f".{data.name}.{FILE}") if data.is_file() else data / FILE


def _put_into(data: Path, target: Path) -> None:
    """Write the shifts into a stack file."""
    from satmask.datasets.registrations import read_registrations
    from satmask.stack import Stack

    stack = Stack.load(data)
    read_registrations(target)[stack.name].apply(stack).save(data)
    target.unlink()


def _draw(stack: Stack, found: Registered, path: Path) -> None:
    """Draw every product over the reference, before and after."""
    from satmask.datasets.registrations import read_product
    from satmask.figures import save
    from satmask.registration_sheets import registration_sheet

    first, *others = stack.products
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(product.name, read_product(product), found.products[product.name]) for product in others]
    save(registration_sheet(read_product(first), rows, title=f"{stack.name}: products over {first.name}"), path)


def _say(name: str, found: Registered) -> None:
    from satmask.cli.output import say

    for product, one in found.products.items():
        say(f"{name}  {product}  score {one.score:.2f}  {one.reason}")
