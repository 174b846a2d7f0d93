"""Several products of one place, at resolutions of their own, read as the bands of one scene.

Computed bands, spectral indices and pan-sharpened colours, are bands like the others, also those of a single raster.
"""

from satmask.stack.description import SUFFIX, Product, Stack
from satmask.stack.reading import StackScene, keep_open, open_imagery, stack_of

__all__ = ["SUFFIX", "Product", "Stack", "StackScene", "keep_open", "open_imagery", "stack_of"]
