"""Model files in eight bits, or with weights stored in sixteen: written only where measuring says that they are as good."""

from satmask.quantisation.graph import METHODS, fold, layers, measure_ranges, quantise, store_halves
from satmask.quantisation.trial import WEIGHTS, Outcome, Terms, Trial, quantise_file

__all__ = [
    "METHODS",
    "WEIGHTS",
    "Outcome",
    "Terms",
    "Trial",
    "fold",
    "layers",
    "measure_ranges",
    "quantise",
    "quantise_file",
    "store_halves",
]
