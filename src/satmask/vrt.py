"""VRT files: what they name is looked at before GDAL follows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from satmask.addresses import is_remote
from satmask.errors import SceneError
from satmask.permissions import allowed
from satmask.soundness import check_tiff, looks_like

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LARGEST = 64 * 2**20
"""Bytes of a VRT file; one of 100,000 files takes some 50 MB."""
DEEPEST = 4
"""How deep VRT files may name VRT files."""
SOURCES = ("SourceFilename", "SourceDataset")
# What `gdalbuildvrt` and `gdal_translate` write. Other elements carry code, or names that GDAL follows.
PLAIN = {
    "VRTDataset",
    "SRS",
    "GeoTransform",
    "GCPList",
    "GCP",
    "Metadata",
    "MDI",
    "BlockXSize",
    "BlockYSize",
    "OverviewList",
    "MaskBand",
    "VRTRasterBand",
    "ColorInterp",
    "ColorTable",
    "Entry",
    "NoDataValue",
    "HideNoDataValue",
    "Description",
    "Scale",
    "Offset",
    "UnitType",
    "CategoryNames",
    "Category",
    "SimpleSource",
    "ComplexSource",
    "SourceFilename",
    "SourceBand",
    "SourceProperties",
    "SrcRect",
    "DstRect",
    "NODATA",
    "UseMaskBand",
    "LUT",
    "ScaleOffset",
    "ScaleRatio",
    "Exponent",
    "SrcMin",
    "SrcMax",
    "DstMin",
    "DstMax",
    "ColorTableComponent",
    "Histograms",
    "HistItem",
    "HistMin",
    "HistMax",
    "BucketCount",
    "IncludeOutOfRange",
    "Approximate",
    "HistCounts",
}
# Metadata domains in which names of files stand.
FOLLOWED = ("GEOLOCATION", "OVERVIEWS", "DERIVED_SUBDATASETS", "SUBDATASETS")


def check_vrt(path: Path, drivers: Mapping[str, str], *, depth: int = 0) -> list[str]:
    """Refuse a VRT file that reaches for what the user didn't name.

    It must be a plain mosaic whose sources lie in its folder or below, and are what their names say; the permission
    "outside" lifts that. Addresses on the network need the permission "remote". GDAL's other strings, `/vsizip/` or
    `HDF5:` and the like, are refused in any case.

    Args:
        path: The VRT file.
        drivers: GDAL's driver for each suffix that sources may have.
        depth: How many VRT files have led here.

    Returns:
        What is doubtful about its sources.

    Raises:
        SceneError: With what it reaches for.
    """
    root = _parse(path)
    for element in root.iter():
        strange = element.tag not in PLAIN or element.get("domain") in FOLLOWED
        if (strange or element.get("subClass", "VRTSourcedRasterBand") != "VRTSourcedRasterBand") and not allowed(
            "outside"
        ):
            raise _refused(path, f"an element {element.tag!r}", "Write it out with gdal_translate, or --allow-outside.")
    doubts: list[str] = []
    for name in dict.fromkeys(_names(root, path)):
        if isinstance(name, Path):
            doubts += _check_source(name, path, drivers, depth)
        elif not (is_remote(name.removeprefix("/vsicurl/")) and name.startswith("/vsicurl/") and allowed("remote")):
            raise _refused(path, f"{name!r:.160}", "Name files, or download them.")
    return doubts


def _parse(path: Path) -> ET.Element:
    try:
        if path.stat().st_size > LARGEST:
            raise _refused(path, f"{path.stat().st_size:,} bytes")
        text = path.read_bytes()
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text or b"\0" in text:
            # Entities grow without bounds, and name files. No NUL: not in UTF-16, where these words look otherwise.
            raise _refused(path, "a document type")
        root = ET.fromstring(text)  # noqa: S314  # documents with entities were refused above
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        raise _refused(path, f"{error!s:.120}") from error
    if root.tag != "VRTDataset":
        raise _refused(path, f"an element {root.tag!r}")
    return root


def _names(root: ET.Element, path: Path) -> Iterator[Path | str]:
    """The files that a VRT names: paths, or strings that are none."""
    for element in root.iter():
        if element.tag in SOURCES:
            text = (element.text or "").strip()
            beside = "1" in (element.get("relativeToVRT"), element.get("relativetoVRT"))
            if not text or text.startswith(("/vsi", "<")) or ":" in text:
                yield text
            else:
                yield path.parent / text if beside else Path(text)


def _check_source(source: Path, path: Path, drivers: Mapping[str, str], depth: int) -> list[str]:
    """Refuse a file elsewhere, or one that isn't what it is called."""
    if not source.resolve().is_relative_to(path.parent.resolve()) and not allowed("outside"):
        raise _refused(path, f"{str(source)!r:.160}", "--allow-outside lets it name files elsewhere.")
    driver = drivers.get(source.suffix.lower(), "GTiff")
    if driver == "VRT":
        if depth >= DEEPEST:
            raise _refused(path, f"VRT files {depth + 1} deep")
        return check_vrt(source, drivers, depth=depth + 1)
    if not source.is_file() or not looks_like(source, driver):
        raise _refused(path, f"{source.name!r:.160}, which is no {driver} file")
    return check_tiff(source)[1] if driver == "GTiff" else []


def _refused(path: Path, what: str, way_out: str = "") -> SceneError:
    said = f"VRT file must be a mosaic of rasters beside or below it, got {what} in {path.name}."
    return SceneError(f"{said} {way_out}".strip())
