"""A synthetic town: for tests, demonstrations and first steps without any data.

It is drawn, not photographed. Its images train a network well enough to show that everything works, offline and within
minutes; they say nothing about accuracy on real imagery, and files made from it carry the tag `SATMASK_SYNTHETIC=YES`.
"""

from satmask.datasets.town.drawing import LEGEND, Town, draw_town
from satmask.datasets.town.dstl import DstlSet, write_dstl
from satmask.datasets.town.files import write_scene, write_tiles
from satmask.datasets.town.materials import BANDS

__all__ = ["BANDS", "LEGEND", "DstlSet", "Town", "draw_town", "write_dstl", "write_scene", "write_tiles"]
