"""Result files for benchmarks: crowdAI's list of detections."""

from satmask.submission.crowdai import (
    BUILDING,
    PredictedTile,
    crowdai_results,
    find_tiles,
    write_crowdai,
)

__all__ = ["BUILDING", "PredictedTile", "crowdai_results", "find_tiles", "write_crowdai"]
