"""Masks: polygons to pixels and back, run-length codes, masks a class, mask images, and masks drawn on images.

One rule decides which pixels a polygon covers, wherever polygons become pixels: a pixel belongs to the polygon that
holds its centre. Rasterisers that follow other rules disagree by 4–13 % IoU on buildings of 12–60 pixels.

Polygons are in pixel coordinates here: x is the column and y the row, counted from the outer corner of the first pixel.
"""

from satmask.masks.classes import areas, boxes, class_masks, draw_order, flatten
from satmask.masks.codes import (
    decode_coco,
    decode_kaggle,
    encode_coco,
    encode_kaggle,
    read_coco,
    read_kaggle,
    write_coco,
    write_kaggle,
)
from satmask.masks.drawing import contours, draw_masks, draw_polygons, line_width
from satmask.masks.images import UNLABELLED, mask_codes, match, read_mask, write_mask
from satmask.masks.runs import Order, Runs
from satmask.masks.tracing import FARTHEST_PX, outlines, polygonise, rasterise

__all__ = [
    "FARTHEST_PX",
    "UNLABELLED",
    "Order",
    "Runs",
    "areas",
    "boxes",
    "class_masks",
    "contours",
    "decode_coco",
    "decode_kaggle",
    "draw_masks",
    "draw_order",
    "draw_polygons",
    "encode_coco",
    "encode_kaggle",
    "flatten",
    "line_width",
    "mask_codes",
    "match",
    "outlines",
    "polygonise",
    "rasterise",
    "read_coco",
    "read_kaggle",
    "read_mask",
    "write_coco",
    "write_kaggle",
    "write_mask",
]
