"""Whether a scene fits a model: it is opened as the model wants it, refused, or doubted in plain words."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from satmask.altered import Mapped, Noted, Resampled, stretched
from satmask.errors import ModelError, SceneError, SettingError
from satmask.stack import open_imagery

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from satmask.addresses import Remote
    from satmask.engines import Engine
    from satmask.imagery import Imagery
    from satmask.model_info import ModelInfo
    from satmask.stack import Stack

EXACT_INTEGERS = 2**24
"""Whole numbers beyond this aren't all different in the 32-bit floats that networks work with."""
FINEST = 32
"""Finer pixels than one so many times smaller than a scene's own are no use, and soon more than a disk holds."""
SAME_GSD = 1.05
"""Pixel sizes that differ by no more than this aren't resampled into one another."""


@dataclass(frozen=True)
class Reading:
    """How a scene is read for a model: settings that can be handed on as one.

    Attributes:
        bands: Bands by number from 1 or by name, in the model's order; None for those that fit.
        scaled: Whether to apply the file's tags of scale and offset.
        resample_to_gsd: Size of a pixel in metres that the scene is resampled to; "model" for the nearest that it knows.
        stretch: Two percentiles of each band that become the ends of the model's values.
        upsampling: 2 has the network see each pixel as four, 1 as it is; None as the model file says, see `satmask.upsampling`.

    Examples:
        >>> Reading(bands=("red", 3)).settings
        {'bands': ('red', 3), 'scaled': False, 'resample_to_gsd': None, 'stretch': None, 'upsampling': None}
    """

    bands: tuple[int | str, ...] | None = None
    scaled: bool = False
    resample_to_gsd: float | Literal["model"] | None = None
    stretch: tuple[float, float] | None = None
    upsampling: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments for `satmask.prediction.predict_scene`."""
        return dict(vars(self))

    def open(self, info: ModelInfo, image: str | Path | Remote | Stack) -> Imagery:
        """Open a scene so, see `open_for`."""
        settings = self.settings
        del settings["upsampling"]
        return open_for(info, image, **settings)

    @contextlib.contextmanager
    def opened(self, engine: Engine, image: str | Path | Remote | Stack) -> Iterator[tuple[Engine, Imagery]]:
        """Open a scene so, and with it the engine as it sees pixels of that size, which the scene notes if it upsamples them."""
        with self.open(engine.info, image) as scene:
            fitted = engine.at(scene.grid.gsd_m, self.upsampling)
            times = fitted.info.upsampling
            yield fitted, Noted(scene, {"UPSAMPLING": str(times)}) if times > 1 else scene


PLAIN = Reading()
"""Bands that fit, and pixels as they are."""


def open_for(
    info: ModelInfo,
    image: str | Path | Remote | Stack,
    *,
    bands: Sequence[int | str] | None = None,
    scaled: bool = False,
    resample_to_gsd: float | Literal["model"] | None = None,
    stretch: tuple[float, float] | None = None,
) -> Imagery:
    """Open a scene with the bands that a model wants, and refuse one that it can't understand.

    Bands are taken as named, else by the model's band names where the scene has them all, else as they come. Checksums
    of blocks are looked at, where the file has some.

    Args:
        info: What the model file says.
        image: The scene: a raster, an address, a stack file or a stack.
        bands: Bands by number from 1 or by name, in the model's order.
        scaled: Whether to apply the file's tags of scale and offset; by default values are taken as they are stored, as
            in training.
        resample_to_gsd: Size of a pixel in metres that the scene is resampled to; "model" for the nearest that the model
            was trained on. None leaves pixels as they are.
        stretch: Two percentiles of each band that become the ends of the model's values: 0 and 255 for a model of 8
            bits. None leaves values as they are.

    Returns:
        The open scene, on the grid that results will have.

    Raises:
        SceneError: If the scene can't be opened.
        ModelError: If bands or data type don't fit.
        SettingError: If it can't be resampled or stretched as asked for.
    """
    scene = _open_bands(info, image, bands)
    try:
        if scaled:
            scene = Mapped(scene, list(scene.scaling), np.float32, notes={"SCALED_BY_TAGS": "YES"})
        if resample_to_gsd is not None:
            scene = resample_to(scene, _wanted_gsd(info, scene, resample_to_gsd))
        _check_bands(info, scene)
        if stretch is not None:
            scene = _stretched(info, scene, stretch)
        _check_values(info, scene)
    except BaseException:
        scene.close()
        raise
    return scene


def _open_bands(info: ModelInfo, image: str | Path | Remote | Stack, bands: Sequence[int | str] | None) -> Imagery:
    names = tuple(band.name for band in info.bands)
    scene = open_imagery(image, bands=bands, verify=True)
    if bands is None and scene.bands != names and len(scene.bands) != 1:
        scene.close()
        scene = _open_by_name(image, names)
    return scene


def _open_by_name(image: str | Path | Remote | Stack, names: tuple[str, ...]) -> Imagery:
    """Open a scene whose bands aren't called as the model's: by name if all are there, else as many as it has."""
    with open_imagery(image) as scene:
        every = scene.all_bands
        plain = len(scene.bands)
    # Some may be computed from those there are.
    with contextlib.suppress(SceneError):
        return open_imagery(image, bands=names, verify=True)
    # Four bands where the model wants four: the one taken for alpha is near infrared.
    whole = len(every) == len(names) != plain
    return open_imagery(image, bands=range(1, len(every) + 1) if whole else None, verify=True)


def _wanted_gsd(info: ModelInfo, scene: Imagery, wanted: float | Literal["model"]) -> float:
    """Size of a pixel in metres that a scene is to have."""
    if wanted != "model":
        return wanted
    if info.gsd_m is None:
        msg = (
            f"Model must know its pixel size to resample {scene.name}, got none in {info.network!r}. Give it in metres."
        )
        raise SettingError(msg)
    low, high = info.gsd_m
    # The nearest that it knows: what is resampled least loses least.
    return min(max(_gsd_of(scene), low), high)


def _gsd_of(scene: Imagery) -> float:
    gsd_m = scene.grid.gsd_m
    if gsd_m is None:
        msg = f"Scene must have a CRS to be resampled, got none in {scene.name}. Give it one with gdal_edit."
        raise SceneError(msg)
    return gsd_m


def resample_to(scene: Imagery, gsd_m: float) -> Imagery:
    """See a scene with pixels of another size on the ground; as it is where they hardly differ.

    Outer corners stay where they are, so that pixels are as large as asked for up to the fraction that makes their number
    whole.

    Args:
        scene: The scene; it is closed with what is returned.
        gsd_m: Size of a pixel in metres.

    Returns:
        The scene on its new grid.

    Raises:
        SceneError: If it doesn't say where it lies.
        SettingError: If the size isn't positive, or far below the scene's.
    """
    if not gsd_m > 0 or not np.isfinite(gsd_m):
        msg = f"Pixel size must be more than 0 metres, got {gsd_m:g}."
        raise SettingError(msg)
    factor = gsd_m / _gsd_of(scene)
    if 1 / SAME_GSD < factor < SAME_GSD:
        return scene
    if factor < 1 / FINEST:
        msg = f"Pixel size must be at least 1/{FINEST} of the scene's, {_gsd_of(scene):.3g} m, got {gsd_m:g} m."
        raise SettingError(msg)
    height, width = (max(1, round(side / factor)) for side in scene.shape)
    return Resampled(scene, (height, width))


def _stretched(info: ModelInfo, scene: Imagery, percentiles: tuple[float, float]) -> Imagery:
    byte = info.dtype == "uint8"
    targets = [(0.0, 255.0)] * len(scene.bands) if byte else list(info.value_range)
    return stretched(scene, percentiles, targets, np.uint8 if byte else np.float32)


def _check_bands(info: ModelInfo, scene: Imagery) -> None:
    """Refuse a scene with bands missing or too many."""
    if len(scene.bands) == len(info.bands):
        return
    wanted = ", ".join(band.name for band in info.bands)
    msg = (
        f"Scene must have the {len(info.bands)} bands of the model ({wanted}), got {len(scene.bands)} "
        f"({', '.join(scene.bands)}) in {scene.name}. Pass --bands to choose and order them."
    )
    raise ModelError(msg)


def _check_values(info: ModelInfo, scene: Imagery) -> None:
    """Refuse a scene whose values can't be understood."""
    model = np.dtype(info.dtype)
    largest = max((high for _, high in info.value_range), default=0.0)
    # Pixels are looked at only where that can matter: no window is run before they have been decoded.
    if model.itemsize == 1 and scene.dtype.itemsize > 1 and (seen := _brightest(scene)) > largest:
        msg = (
            f"Scene must hold 8-bit values as in training (0 to {largest:g}), got {scene.dtype} with a 99th percentile of "
            f"{seen:g} in {scene.name}. Map it to 8 bits with --stretch 2,98, or use a model trained on such data."
        )
        raise ModelError(msg)
    if model.itemsize > 1 and model.kind in "ui" and scene.dtype == np.uint8 and largest > 255:
        msg = (
            f"Scene must hold {info.dtype} values up to about {largest:g} as in training, got uint8 in {scene.name}. "
            f"Use the original data, or a model trained on 8-bit images."
        )
        raise ModelError(msg)


def _brightest(scene: Imagery) -> float:
    """99th percentile of a scene's values, as far as its sample shows; 0 where it holds none."""
    values = scene.sample()
    return float(np.percentile(values, 99)) if values.size else 0.0


def doubts(info: ModelInfo, scene: Imagery) -> list[str]:
    """Say in plain words what makes a result doubtful although the scene can be read."""
    found = list(scene.doubts)
    if not info.local:
        found.append(
            f"Network {info.network!r} sees a whole window at once, so results change a little with the windows."
        )
    gsd_m = scene.grid.gsd_m
    if info.gsd_m and gsd_m and not info.gsd_m[0] / 1.5 <= gsd_m <= info.gsd_m[1] * 1.5:
        low, high = info.gsd_m
        found.append(
            f"{scene.name} has pixels of {gsd_m:.2f} m; the model was trained on {low:.2f} to {high:.2f} m. "
            f"--resample-to-gsd model reads it so."
        )
    values = scene.sample()
    if not values.size:
        return [*found, f"{scene.name} holds nothing but nodata{_as_far_as_seen(scene)}."]
    return [*found, *_doubts_of_range(info, scene, values), *_doubts_of_type(scene, values)]


def _as_far_as_seen(scene: Imagery) -> str:
    return "" if scene.shape[0] * scene.shape[1] <= 2**24 else ", as far as windows spread over it show"


def _doubts_of_range(info: ModelInfo, scene: Imagery, values: np.ndarray) -> list[str]:
    """Bands that are darker or brighter than in training."""
    found = []
    high = np.percentile(values, 99, axis=0)
    for name, value, (smallest, largest), (scale, offset) in zip(
        scene.bands, high, info.value_range, scene.scaling, strict=True
    ):
        # What can be negative, as an index can, isn't dark near 0.
        dark = smallest >= 0 and largest > 0 and value < largest / 8
        if not (dark or value > 1.5 * largest > 0):
            continue
        # Where the tags say what is meant, and that would fit, it is no matter of light.
        meant = value * scale + offset
        if (scale, offset) != (1.0, 0.0) and largest / 8 <= meant <= 1.5 * largest:
            found.append(
                f"Band {name!r} of {scene.name} holds {value:g} where the model knows up to {largest:g}; by its tags that "
                f"means {meant:g}. --scaled applies them."
            )
        elif dark:
            found.append(
                f"Band {name!r} of {scene.name} is dark: 99 % lie below {value:g}, in training up to {largest:g}."
            )
        else:
            found.append(f"Band {name!r} of {scene.name} reaches {value:g}, in training only {largest:g}.")
    return found


def _doubts_of_type(scene: Imagery, values: np.ndarray) -> list[str]:
    """Numbers that 32-bit floats, which networks work with, can't tell apart."""
    large = float(np.abs(values.astype(np.float64)).max())
    if scene.dtype.kind in "iu" and scene.dtype.itemsize >= 4 and large > EXACT_INTEGERS:
        told = f"tell whole numbers apart up to {EXACT_INTEGERS:,}"
        return [
            f"{scene.name} holds {scene.dtype} values up to {large:.0f}; networks work with 32-bit floats, which {told}."
        ]
    return []
