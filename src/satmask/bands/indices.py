"""Spectral indices: numbers made of a few bands that tell water, leaves and bare ground apart.

Every index is defined in `INDICES`, by name, with its formula, the bands it needs, its range and its source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from satmask.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Names that mean the band of another name. Where a sensor has one near infrared, it is the one that indices ask for.
ALIASES = {"nir": "nir1", "near_infrared": "nir1", "rededge": "red_edge", "r": "red", "g": "green", "b": "blue"}


@dataclass(frozen=True)
class Index:
    """A spectral index.

    Attributes:
        name: What recipes call it.
        title: What people call it.
        formula: How it is computed, in the names of bands.
        bands: Canonical names of the bands it needs (see `canonical_band`), in the order in which `combine` takes them.
        absolute: True where the formula needs reflectance, not just values proportional to it.
        source: Where it was published.
        combine: Numerator and denominator from the bands, floating-point arrays of one shape.
        factor: What the fraction is multiplied by.

    Values lie in −1 to 1: what falls outside, which needs values that no surface reflects, is cut to that range.
    """

    name: str
    title: str
    formula: str
    bands: tuple[str, ...]
    absolute: bool
    source: str
    combine: Callable[..., tuple[np.ndarray, np.ndarray]]
    factor: float = 1.0


def canonical_band(name: str) -> str:
    """The name by which indices know a band: lower case, words joined by underscores.

    Examples:
        >>> canonical_band("Red Edge"), canonical_band("NIR1"), canonical_band("near-infrared")
        ('red_edge', 'nir1', 'nir1')
    """
    plain = re.sub(r"[\s_-]+", "_", name.strip().lower())
    return ALIASES.get(plain, plain)


def compute_index(
    name: str, bands: Mapping[str, np.ndarray], *, scale: float | Mapping[str, float] | None = None
) -> np.ndarray:
    """Compute a spectral index, pixel by pixel.

    Nothing but the pixel itself counts, so that a window holds the same values as the whole scene.

    Args:
        name: A name in `INDICES`.
        bands: Arrays of one shape by the name of their band, in any spelling `canonical_band` understands; more than
            are needed may be there. Integers or real numbers; NaN and infinity mean nodata.
        scale: What pixel values are multiplied by to give reflectance, 0 to 1: one number, or one for each band by
            name. Indices marked `absolute` (EVI, EVI2, SAVI, MNDWI) need it where values are integers; real numbers are
            taken to be reflectance already. Where calibration is unknown, one over the largest value that the sensor
            can give (2047 at 11 bits) keeps the index steady from scene to scene, but not comparable with others'.

    Returns:
        float32 of the same shape, −1 to 1; 0 where the denominator is zero or negative (black pixels), NaN where a band
        is NaN or infinite.

    Raises:
        SettingError: If there is no such index, a band is missing or in there twice, shapes differ, or the scale is
            needed and missing.

    Examples:
        >>> bands = {"red": np.array([[10, 0]], np.uint8), "NIR1": np.array([[250, 0]], np.uint8)}
        >>> compute_index("ndvi", bands).round(2)
        array([[0.92, 0.  ]], dtype=float32)
    """
    index = find_index(name)
    values = [_reflectance(index, band, found, scale) for band, found in _pick(index, bands).items()]
    known = np.logical_and.reduce([np.isfinite(value) for value in values])
    numerator, denominator = index.combine(*(np.where(known, value, 0) for value in values))
    positive = denominator > 0
    ratio = np.divide(numerator, denominator, out=np.zeros_like(denominator), where=positive)
    return np.where(known, np.clip(index.factor * ratio, -1, 1), np.nan).astype(np.float32)


def find_index(name: str) -> Index:
    """Find an index by name.

    Raises:
        SettingError: If there is none.
    """
    try:
        return INDICES[name]
    except KeyError:
        msg = f"Index must be one of {', '.join(INDICES)}, got {name!r}."
        raise SettingError(msg) from None


def _pick(index: Index, bands: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The bands that an index needs, in its order."""
    named: dict[str, np.ndarray] = {}
    for name, values in bands.items():
        if (band := canonical_band(name)) in index.bands and band in named:
            msg = f"Bands must have names of their own, got {band!r} twice for {index.name}. Leave one out."
            raise SettingError(msg)
        named[band] = np.asarray(values)
    if missing := [band for band in index.bands if band not in named]:
        msg = f"Bands for {index.name} must hold {', '.join(index.bands)}, got no {missing[0]} in {', '.join(bands)}."
        raise SettingError(msg)
    chosen = {band: named[band] for band in index.bands}
    if len(shapes := {values.shape for values in chosen.values()}) > 1:
        msg = f"Bands for {index.name} must have one shape, got {' and '.join(map(str, sorted(shapes)))}."
        raise SettingError(msg)
    return chosen


def _reflectance(index: Index, band: str, values: np.ndarray, scale: float | Mapping[str, float] | None) -> np.ndarray:
    """Values as real numbers: float32 holds integers of 16 bits and their sums exactly, float64 the rest."""
    if scale is None and index.absolute and values.dtype.kind in "uib":
        msg = (
            f"Scale must be given for {index.name}, got none for {band} of {values.dtype}. "
            "Give what values are multiplied by to be reflectance, such as 1/2047 or 1e-4."
        )
        raise SettingError(msg)
    exact: np.ndarray = values.astype(np.result_type(values.dtype, np.float32))
    if scale is None:
        return exact
    if isinstance(scale, int | float):
        return np.asarray(exact * scale, exact.dtype)
    by_band = {canonical_band(name): number for name, number in scale.items()}
    if band not in by_band:
        msg = f"Scale must name every band of {index.name}, got none for {band}."
        raise SettingError(msg)
    return np.asarray(exact * by_band[band], exact.dtype)


def _difference(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return first - second, first + second


def _ccci(nir: np.ndarray, red_edge: np.ndarray, red: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (nir - red_edge) * (nir - red), (nir + red_edge) * (nir + red)


def _evi(nir: np.ndarray, red: np.ndarray, blue: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return nir - red, nir + 6 * red - 7.5 * blue + 1


def _evi2(nir: np.ndarray, red: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return nir - red, nir + 2.4 * red + 1


def _savi(nir: np.ndarray, red: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return nir - red, nir + red + 0.5


_ALL = (
    Index(
        "ndvi",
        "normalised difference vegetation index",
        "(nir1 − red) / (nir1 + red)",
        ("nir1", "red"),
        absolute=False,
        source="Rouse, Haas, Schell & Deering 1974, NASA SP-351, pp. 309–317",
        combine=_difference,
    ),
    Index(
        "ndre",
        "normalised difference red edge index",
        "(nir1 − red_edge) / (nir1 + red_edge)",
        ("nir1", "red_edge"),
        absolute=False,
        source="Gitelson & Merzlyak 1994, https://doi.org/10.1016/S0176-1617(11)81633-0",
        combine=_difference,
    ),
    Index(
        "ccci",
        "canopy chlorophyll content index, as a product",
        "(nir1 − red_edge) / (nir1 + red_edge) · (nir1 − red) / (nir1 + red)",
        ("nir1", "red_edge", "red"),
        absolute=False,
        # Barnes and others published where NDRE lies between its extremes at the same NDVI, which takes a fit a scene.
        source="the form that entrants of the DSTL competition used, NDRE · NDVI; not the one of Barnes et al. 2000",
        combine=_ccci,
    ),
    Index(
        "ndwi",
        "normalised difference water index of McFeeters (open water; not Gao's of leaves)",
        "(green − nir1) / (green + nir1)",
        ("green", "nir1"),
        absolute=False,
        source="McFeeters 1996, https://doi.org/10.1080/01431169608948714",
        combine=_difference,
    ),
    Index(
        "mndwi",
        "modified normalised difference water index",
        "(green − swir3) / (green + swir3)",
        ("green", "swir3"),
        # Green and short-wave infrared come from two sensors, with a gain each.
        absolute=True,
        source="Xu 2006, https://doi.org/10.1080/01431160600589179; swir3 is WorldView-3's at 1640–1680 nm",
        combine=_difference,
    ),
    Index(
        "wvwi",
        "WorldView water index",
        "(coastal − nir2) / (coastal + nir2)",
        ("coastal", "nir2"),
        absolute=False,
        source="Wolf 2012, https://doi.org/10.1117/12.917717",
        combine=_difference,
    ),
    Index(
        "evi",
        "enhanced vegetation index",
        "2.5 · (nir1 − red) / (nir1 + 6 red − 7.5 blue + 1)",
        ("nir1", "red", "blue"),
        absolute=True,
        source="Huete et al. 2002, https://doi.org/10.1016/S0034-4257(02)00096-2",
        combine=_evi,
        factor=2.5,
    ),
    Index(
        "evi2",
        "enhanced vegetation index of two bands",
        "2.5 · (nir1 − red) / (nir1 + 2.4 red + 1)",
        ("nir1", "red"),
        absolute=True,
        source="Jiang, Huete, Didan & Miura 2008, https://doi.org/10.1016/j.rse.2008.06.006",
        combine=_evi2,
        factor=2.5,
    ),
    Index(
        "savi",
        "soil-adjusted vegetation index",
        "1.5 · (nir1 − red) / (nir1 + red + 0.5)",
        ("nir1", "red"),
        absolute=True,
        source="Huete 1988, https://doi.org/10.1016/0034-4257(88)90106-X",
        combine=_savi,
        factor=1.5,
    ),
)

INDICES: dict[str, Index] = {index.name: index for index in _ALL}
"""Every index by name."""
