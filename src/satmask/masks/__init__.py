"""Masks: polygons to pixels and back, run-length codes, masks a class, mask images, and masks drawn on images.

One rule decides which pixels a polygon covers, wherever polygons become pixels: a pixel belongs to the polygon that
holds its centre. Rasterisers that follow other rules disagree by 4–13 % IoU on buildings of 12–60 pixels.

Polygons are in pixel coordinates here: x is the column and y the row, counted from the outer corner of the first pixel.
"""

from satmask.masks.classes import areas, boxes, class_masks, draw_order, flatten
from satmask.masks.coco_codes import decode_coco, encode_coco, read_coco, write_coco
from satmask.masks.drawing import contours, draw_masks, draw_polygons, line_width
from satmask.masks.images import (
    UNLABELLED,
    mask_codes,
    match,
    merge_legends,
    read_mask,
    write_mask,
    write_masks,
    write_picture,
)
from satmask.masks.kaggle_codes import decode_kaggle, encode_kaggle, read_kaggle, write_kaggle
from satmask.masks.reading import CodedTile, read_code_file, tile_masks
from satmask.masks.runs import Order, Runs
from satmask.masks.tracing import FARTHEST_PX, outlines, polygonise, rasterise
from satmask.masks.writing import coco_annotations, coco_content, coco_outlines, csv_text, kaggle_rows, write_text

__all__ = [
    "FARTHEST_PX",
    "UNLABELLED",
    "CodedTile",
    "Order",
    "Runs",
    "areas",
    "boxes",
    "class_masks",
    "coco_annotations",
    "coco_content",
    "coco_outlines",
    "contours",
    "csv_text",
    "decode_coco",
    "decode_kaggle",
    "draw_masks",
    "draw_order",
    "draw_polygons",
    "encode_coco",
    "encode_kaggle",
    "flatten",
    "kaggle_rows",
    "line_width",
    "mask_codes",
    "match",
    "merge_legends",
    "outlines",
    "polygonise",
    "rasterise",
    "read_coco",
    "read_code_file",
    "read_kaggle",
    "read_mask",
    "tile_masks",
    "write_coco",
    "write_kaggle",
    "write_mask",
    "write_masks",
    "write_picture",
    "write_text",
]
