"""Registration: by how much one product of a scene is off another, or that nobody can tell."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from satmask.bands.matching import Pair, Planes, block_likeness, mix, search
from satmask.bands.resampling import ratio, resample
from satmask.errors import DataError, SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Longest side of the grids on which whole shifts are tried, and on which the best is refined: that of a product of one
# band may be larger in the same time.
SEARCH_SIDE, REFINE_SIDE, REFINE_SIDE_SINGLE = 160, 512, 768
# What the estimate may be off by though all parts of the scene agree, in pixels of the grid of refinement: shadows and
# lit sides look different from band to band, always on the same side. Measured on scenes with known shifts.
BIAS = 0.03
# Standard errors in an uncertainty: blocks share pixels with their neighbours, which makes them look surer than they are.
ERRORS = 3
# Pairs of bands that the refinement looks at.
PAIRS = 4
# Below this, another shift is nearly as good as the best.
LEAST_SCORE = 0.35


@dataclass(frozen=True)
class Registration:
    """By how much a product is off another.

    What the fixed product shows at `(x, y)`, in its own pixels, the moving one shows at `(x + dx, y + dy)`, in the same
    pixels. `resample(moving, fixed_shape, shift=(dx, dy))` brings them together. A registration that isn't accepted
    has no shift, so that it can be used unseen.

    Attributes:
        dx: Shift to the right, in pixels of the fixed product's grid; 0 where not accepted.
        dy: Shift downwards, likewise.
        score: How far the best shift stands out from the next best, 0 to 1.
        uncertainty_px: What the shift may be off by, in pixels of the fixed grid: three standard errors, from leaving out
            one part of the scene after the other, and what bands differ by. Infinite where there was nothing to go by.
        accepted: Whether the shift is to be trusted.
        reason: Why, in a sentence.
    """

    dx: float
    dy: float
    score: float
    uncertainty_px: float
    accepted: bool
    reason: str

    @property
    def shift(self) -> tuple[float, float]:
        """`(dx, dy)`."""
        return self.dx, self.dy

    def to_dict(self) -> dict[str, Any]:
        """The registration as plain values, for JSON: infinity becomes None."""
        content = asdict(self)
        return content | {"uncertainty_px": self.uncertainty_px if math.isfinite(self.uncertainty_px) else None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Registration:
        """Read what `to_dict` wrote.

        Raises:
            DataError: If a key is missing or of the wrong kind.
        """
        try:
            dx, dy, score = (float(content[key]) for key in ("dx", "dy", "score"))
            uncertainty = math.inf if content["uncertainty_px"] is None else float(content["uncertainty_px"])
            found = cls(dx, dy, score, uncertainty, bool(content["accepted"]), str(content["reason"]))
        except (KeyError, TypeError, ValueError) as error:
            msg = f"Registration must hold dx, dy, score, uncertainty_px, accepted and reason, got {content!r:.200}."
            raise DataError(msg) from error
        if not all(map(math.isfinite, (dx, dy, score))):
            msg = f"Registration must hold finite numbers, got {content!r:.200}."
            raise DataError(msg)
        return found


def register(
    moving: np.ndarray,
    fixed: np.ndarray,
    *,
    limit_px: float | None = None,
    tolerance_px: float | None = None,
) -> Registration:
    """Find by how much one product is off another of the same ground, to a fraction of a pixel, or decline.

    Both are brought to one grid, no finer than the coarser of them. All whole shifts are tried on a small version, for
    all pairs of bands, and those pairs that stand out are kept. The best shift is refined on a larger one: the finer
    product is sampled anew at every shift, so that nothing pulls the estimate towards whole pixels. Parts of the
    scene that disagree, a second shift that is nearly as good, or one beyond the limit make it decline.

    Args:
        moving: `(h, w)` or `(h, w, bands)`; NaN is nodata.
        fixed: `(height, width)` or `(height, width, bands)`, finer or coarser, with the same outer corners but for the
            shift; NaN is nodata. Bands needn't be the same as those of `moving`.
        limit_px: Longest shift believed, in pixels of the fixed grid; by default 4 pixels of the coarser product, and
            at least 16 of the fixed grid.
        tolerance_px: Largest uncertainty accepted, in pixels of the fixed grid; by default 0.04 pixels of the coarser
            product, and at least 0.3 of the fixed grid.

    Returns:
        The registration. Shifts are shrunk by the square of their uncertainty over their length, down to 0 where they are
        no longer than it: as long as the uncertainty holds, an accepted registration never makes things worse.

    Raises:
        SettingError: If a product has another number of axes or a limit isn't positive.

    Examples:
        >>> scene = np.random.default_rng(0).random((300, 300, 3))
        >>> register(scene[3:, 2:], scene[:-3, :-2]).accepted
        True
    """
    moving, fixed = _three_axes(moving), _three_axes(fixed)
    coarse_px = max(ratio(moving.shape, fixed.shape), 1.0)
    limit = max(16.0, 4 * coarse_px) if limit_px is None else limit_px
    tolerance = max(0.3, 0.04 * coarse_px) if tolerance_px is None else tolerance_px
    if not (limit > 0 and tolerance > 0):
        msg = f"Limit and tolerance of a registration must be positive, got {limit} and {tolerance}."
        raise SettingError(msg)
    swap = ratio(moving.shape, fixed.shape) < 1
    coarse, fine = (fixed, moving) if swap else (moving, fixed)
    found = _locate(coarse, fine, limit=limit, sides=(fixed.shape[0], fixed.shape[1]))
    if isinstance(found, str):
        return _declined(found)
    sign = -1 if swap else 1
    return _judge(sign * found.dx, sign * found.dy, found, limit=limit, tolerance=tolerance)


@dataclass(frozen=True)
class _Found:
    """The best shift, before anybody judges it; in pixels of the fixed grid, of the coarse product against the fine."""

    dx: float
    dy: float
    score: float
    uncertainty_px: float


def _locate(coarse: np.ndarray, fine: np.ndarray, *, limit: float, sides: tuple[int, int]) -> _Found | str:
    """Search and refine; the reason in words where there is nothing to find."""
    small = Pair.of(coarse, fine, side=SEARCH_SIDE)
    unit = ratio(small.shape, sides)
    reach = max(math.ceil(limit / unit) + 2, 6)
    if min(small.shape) < 2 * reach + 24:
        return f"the scene is too small to try shifts of {limit:.0f} pixels"
    if small.known.mean() < 0.25:
        return "too little of both products is known"
    surface = search(small, reach)
    bands = _best_pairs(surface)
    if not bands:
        return "nothing in one product resembles anything in the other"
    row, column, score = _peak(sum(surface[pair] for pair in bands))
    if max(abs(row - reach), abs(column - reach)) >= reach:
        return "the best shift lies beyond the limit"
    large = Pair.of(coarse, fine, side=REFINE_SIDE_SINGLE if coarse.shape[2] == 1 else REFINE_SIDE)
    grow = large.shape[1] / small.shape[1], large.shape[0] / small.shape[0]
    start = (column - reach) * grow[0], (row - reach) * grow[1]
    shift, errors = _refine(large, start, tuple(sorted({band for band, _ in bands})))
    if shift is None:
        return "the best shift isn't a clear one"
    to_x, to_y = sides[1] / large.shape[1], sides[0] / large.shape[0]
    uncertainty = max(to_x, to_y) * math.hypot(BIAS, ERRORS * max(errors))
    return _Found(float(shift[0] * to_x), float(shift[1] * to_y), score, uncertainty)


def _judge(dx: float, dy: float, found: _Found, *, limit: float, tolerance: float) -> Registration:
    """Accept, decline, or leave in place."""
    score, uncertainty = found.score, found.uncertainty_px
    told = f"{dx:+.2f}, {dy:+.2f} pixels"
    if score < LEAST_SCORE:
        return _declined(f"another shift is nearly as good as {told}", score, uncertainty)
    if math.hypot(dx, dy) > limit:
        return _declined(f"the shift of {told} lies beyond the limit of {limit:g}", score, uncertainty)
    if not uncertainty <= tolerance:
        return _declined(f"parts of the scene disagree on the shift of {told} by {uncertainty:.2f}", score, uncertainty)
    # Shrunk by as much as the estimate may be too long. With an error of at most the uncertainty, this never ends
    # farther from the truth than no shift at all; a long shift hardly changes.
    share = max(1 - (uncertainty / max(math.hypot(dx, dy), 1e-12)) ** 2, 0.0)
    reason = f"off by {told}" if share else "in place, as far as can be told"
    return Registration(share * dx, share * dy, score, uncertainty, accepted=True, reason=reason)


def _declined(reason: str, score: float = 0.0, uncertainty: float = math.inf) -> Registration:
    return Registration(0.0, 0.0, score, uncertainty, accepted=False, reason=f"no shift: {reason}")


def _best_pairs(surface: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of bands whose best shift stands out most, strongest first."""
    flat = surface.reshape(*surface.shape[:2], -1)
    stands_out = flat.max(axis=-1) - np.median(flat, axis=-1)
    order = np.argsort(stands_out, axis=None)[::-1][:PAIRS]
    pairs = [(int(at // surface.shape[1]), int(at % surface.shape[1])) for at in order]
    return [pair for pair in pairs if stands_out[pair] > max(0.3 * stands_out.max(), 1e-6)]


def _peak(surface: np.ndarray) -> tuple[int, int, float]:
    """Row and column of the highest point, and how far it stands out from the next hill, 0 to 1."""
    row, column = (int(at) for at in np.unravel_index(np.argmax(surface), surface.shape))
    hills = surface >= cv2.dilate(surface, np.ones((3, 3), np.uint8))
    hills[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = False
    floor, top = float(np.median(surface)), float(surface[row, column])
    second = float(surface[hills].max()) if hills.any() else floor
    return row, column, max(1 - max(second - floor, 0) / max(top - floor, 1e-12), 0.0)


def _refine(
    pair: Pair, start: tuple[float, float], bands: tuple[int, ...]
) -> tuple[tuple[float, float] | None, tuple[float, float]]:
    """Climb to the top of the likeness, and say how sure that is: the shift and its standard errors, coarse pixels."""
    at = start
    for step in (1.0, 0.5, 0.25):
        # Mixtures are fitted anew: they are the better the smaller the error of the shift is.
        mixed = mix(pair, at, bands)
        climbed = _climb(pair, mixed, at, step, bands)
        if climbed is None:
            break
        at, values = climbed
    else:
        return _top(values, at, step)
    return None, (math.inf, math.inf)


def _climb(
    pair: Pair, mixed: Planes, start: tuple[float, float], step: float, bands: tuple[int, ...]
) -> tuple[tuple[float, float], np.ndarray] | None:
    """Go in steps until no neighbour is higher: the place, and the blocks' likeness there and around, `(9, blocks)`."""
    known: dict[tuple[int, int], np.ndarray] = {}

    def measure(x: int, y: int) -> np.ndarray:
        if (x, y) not in known:
            shift = start[0] + step * x, start[1] + step * y
            known[x, y] = block_likeness(pair, mixed, shift, bands).ravel()
        return known[x, y]

    x = y = 0
    for _ in range(8):
        # First the four sides: corners count only at the top.
        cross = [(x, y), (x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
        best = max(cross, key=lambda place: measure(*place).sum())
        if best == (x, y):
            around = [measure(x + column, y + row) for row in (-1, 0, 1) for column in (-1, 0, 1)]
            return (start[0] + step * x, start[1] + step * y), np.stack(around)
        x, y = best
    return None


def _top(
    values: np.ndarray, at: tuple[float, float], step: float
) -> tuple[tuple[float, float] | None, tuple[float, float]]:
    """The top of the paraboloid through nine points, and its standard errors by leaving out block after block."""
    whole = _vertex(values.sum(axis=1))
    if whole is None:
        return None, (math.inf, math.inf)
    vertices = (_vertex(values.sum(axis=1) - values[:, block]) for block in range(values.shape[1]))
    left_out = [vertex for vertex in vertices if vertex is not None]
    if len(left_out) < values.shape[1]:
        return None, (math.inf, math.inf)
    spread = np.array(left_out) - np.mean(left_out, axis=0)
    count = len(left_out)
    error_x, error_y = step * np.sqrt((count - 1) / count * np.square(spread).sum(axis=0))
    return (at[0] + step * whole[0], at[1] + step * whole[1]), (float(error_x), float(error_y))


def _vertex(values: np.ndarray) -> np.ndarray | None:
    """Where the paraboloid through 3 × 3 points is highest, in steps from their middle; None where it has no top there."""
    y, x = (grid.ravel() for grid in np.mgrid[-1:2, -1:2])
    design = np.column_stack([np.ones(9), x, y, x * x, x * y, y * y])
    _, gx, gy, xx, xy, yy = np.linalg.lstsq(design, values, rcond=None)[0]
    hessian = np.array([[2 * xx, xy], [xy, 2 * yy]])
    if hessian[0, 0] >= 0 or np.linalg.det(hessian) <= 0:
        return None
    vertex = np.linalg.solve(hessian, [-gx, -gy])
    return np.asarray(vertex) if np.abs(vertex).max() <= 2 else None


def _three_axes(product: np.ndarray) -> np.ndarray:
    product = np.asarray(product)
    if product.ndim not in (2, 3) or not product.size:
        msg = f"Product must be of shape (height, width) or (height, width, bands), got {product.shape}."
        raise SettingError(msg)
    return product[..., None] if product.ndim == 2 else product


def chain(near: Registration, far: Registration, *, scale: float) -> Registration:
    """Join two registrations: of a product to a second one, and of that to a third.

    A product is found most surely against the one that looks most like it: short-wave infrared against eight bands that
    reach into the infrared, rather than against red, green and blue.

    Args:
        near: Of the first product to the second, in the second's pixels.
        far: Of the second to the third, in the third's pixels.
        scale: Pixels of the third along one of the second.

    Returns:
        Of the first to the third, in the third's pixels; not accepted unless both are.

    Examples:
        >>> near = Registration(2.0, -1.0, 0.9, 0.1, accepted=True, reason="")
        >>> chain(near, Registration(0.5, 0.5, 0.8, 0.3, accepted=True, reason=""), scale=4.0).shift
        (8.5, -3.5)
    """
    score = min(near.score, far.score)
    uncertainty = math.hypot(scale * near.uncertainty_px, far.uncertainty_px)
    if not (near.accepted and far.accepted):
        reason = (far if near.accepted else near).reason
        return Registration(0.0, 0.0, score, uncertainty, accepted=False, reason=reason)
    dx, dy = scale * near.dx + far.dx, scale * near.dy + far.dy
    told = f"off by {dx:+.2f}, {dy:+.2f} pixels, by way of another product"
    return Registration(dx, dy, score, uncertainty, accepted=True, reason=told)


def overlay(
    moving: np.ndarray, fixed: np.ndarray, shift: tuple[float, float] = (0.0, 0.0), *, squares: int = 8
) -> np.ndarray:
    """Draw both products as a chequerboard, in which edges run on from square to square where they are in register.

    Args:
        moving: `(h, w)` or `(h, w, bands)`; its first band is drawn.
        fixed: `(height, width)` or `(height, width, bands)`; the mean of its bands is drawn.
        shift: Of a `Registration`; draw once without and once with it for before and after.
        squares: Along the longer side.

    Returns:
        Grey for the fixed product, orange for the moving one: uint8, `(height, width, 3)`.
    """
    fixed = _three_axes(fixed)
    height, width = fixed.shape[:2]
    below = _stretch(fixed.mean(axis=-1, dtype=np.float32))
    above = _stretch(resample(_three_axes(moving)[..., 0], (height, width), shift=shift))
    side = max(math.ceil(max(height, width) / squares), 1)
    rows, columns = np.arange(height) // side, np.arange(width) // side
    odd = (rows[:, None] + columns[None]) % 2 == 1
    tint = np.where(odd[..., None], above[..., None] * np.array([1.0, 0.72, 0.4], np.float32), below[..., None])
    return np.asarray(np.rint(255 * tint), np.uint8)


def _stretch(plane: np.ndarray) -> np.ndarray:
    """Grey values 0 to 1 between the 2nd and 98th percentile; nodata is black."""
    known = plane[np.isfinite(plane)]
    low, high = np.percentile(known, (2, 98)) if known.size else (0.0, 1.0)
    return np.nan_to_num(np.clip((plane - low) / max(float(high - low), 1e-9), 0, 1)).astype(np.float32)
