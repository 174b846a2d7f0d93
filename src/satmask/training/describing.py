"""What the data say: how it is read and scaled, and what the model file tells of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from satmask.batches import Reading
from satmask.model_file import BandInfo
from satmask.models import encoder_scaling
from satmask.stack import open_imagery

if TYPE_CHECKING:
    from satmask.recipe import Recipe
    from satmask.survey import Survey


def band_infos(seen: Survey) -> tuple[BandInfo, ...]:
    """The bands of surveyed data, with their wavelengths where they are known."""
    with open_imagery(seen.samples[0].image, bands=seen.indexes) as scene:
        wavelengths = scene.wavelengths_nm
    return tuple(
        BandInfo(name=name, wavelength_nm=wavelength) for name, wavelength in zip(seen.bands, wavelengths, strict=True)
    )


def public_options(recipe: Recipe) -> dict[str, Any]:
    """Options of the network as the model file tells them: of a file of weights only the name, not where it lies."""
    options = recipe.network.options
    if recipe.network.name == "dilated":
        options.setdefault("window", recipe.window)
    return options | {key: Path(options[key]).name for key in ("weights",) if options.get(key)}


def reading_of(seen: Survey, upsampling: int = 1) -> Reading:
    """How to read windows of surveyed data: nodata becomes the mean, which normalises to about 0 as padding does."""
    whole = seen.dtype.kind in "ui"
    fill = tuple(float(round(value)) if whole else float(value) for value in seen.mean)
    return Reading(seen.indexes, fill, low=seen.smallest, high=seen.largest, upsampling=upsampling)


def finest(recipe: Recipe, *surveys: Survey) -> float | None:
    """The smallest ground sampling distance of all images, in metres; None where one isn't known."""
    smallest = recipe.gsd_m[0] if recipe.gsd_m else float(np.min([survey.gsds_m.min() for survey in surveys]))
    return None if math.isnan(smallest) else smallest


def upsample_above(recipe: Recipe, *surveys: Survey) -> float | None:
    """From which size of pixels on scenes are to be seen as the images were: as four from halfway to half of the smallest on."""
    if recipe.upsampling == 1:
        return None
    smallest = finest(recipe, *surveys)
    return 0.0 if smallest is None else float(f"{smallest / math.sqrt(2):.3g}")


def scaling(recipe: Recipe, seen: Survey) -> dict[str, Any]:
    """Scale and offset of the network's normalisation: to mean 0 and deviation 1 a band.

    An encoder that starts from ImageNet weights gets 8-bit RGB the way they were trained.
    """
    options = recipe.network.options
    if recipe.network.name == "encoder" and options.get("weights") and seen.dtype == np.uint8 and len(seen.bands) == 3:
        scale, offset = encoder_scaling(options.get("encoder", "MobileNetV2"))
        return {"scale": scale, "offset": offset}
    deviation = np.where(seen.deviation > 0, seen.deviation, 1.0)
    return {"scale": (1 / deviation).tolist(), "offset": (-seen.mean / deviation).tolist()}
