"""What the synthetic town is made of, and how much light each material gives back.

Reflectances are round numbers in the range that spectral libraries give for such surfaces; they are made up to be
plausible (vegetation bright in the near infrared, water dark there, tiles red), not measured.

References:
    Band edges of WorldView-2, and the ECOSTRESS spectral library, https://speclib.jpl.nasa.gov, for orders of magnitude.
"""

from __future__ import annotations

import numpy as np

BANDS = ("coastal", "blue", "green", "yellow", "red", "red edge", "NIR1", "NIR2")
RGB = (4, 2, 1)
"""Positions of red, green and blue in `BANDS`."""

# Reflectance in percent, in the order of BANDS, then the relative roughness (how much neighbouring spots differ).
_TABLE: dict[str, tuple[float, ...]] = {
    "meadow": (3.4, 4.5, 8.6, 8.6, 7.4, 20, 35, 38, 0.16),
    "grass": (2.8, 3.6, 7.9, 7.1, 5.6, 22, 42, 45, 0.10),
    "dry grass": (6.0, 8.5, 14, 16.5, 17, 25, 33, 36, 0.12),
    "soil": (8, 10.8, 15, 19, 21.5, 26, 32, 35, 0.12),
    "dark soil": (5, 7, 10, 13, 15, 18, 21, 24, 0.14),
    "crop": (2.4, 3.2, 7.8, 6.1, 4.4, 24, 50, 53, 0.10),
    "young crop": (4.5, 6.2, 11, 11, 10.5, 22, 37, 40, 0.12),
    "wheat": (7, 10.5, 18, 24, 27, 33, 40, 43, 0.08),
    "broadleaf": (2.0, 2.5, 5.8, 5.0, 3.8, 20, 42, 45, 0.16),
    "conifer": (1.8, 2.3, 4.3, 3.4, 2.6, 13, 28, 30, 0.18),
    "olive": (3.2, 4.2, 7.6, 6.8, 5.4, 19, 34, 36, 0.16),
    "asphalt": (8.0, 8.8, 9.6, 10.2, 10.6, 11, 11.6, 12, 0.06),
    "old asphalt": (12, 13.4, 14.8, 15.6, 16.2, 17, 18, 18.5, 0.07),
    "concrete": (17, 20, 23.5, 25.5, 26.5, 27, 28, 28, 0.06),
    "paving": (12.5, 14.4, 16.6, 18, 18.8, 20, 21, 22, 0.10),
    "gravel": (12, 15, 19, 22, 24, 25, 27, 28, 0.12),
    "road paint": (34, 40, 43, 44, 44, 44, 44, 43, 0.08),
    "water": (4.0, 4.3, 4.7, 3.6, 2.8, 1.6, 0.8, 0.5, 0.05),
    "shallow water": (4.4, 5.0, 5.9, 5.0, 4.1, 3.6, 1.8, 1.0, 0.06),
    "pool": (19, 29, 31, 20, 12, 5, 2, 1, 0.06),
    "sand": (11, 14, 18.5, 22, 24, 27, 30, 32, 0.08),
    "red tile": (6, 7.5, 10.5, 17.5, 23, 26, 28, 30, 0.10),
    "brown tile": (6, 7.5, 10, 13, 15, 17, 19, 21, 0.10),
    "grey shingle": (10, 11.4, 12.8, 13.6, 14.2, 15, 15.5, 16, 0.08),
    "slate": (6.2, 6.8, 7.4, 7.7, 7.9, 8.1, 8.6, 9, 0.08),
    "light metal": (27, 32, 35, 36, 36, 36, 35, 33, 0.04),
    "blue metal": (12, 15.5, 15.8, 14, 12.6, 12.5, 15, 17, 0.05),
    "bitumen": (7, 7.9, 8.5, 9, 9.2, 9.5, 10, 10, 0.08),
    "roof gravel": (15, 17.5, 20, 22, 23, 24, 25, 25, 0.09),
    "membrane": (32, 37, 39.5, 40, 40, 40, 39, 37, 0.04),
    "equipment": (20, 23, 25, 26, 26, 26, 25, 25, 0.06),
    "brick": (6, 7, 9, 14, 18, 20, 22, 23, 0.10),
    "solar panel": (3.6, 4.4, 3.8, 3.2, 3.0, 3.6, 8, 10, 0.04),
    "tarpaulin": (11, 22, 18, 10, 7, 10, 24, 28, 0.05),
    "wood": (9, 12, 15.5, 18, 20, 23, 27, 29, 0.12),
    "glass": (4, 4.5, 4.5, 4.3, 4.2, 4, 4, 4, 0.05),
    "white paint": (42, 50, 52, 52, 52, 52, 50, 48, 0.02),
    "silver paint": (22, 26, 27, 27, 27, 27, 27, 26, 0.02),
    "black paint": (3, 3.2, 3.2, 3.2, 3.2, 3.4, 4, 4, 0.02),
    "red paint": (4, 4.5, 5, 12, 24, 27, 30, 31, 0.02),
    "blue paint": (9, 13, 9, 6, 5, 7, 14, 18, 0.02),
}

MATERIALS = tuple(_TABLE)
SPECTRA = np.array([row[:8] for row in _TABLE.values()], np.float32) / 100
"""Reflectance, float32, `(materials, 8)`, 0 to 1."""
ROUGHNESS = np.array([row[8] for row in _TABLE.values()], np.float32)
"""Relative standard deviation from spot to spot, float32, `(materials,)`."""


def material(name: str) -> int:
    """Position of a material in `MATERIALS`, `SPECTRA` and `ROUGHNESS`.

    Examples:
        >>> MATERIALS[material("water")]
        'water'
    """
    return MATERIALS.index(name)
