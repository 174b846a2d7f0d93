"""How the materials of the town look in the short-wave infrared, and how a sensor counts that light.

Reflectances are round numbers, made up to be plausible as those of `satmask.datasets.town.materials` are: leaves are
dark beyond 1.4 µm because of the water in them, open water swallows everything, dry soil and concrete are bright, metal
is brightest, clay (soil, tiles) dips at 2.2 µm, plastic and bitumen at 1.73 and 2.31 µm where hydrocarbons absorb.

References:
    Band edges of WorldView-3; the ECOSTRESS spectral library, https://speclib.jpl.nasa.gov, for orders of magnitude.
"""

from __future__ import annotations

import numpy as np

from satmask.datasets.town.materials import MATERIALS

# Reflectance in percent in SWIR1 to SWIR8, whose nominal middles are 1210, 1570, 1660, 1730, 2165, 2205, 2260 and 2330 nm.
_TABLE: dict[str, tuple[float, ...]] = {
    "meadow": (33, 24, 25.5, 23, 14, 13.5, 13.5, 11),
    "grass": (37, 22, 24.5, 21.5, 11, 10.5, 11, 8.5),
    "dry grass": (38, 34, 35, 32, 23, 22.5, 22, 19),
    "soil": (41, 45, 46, 45.5, 41, 38.5, 40, 37),
    "dark soil": (29, 32, 33, 33, 29, 27.5, 28, 26),
    "crop": (44, 22, 25, 21.5, 9.5, 9, 9.5, 7),
    "young crop": (37, 29, 31, 29, 19, 18, 18.5, 16),
    "wheat": (44, 41, 41.5, 38, 28, 28, 26, 22),
    "broadleaf": (37, 18, 20.5, 17.5, 8, 7.5, 8, 6),
    "conifer": (24, 11, 12.5, 10.5, 4.8, 4.5, 4.8, 3.6),
    "olive": (31, 19, 21, 18.5, 10, 9.5, 9.8, 8),
    "asphalt": (14, 16.5, 17, 16.5, 17, 17, 16.8, 15),
    "old asphalt": (20.5, 23.5, 24, 23.5, 24, 24, 23.8, 22),
    "concrete": (30, 33, 34, 34, 32, 31.5, 31, 27),
    "paving": (25, 28, 29, 29, 27, 26, 26.5, 24),
    "gravel": (31, 34, 35, 35, 33, 31.5, 32, 28),
    "road paint": (40, 38, 37, 33, 30, 29.5, 28, 25),
    "water": (0.3, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1),
    "shallow water": (0.5, 0.3, 0.3, 0.3, 0.2, 0.2, 0.2, 0.1),
    "pool": (0.5, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1),
    "sand": (37, 42, 43, 43, 41, 39.5, 40, 38),
    "red tile": (34, 38, 39, 39, 36, 33.5, 35, 33),
    "brown tile": (25, 29, 30, 30, 28, 26, 27, 25.5),
    "grey shingle": (17.5, 19, 19.5, 18, 19, 19, 18.5, 15.5),
    "slate": (10.5, 12, 12.5, 12.5, 13, 12, 12.5, 11.5),
    "light metal": (38, 44, 46, 47, 50, 50.5, 51, 52),
    "blue metal": (29, 38, 39, 34, 37, 37, 36, 33),
    "bitumen": (11, 12, 12.3, 10.8, 12.3, 12.3, 11.8, 9.4),
    "roof gravel": (27, 30, 31, 31, 29, 28, 28.5, 26),
    "membrane": (40, 43, 41, 31, 34, 34, 32, 26),
    "equipment": (28, 33, 34, 34, 36, 36, 36, 36),
    "brick": (27, 31, 32, 32, 30, 28, 29, 27.5),
    "solar panel": (15, 7, 6.5, 6, 4.5, 4.5, 4.5, 4.5),
    "tarpaulin": (43, 46, 41, 27, 36, 36, 33, 24),
    "wood": (36, 37, 37, 34, 26, 26, 24.5, 21),
    "glass": (5, 6, 6, 6, 6, 5.5, 5.5, 5),
    "white paint": (46, 45, 42, 36, 37, 37, 35, 29),
    "silver paint": (28, 31, 31, 29, 31, 31, 30.5, 29),
    "black paint": (4.5, 5, 5, 4.6, 5, 5, 4.8, 4.4),
    "red paint": (34, 38, 36, 30, 33, 33, 31, 26),
    "blue paint": (29, 36, 34, 28, 32, 32, 30, 25),
}

SWIR_SPECTRA = np.array([_TABLE[name] for name in MATERIALS], np.float32) / 100
"""Reflectance, float32, `(materials, 8)`, 0 to 1, in the order of `MATERIALS`."""
SWIR_AMBIENT = np.array([0.13, 0.09, 0.085, 0.08, 0.06, 0.06, 0.055, 0.05], np.float32)
"""Share of the light that comes from the sky: the air scatters little of it, so that shadows are nearly black."""
SWIR_COUNTS = np.array([10600, 11400, 10500, 9700, 8400, 8000, 7900, 7900], np.float32)
"""Counts of the 14-bit sensor a unit of reflectance: real products lie at 1,000 to 8,000, dry ones highest."""
