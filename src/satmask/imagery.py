"""What every image is that can be read window by window, whatever it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rasterio.control import GroundControlPoint

    from satmask.grid import Grid
    from satmask.windows import Window


@dataclass(frozen=True)
class Pixels:
    """What a window of a scene holds.

    Attributes:
        values: Raw pixel values in the scene's data type, `(height, width, bands)`; 0 where not valid.
        valid: False for nodata and for pixels outside the scene, bool, `(height, width)`.
    """

    values: np.ndarray
    valid: np.ndarray

    def filled(self, fill: Sequence[float]) -> np.ndarray:
        """Values as float32 with `fill`, one number a band, where not valid.

        Training and prediction fill by this one rule, so pixels under nodata change nothing elsewhere.
        """
        values = self.values.astype(np.float32)
        if not self.valid.all():
            values[~self.valid] = np.asarray(fill, np.float32)
        return values


class Imagery(Protocol):
    """What can be read as a scene: a raster, a stack of several, or one of these with other pixels or values."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def shape(self) -> tuple[int, int]:
        """`(height, width)`, in pixels."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands read."""

    @property
    def indexes(self) -> Sequence[int | str]:
        """Their numbers in the file, from 1; of a stack, their names."""

    @property
    def all_bands(self) -> tuple[str, ...]:
        """Names of all bands there are, but for computed ones."""

    @property
    def wavelengths_nm(self) -> tuple[float | None, ...]:
        """Middle of each band's spectral range in nanometres, None where unknown."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the values."""

    @property
    def scaling(self) -> Sequence[tuple[float, float]]:
        """Scale and offset of each band by its file's tags, which `read` doesn't apply; 1 and 0 where it has none."""

    @property
    def grid(self) -> Grid:
        """The pixels' place on the ground."""

    @property
    def control_points(self) -> tuple[list[GroundControlPoint], Any]:
        """Ground control points and their CRS, of a scene that is placed by them."""

    @property
    def doubts(self) -> Sequence[str]:
        """What makes its values doubtful although they can be read, a sentence each."""

    @property
    def notes(self) -> Mapping[str, str]:
        """What was done to its pixels on the way, for the tags of what is made from them."""

    def sample(self) -> np.ndarray:
        """Some valid pixels from all over the scene, `(pixels, bands)`."""

    def shrunk(self, side: int) -> Pixels:
        """The whole scene at a fraction of its size, no side longer than `side` pixels; averaged."""

    def read(self, window: Window) -> Pixels:
        """Read a window; it may reach over the edge of the scene. Safe to call from several threads."""

    def close(self) -> None:
        """Close all files."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
