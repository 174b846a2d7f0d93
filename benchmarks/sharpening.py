"""Pan-sharpening by Wald's protocol: everything made coarser by the ratio, sharpened, and compared with the original.

Example: `python benchmarks/sharpening.py --data DIR`
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from measure import arguments, begin
from satmask.bands import Registration, fit_sharpening, register, resample, sharpen
from satmask.bands.fidelity import ergas, spectral_angle, universal_quality
from satmask.bands.sharpening import blur_pan
from satmask.datasets.town import draw_town
from satmask.datasets.town.sensors import PAN_WEIGHTS
from satmask.scene import Scene
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

# Edges, where both were extended by guesses, don't count.
EDGE = 8
Problem = tuple[str, np.ndarray, np.ndarray, np.ndarray, int]


def problems(data: Path | None) -> Iterator[Problem]:
    """Name, truth, coarse bands, panchromatic band on the truth's grid, and the ratio."""
    for seed in (1, 2, 3):
        truth = draw_town(512, 512, seed=seed, bands=8).image.astype(np.float32)
        grain = np.random.default_rng(seed).normal(0, 4, truth.shape[:2])
        yield f"town {seed}, 8 bands", truth, lower(truth, 4), truth @ PAN_WEIGHTS + grain, 4
    if data is None:
        return
    truth = read(data / "rasters" / "multispectral_float64.tif")
    pan = read(data / "rasters" / "panchromatic_uint16.tif")[..., 0]
    found: Registration = register(truth, pan, limit_px=8, tolerance_px=0.5)
    print(f"real: panchromatic against its bands: {found.reason}")
    placed = resample(pan, pan.shape, shift=(-found.dx, -found.dy))
    for name, band in (("as delivered", pan), ("in register", placed)):
        low = blur_pan(band, truth.shape[:2], mtf=0.15)
        for ratio in (2, 4):
            yield f"real, 4 bands, {name}", truth, lower(truth, ratio), low, ratio
    truth = read(data / "rasters" / "naip_4band_nodata.tif")[100:612, 200:712]
    yield "NAIP, 4 bands, P made of them", truth, lower(truth, 4), truth @ np.float32([0.3, 0.3, 0.2, 0.2]), 4


def lower(image: np.ndarray, ratio: int) -> np.ndarray:
    """What a detector `ratio` times coarser makes of an image: 0.3 is left of the finest wave it can hold."""
    shape = (image.shape[0] // ratio, image.shape[1] // ratio)
    return np.stack([blur_pan(image[..., band], shape) for band in range(image.shape[2])], axis=-1)


def gsa(colour: np.ndarray, pan: np.ndarray) -> np.ndarray:
    """The peer: adaptive Gram-Schmidt, detail added to each band by its covariance with the fitted intensity.

    Aiazzi, Baronti & Selva 2007, https://doi.org/10.1109/TGRS.2007.901007
    """
    intensity = fit_sharpening(colour, pan, method="brovey").intensity
    gains = [np.cov(colour[..., band].ravel(), intensity.ravel())[0, 1] for band in range(colour.shape[2])]
    gains = np.array(gains) / np.var(intensity, dtype=np.float64)
    detail = pan - resample(intensity, pan.shape)
    return resample(colour, pan.shape) + gains.astype(np.float32) * detail[..., None]


def plain_brovey(colour: np.ndarray, pan: np.ndarray) -> np.ndarray:
    """The peer: Brovey's transform with equal weights, the panchromatic band brought to the mean and spread of the sum."""
    up = resample(colour, pan.shape)
    intensity = up.mean(axis=-1)
    matched = (pan - pan.mean()) / pan.std() * intensity.std() + intensity.mean()
    return up * (matched / np.maximum(intensity, 1e-6))[..., None]


def read(path: Path) -> np.ndarray:
    """All bands of a raster, float32."""
    with Scene(path) as scene:
        return scene.raw(Window(0, 0, *scene.shape)).astype(np.float32)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, help="folder of real data with `rasters`")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    begin("Pan-sharpening by Wald's protocol; ERGAS and SAM: less is better, Q: more is")
    inner = (slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    for name, truth, colour, pan, ratio in problems(options.data):
        print(f"{name}, ratio {ratio}\n{'':24} {'ERGAS':>8} {'SAM, °':>8} {'Q':>8}")
        candidates = {
            "interpolated": resample(colour, pan.shape),
            "Brovey, equal weights": plain_brovey(colour, pan),
            "GSA": gsa(colour, pan),
            "satmask brovey": sharpen(colour, pan, method="brovey"),
            "satmask glp": sharpen(colour, pan, method="glp"),
        }
        for method, found in candidates.items():
            pair = found[inner], truth[inner]
            print(
                f"{method:24} {ergas(*pair, ratio=ratio):8.3f} {spectral_angle(*pair):8.3f} {universal_quality(*pair):8.4f}"
            )


if __name__ == "__main__":
    main()
