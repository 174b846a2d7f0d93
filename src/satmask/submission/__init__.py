"""Result files for benchmarks: crowdAI's list of detections, and DSTL's table of polygons."""

from satmask.submission.crowdai import (
    BUILDING,
    PredictedTile,
    crowdai_results,
    find_tiles,
    write_crowdai,
)
from satmask.submission.dstl import PredictedImage, find_images, mask_to_wkt, write_dstl
from satmask.submission.tables import check_table

__all__ = [
    "BUILDING",
    "PredictedImage",
    "PredictedTile",
    "check_table",
    "crowdai_results",
    "find_images",
    "find_tiles",
    "mask_to_wkt",
    "write_crowdai",
    "write_dstl",
]
