"""Prediction: a scene and a model file in, rasters and polygons out; exactly as if the network saw the scene at once."""

from satmask.prediction.pieces import Piece, check_thresholds, decide, decide_pixels
from satmask.prediction.scenes import Outputs, predict_scene, predict_scenes
from satmask.prediction.tiling import HALOS, LARGEST, choose_window
from satmask.prediction.walking import ahead, predict_array, walk
from satmask.scene_lists import stem_of

__all__ = [
    "HALOS",
    "LARGEST",
    "Outputs",
    "Piece",
    "ahead",
    "check_thresholds",
    "choose_window",
    "decide",
    "decide_pixels",
    "predict_array",
    "predict_scene",
    "predict_scenes",
    "stem_of",
    "walk",
]
