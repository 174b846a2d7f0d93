"""Scores: pixels by class, boundaries, objects and polygons, COCO's and DSTL's rules, and how far they may be trusted."""
