"""The mathematics of several bands: spectral indices, pan-sharpening, and bringing products into register.

Arrays in, arrays out: nothing here reads or writes a file.
"""

from satmask.bands.indices import INDICES, Index, canonical_band, compute_index, find_index
from satmask.bands.registration import Registration, chain, overlay, register
from satmask.bands.resampling import reduce, resample
from satmask.bands.sharpening import Sharpening, apply_sharpening, fit_sharpening, sharpen

__all__ = [
    "INDICES",
    "Index",
    "Registration",
    "Sharpening",
    "apply_sharpening",
    "canonical_band",
    "chain",
    "compute_index",
    "find_index",
    "fit_sharpening",
    "overlay",
    "reduce",
    "register",
    "resample",
    "sharpen",
]
