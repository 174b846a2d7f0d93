"""Opening raster files: by the driver that the name promises, and nothing but what the user named."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError  # GDAL's errors that rasterio lets through; it has no public name for them
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from satmask.addresses import Remote
from satmask.errors import SceneError
from satmask.soundness import check_image, check_memory, check_tiff
from satmask.vrt import check_vrt

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from satmask.tiff_directory import Directory

# A tile without a place is nothing to warn about here. Not inside a `with`: warning filters aren't safe in threads.
warnings.simplefilter("ignore", NotGeoreferencedWarning)

GDAL_ERRORS = (RasterioError, CPLE_BaseError, MemoryError)
# Files are opened by the driver that their name promises: a VRT that points elsewhere but is named .tif is refused.
DRIVERS = {
    ".tif": "GTiff",
    ".tiff": "GTiff",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".jp2": "JP2OpenJPEG",
    ".webp": "WEBP",
    ".img": "HFA",
    ".vrt": "VRT",
}
# GDAL reads these from their beginning, row by row, and WebP as a whole.
WITHOUT_BLOCKS = ("JPEG", "PNG", "WEBP")
# A truncated JPEG is an error, not grey pixels, and so is a truncated PNG: GDAL's fast way of reading PNG at once hides
# errors and leaves wrong pixels. Sidecar files are not looked for: folders of many tiles are slow to list, and sidecars
# may name files anywhere.
GDAL_OPTIONS = {
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": False,
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,
}
# A file is known by its beginning, which is read in one go; what fails for a moment is asked for again.
REMOTE_OPTIONS = {
    **GDAL_OPTIONS,
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
    "GDAL_HTTP_MAX_RETRY": 4,
    "GDAL_HTTP_RETRY_DELAY": 0.5,
    "CPL_VSIL_CURL_USE_HEAD": False,
}


class Opened:
    """An open raster file and what was found out on the way.

    Attributes:
        file: The file.
        options: GDAL's settings for reading it.
        directory: What a GeoTIFF on this machine says of its blocks.
        doubts: What makes it doubtful although it can be read.
    """

    def __init__(self, address: Path | Remote) -> None:
        self.options = REMOTE_OPTIONS if isinstance(address, Remote) else GDAL_OPTIONS
        self.directory: Directory | None = None
        self.doubts: list[str] = []
        driver = DRIVERS.get(address.suffix.lower(), "GTiff")
        name = _remote_name(address, driver) if isinstance(address, Remote) else self._local_name(address, driver)
        try:
            with rasterio.Env(**self.options):
                self.file: DatasetReader = rasterio.open(name, driver=driver)
        except GDAL_ERRORS as error:
            raise _unopened(address, error) from error
        try:
            self._check(address, driver)
        except BaseException:
            self.file.close()
            raise

    def _local_name(self, path: Path, driver: str) -> str:
        if not path.is_file():
            msg = f"Scene must be a file, got {str(path)!r}."
            raise SceneError(msg)
        # Absolute, lest a file called GTIFF_DIR:1:x.tif be taken for one of GDAL's strings.
        name = str(path.absolute())
        if driver == "GTiff":
            self.directory, self.doubts = check_tiff(path)
        elif driver == "VRT":
            self.doubts = check_vrt(path, DRIVERS)
        return name

    def _check(self, address: Path | Remote, driver: str) -> None:
        """Refuse what would take a lot of memory, by what GDAL says of it."""
        file = self.file
        if elsewhere := file.tags(ns="OVERVIEWS"):
            # GDAL would open whatever file or address such a tag names as soon as the raster is read at a smaller size.
            msg = f"Scene must hold its overviews itself, got {next(iter(elsewhere.values()))!r:.80} in {address.name}."
            msg += " Write it out with gdal_translate -co COPY_SRC_OVERVIEWS=NO -nomd."
            raise SceneError(msg)
        if driver in WITHOUT_BLOCKS:
            size = _itemsize(file.dtypes[0]) * file.count
            check_image(address.name, file.shape, size, at_once=driver == "WEBP")
        elif self.directory is None or self.directory.in_parts:
            sizes = [_itemsize(name) for name in file.dtypes]
            height, width = file.block_shapes[0]
            together = sum(sizes) if driver == "GTiff" and file.profile.get("interleave") == "pixel" else max(sizes)
            check_memory(address.name, (height, width), height * width * together, file.count)
        if driver == "HFA" and isinstance(address, Path):
            outside = [one for one in file.files if Path(one).parent != address.absolute().parent]
            if outside:
                msg = f"Scene must lie in one folder, got {outside[0]!r} of {address.name}."
                raise SceneError(msg)


def _itemsize(name: str) -> int:
    """Bytes of a data type, as rasterio names it."""
    return 4 if name == "complex_int16" else np.dtype(name).itemsize


def _remote_name(address: Remote, driver: str) -> str:
    if driver == "VRT":
        msg = f"VRT file must lie on this machine, got {address}. Download it."
        raise SceneError(msg)
    return address.gdal_name


def _unopened(address: Path | Remote, error: BaseException) -> SceneError:
    if not isinstance(address, Remote):
        return SceneError(
            f"Scene must be a raster that can be opened, got {reason(error, address)!r} for {address.name}."
        )
    way_out = "Check the address and the connection."
    if "AWS_" in str(error) or "403" in str(error) or "401" in str(error):
        way_out = "Set the credentials as GDAL wants them (AWS_ACCESS_KEY_ID … or AWS_NO_SIGN_REQUEST=YES)."
    return SceneError(
        f"Scene must be a raster that can be fetched, got {reason(error, address)!r} for {address}. {way_out}"
    )


def undecodable(error: BaseException, address: Path | Remote, where: str = "") -> SceneError:
    """The error for pixels that can't be decoded."""
    return SceneError(f"Scene must decode, got {reason(error, address)!r} in {address.name}{where}.")


def reason(error: BaseException, address: Path | Remote) -> str:
    """The first line of what GDAL said, shortened: its messages carry whole paths, even secrets, and repeat themselves."""
    text = str(error.__cause__ or error).strip()
    if isinstance(address, Remote):
        text = text.replace(address.url, str(address))
    lines = text.splitlines()
    return lines[0][:160] if lines else type(error).__name__
