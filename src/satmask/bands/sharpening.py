"""Pan-sharpening: colour from the coarse bands, detail from the panchromatic one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import cv2
import numpy as np

from satmask.bands.resampling import ratio, resample
from satmask.errors import SettingError

if TYPE_CHECKING:
    from satmask.windows import Window

Method = Literal["brovey", "glp"]
# Detail beyond these factors is noise over black pixels.
DARKEST, BRIGHTEST = 0.0, 10.0


@dataclass(frozen=True)
class Sharpening:
    """What sharpening needs to know of the whole scene, so that windows can be sharpened apart.

    Attributes:
        method: "brovey" or "glp".
        intensity: What the multispectral product would look like in the panchromatic band: float32, `(h, w)` on its
            coarse grid. NaN where unknown.
        weights: Of "brovey": what each band adds to the intensity, then a constant. Empty for "glp".
    """

    method: Method
    intensity: np.ndarray
    weights: tuple[float, ...] = ()


def fit_sharpening(
    multispectral: np.ndarray,
    pan: np.ndarray,
    *,
    method: Method = "glp",
    shift: tuple[float, float] = (0.0, 0.0),
    mtf: float = 0.3,
) -> Sharpening:
    """Find the intensity by which sharpening divides.

    - "brovey": a weighted sum of the bands, with the weights that come closest to the panchromatic band at the coarse
      resolution (least squares), rather than equal ones.
    - "glp": the panchromatic band itself, blurred as the coarse detector blurs: a generalised Laplacian pyramid matched
      to the modulation transfer function, with high-pass modulation (MTF-GLP-HPM). It doesn't need the bands to add up
      to the panchromatic one, which real sensors' don't.

    Args:
        multispectral: The coarse product, `(h, w, bands)`; NaN is nodata.
        pan: The panchromatic band of the same ground, `(height, width)`; NaN is nodata.
        method: "brovey" or "glp"; the latter is better wherever it was measured (`docs/bands.md`).
        shift: `(dx, dy)` of a `Registration` of `multispectral` to `pan`.
        mtf: What the coarse detector leaves of a wave two of its pixels long, 0 to 1, both excluded.

    Returns:
        The sharpening, for `apply_sharpening`.

    Raises:
        SettingError: If shapes, method or `mtf` are out of the question.

    References:
        Gillespie, Kahle & Walker 1987, https://doi.org/10.1016/0034-4257(87)90088-5 (Brovey);
        Aiazzi, Alparone, Baronti, Garzelli & Selva 2006, https://doi.org/10.14358/PERS.72.5.591 (MTF-GLP);
        Vivone et al. 2015, https://doi.org/10.1109/TGRS.2014.2361734 (comparison of methods)
    """
    _check(multispectral, pan, method)
    if not 0 < mtf < 1:
        msg = f"MTF at the Nyquist frequency must lie between 0 and 1, got {mtf}. Sensors have about 0.3."
        raise SettingError(msg)
    low = blur_pan(pan, multispectral.shape[:2], shift=shift, mtf=mtf)
    if method == "glp":
        return Sharpening(method, low)
    weights = _regress(multispectral, low)
    intensity = np.full(low.shape, weights[-1], np.float32)
    for band, weight in enumerate(weights[:-1]):
        intensity += np.float32(weight) * multispectral[..., band].astype(np.float32)
    return Sharpening(method, intensity, tuple(weights))


def apply_sharpening(
    sharpening: Sharpening,
    multispectral: np.ndarray,
    pan: np.ndarray,
    *,
    shape: tuple[int, int] | None = None,
    window: Window | None = None,
    shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Sharpen a window: every band times `pan / intensity`.

    The same bits come out whatever the windows are.

    Args:
        sharpening: What `fit_sharpening` found for the whole scene.
        multispectral: The whole coarse product, `(h, w, bands)`; NaN is nodata.
        pan: The panchromatic pixels of the window, `(height, width)`; NaN is nodata.
        shape: Sides of the whole panchromatic scene; those of `pan` by default.
        window: The place of `pan` in it; all of it by default.
        shift: The one that `fit_sharpening` was given.

    Returns:
        float32, `(height, width, bands)`; where the intensity isn't positive, the bands interpolated as they are; NaN
        where a band, the panchromatic or the intensity is unknown.

    Raises:
        SettingError: If `pan` isn't as large as its window.
    """
    shape = shape or (pan.shape[0], pan.shape[1])
    sides = (window.height, window.width) if window else shape
    if pan.shape != sides:
        msg = f"Panchromatic pixels must have the sides of their window, got {pan.shape} for {sides}."
        raise SettingError(msg)
    colour = resample(multispectral, shape, window=window, shift=shift)
    intensity = resample(sharpening.intensity, shape, window=window, shift=shift)
    factor = np.divide(pan.astype(np.float32), intensity, out=np.ones_like(intensity), where=~(intensity <= 0))
    return np.asarray(colour * np.clip(factor, DARKEST, BRIGHTEST)[..., None])


def sharpen(
    multispectral: np.ndarray,
    pan: np.ndarray,
    *,
    method: Method = "glp",
    shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Sharpen a whole scene in memory: `fit_sharpening`, then `apply_sharpening`.

    Args:
        multispectral: The coarse product, `(h, w, bands)`.
        pan: The panchromatic band of the same ground, `(height, width)`; the ratio needn't be a whole number.
        method: "brovey" or "glp".
        shift: `(dx, dy)` of a `Registration` of `multispectral` to `pan`.

    Returns:
        float32, `(height, width, bands)`.

    Raises:
        SettingError: If shapes or method are out of the question.

    Examples:
        >>> sharpen(np.ones((4, 4, 8)), np.full((16, 16), 5.0)).shape
        (16, 16, 8)
    """
    fitted = fit_sharpening(multispectral, pan, method=method, shift=shift)
    return apply_sharpening(fitted, multispectral, pan, shift=shift)


def blur_pan(
    pan: np.ndarray, shape: tuple[int, int], *, shift: tuple[float, float] = (0.0, 0.0), mtf: float = 0.3
) -> np.ndarray:
    """See the panchromatic band as the coarse detector would: blurred by its transfer function, on its grid.

    Args:
        pan: `(height, width)`; NaN is nodata and left out of the averages.
        shape: `(h, w)` of the coarse grid.
        shift: `(dx, dy)` of a `Registration` of the coarse product to `pan`, in pixels of `pan`.
        mtf: See `fit_sharpening`.

    Returns:
        float32, `(h, w)`; NaN where less than half of what counts is known.
    """
    # A Gaussian whose response is `mtf` at half a cycle a coarse pixel.
    sigma = ratio(shape, pan.shape) * math.sqrt(-2 * math.log(mtf)) / math.pi
    known = np.isfinite(pan) if pan.dtype.kind == "f" else None
    values = pan.astype(np.float32)
    if known is not None and not known.all():
        values[~known] = 0
        blurred, share = _gaussian(values, sigma), _gaussian(known.astype(np.float32), sigma)
        values = np.where(share >= 0.5, blurred / np.maximum(share, 0.5), np.float32(np.nan))
    else:
        values = _gaussian(values, sigma)
    back = (-shift[0] * shape[1] / pan.shape[1], -shift[1] * shape[0] / pan.shape[0])
    return resample(values, shape, shift=back)


def _gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))


def _regress(multispectral: np.ndarray, low: np.ndarray) -> list[float]:
    """Weights of the bands and a constant that come closest to the blurred panchromatic band."""
    bands = multispectral.shape[2]
    columns = np.column_stack([multispectral.reshape(-1, bands), np.ones(low.size)]).astype(np.float64)
    target = low.ravel().astype(np.float64)
    known = np.isfinite(columns).all(axis=1) & np.isfinite(target)
    if np.count_nonzero(known) <= bands:
        return [1 / bands] * bands + [0.0]
    columns, target = columns[known], target[known]
    # By the normal equations: a small matrix instead of an orthogonal one as long as the image.
    solution = np.linalg.lstsq(columns.T @ columns, columns.T @ target, rcond=None)[0]
    return [float(weight) for weight in solution]


def _check(multispectral: np.ndarray, pan: np.ndarray, method: str) -> None:
    if method not in get_args(Method):
        msg = f"Method of sharpening must be one of {', '.join(get_args(Method))}, got {method!r}."
        raise SettingError(msg)
    if multispectral.ndim != 3 or not multispectral.size:
        msg = f"Multispectral product must be of shape (height, width, bands), got {multispectral.shape}."
        raise SettingError(msg)
    if pan.ndim != 2 or pan.shape[0] < multispectral.shape[0] or pan.shape[1] < multispectral.shape[1]:
        msg = (
            f"Panchromatic band must be of shape (height, width) and at least as fine as the product, got {pan.shape} "
            f"for {multispectral.shape[:2]}."
        )
        raise SettingError(msg)
