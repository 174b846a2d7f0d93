"""Labels to polygons: exact, valid, fast, and strip by strip, so that a raster of any size can be traced."""

from satmask.vectorise.raster import trace, trace_raster
from satmask.vectorise.tracer import Traced, Tracer

__all__ = ["Traced", "Tracer", "trace", "trace_raster"]
