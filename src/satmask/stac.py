"""STAC items as lists of scenes: each item is a scene, made of one of its assets or of several.

References:
    https://github.com/radiantearth/stac-spec/blob/master/item-spec/item-spec.md
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from satmask.addresses import Remote, as_address, is_remote
from satmask.errors import DataError, SatmaskError, SettingError
from satmask.permissions import allowed
from satmask.scene import DRIVERS, Scene
from satmask.stack import Product, Stack, stack_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LARGEST = 256 * 2**20
"""Bytes of a file of items; 100,000 items take some 200 MB."""
RASTERS = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2", "image/png", "image/jpeg")
ASIDE = {"thumbnail", "overview", "metadata", "visual-preview"}
"""Roles of assets that are no scenes."""


def read_items(
    path: Path, *, assets: Sequence[str] = (), report: Callable[[str, str], None]
) -> list[Path | Remote | Stack]:
    """List the scenes of a STAC item, or of a collection of items in one file.

    Of each item the asset is taken that the user names; several named make one scene, a band of each or those that the
    item tells. By default it is the only raster with the role "data", or the only raster. Files must lie beside the item
    or below it, but for the permission "outside"; addresses on the network need the permission "remote".

    Args:
        path: The JSON file.
        assets: Names of the assets that make the scene.
        report: Called with an item's id and what is wrong with it; it is left out then.

    Returns:
        The scenes. Where files of several items bear one name, outputs are called after the items.

    Raises:
        DataError: If the file holds no items.
    """
    found: list[tuple[str, Path | Remote | Stack]] = []
    for number, item in enumerate(_items(path), start=1):
        name = str(item.get("id") or f"item {number}") if isinstance(item, dict) else f"item {number}"
        try:
            found.append((name, _scene(item, name, path, assets)))
        except (SatmaskError, AttributeError, TypeError, KeyError) as error:
            told = str(error) if isinstance(error, SatmaskError) else f"STAC item must be whole, got {error!r:.100}."
            report(name, f"{told.rstrip('.')}: item {name!r:.80} of {path.name}.")
    stems = [scene.stem for _, scene in found]
    scenes = []
    for name, scene in found:
        clash = isinstance(scene, Path) and stems.count(scene.stem) > 1
        try:
            scenes.append(_called(scene, name) if clash and isinstance(scene, Path) else scene)
        except SatmaskError as error:
            report(name, str(error))
    return scenes


def _items(path: Path) -> Iterator[Any]:
    """The items of a file."""
    try:
        size = path.stat().st_size
        if size > LARGEST:
            msg = f"STAC file must be smaller than {LARGEST >> 20} MiB, got {size >> 20} MiB in {path.name}. Split it."
            raise DataError(msg)
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"STAC file must be JSON, got {str(error)!r:.120} for {path.name}."
        raise DataError(msg) from error
    kind = content.get("type") if isinstance(content, dict) else None
    if kind == "Feature" and isinstance(content.get("assets"), dict):
        yield content
    elif kind == "FeatureCollection" and isinstance(content.get("features"), list):
        yield from content["features"]
    else:
        msg = f"STAC file must hold an Item or a collection of items in one file, got type {kind!r:.60} in {path.name}."
        raise DataError(msg)


def _scene(item: dict[str, Any], name: str, path: Path, assets: Sequence[str]) -> Path | Remote | Stack:
    there = item["assets"]
    if missing := [asset for asset in assets if asset not in there]:
        msg = f"STAC item must have the asset {missing[0]!r}, got {', '.join(map(str, there)) or 'none'}"
        raise DataError(msg)
    if len(assets) <= 1:
        return _address(there[assets[0] if assets else _choose(there)]["href"], path)
    products = [_product(asset, there[asset], path) for asset in assets]
    return Stack(_plain(name), tuple(products), "grid")


def _choose(assets: dict[str, Any]) -> str:
    """The only raster with the role of data, or the only raster."""
    rasters = [name for name, asset in assets.items() if _is_raster(asset)]
    data = [name for name in rasters if "data" in (assets[name].get("roles") or ())]
    for names in (data, rasters):
        if len(names) == 1:
            return names[0]
    if not rasters:
        msg = f"STAC item must have a raster among its assets, got {', '.join(map(str, assets)) or 'none'}"
        raise DataError(msg)
    names = data or rasters
    msg = (
        f"STAC item must have one raster, got {', '.join(names)}. Choose with --asset {names[0]}, or several by commas"
    )
    raise DataError(msg)


def _is_raster(asset: dict[str, Any]) -> bool:
    if ASIDE & set(asset.get("roles") or ()):
        return False
    kind = str(asset.get("type") or "").partition(";")[0].strip().lower()
    return kind in RASTERS or (not kind and PurePosixPath(urlsplit(asset["href"]).path).suffix.lower() in DRIVERS)


def _product(name: str, asset: dict[str, Any], path: Path) -> Product:
    """An asset as a part of a scene: its bands are called as the item says, a single one as the asset."""
    address = _address(asset["href"], path)
    if isinstance(address, Remote):
        msg = f"Assets that make one scene must lie on this machine, got {address}. Download them"
        raise DataError(msg)
    told = asset.get("bands") or asset.get("eo:bands") or ()
    names = tuple(str(band.get("name") or band.get("eo:common_name") or number) for number, band in enumerate(told, 1))
    return Product(name, address, names if len(names) > 1 else (name,))


def _address(href: str, path: Path) -> Path | Remote:
    """What an item names, if it may."""
    if not isinstance(href, str) or not href or not href.isprintable():
        msg = f"Asset must have an address, got {href!r:.80}"
        raise DataError(msg)
    if is_remote(href):
        if not allowed("remote"):
            msg = f"Asset must lie on this machine, got {href!r:.160}. --allow-remote fetches it"
            raise DataError(msg)
        return as_address(href)
    text = unquote(urlsplit(href).path) if href.startswith("file://") else href
    if text.startswith("/vsi") or "://" in text:
        msg = f"Asset must be a file, got {href!r:.160}"
        raise DataError(msg)
    found = path.parent / text
    if not found.resolve().is_relative_to(path.parent.resolve()) and not allowed("outside"):
        msg = f"Asset must lie in the folder of the item or below, got {href!r:.160}. --allow-outside reads it"
        raise DataError(msg)
    return found


def _called(scene: Path, name: str) -> Stack:
    """A raster under another name."""
    with Scene(scene) as opened:
        return replace(stack_of(opened), name=_plain(name))


def _plain(name: str) -> str:
    """A name for outputs: the id of an item mustn't lead to another folder.

    Raises:
        SettingError: If nothing is left of it.
    """
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).strip(".")[:120]
    if not plain:
        msg = f"STAC item must have an id that outputs can be called after, got {name!r}"
        raise SettingError(msg)
    return plain
