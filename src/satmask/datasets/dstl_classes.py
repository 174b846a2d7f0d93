"""The ten classes of the DSTL Satellite Imagery Feature Detection challenge."""

from __future__ import annotations

from satmask.legend import Legend

NAMES = {
    1: "buildings",
    2: "misc. structures",
    3: "road",
    4: "track",
    5: "trees",
    6: "crops",
    7: "waterway",
    8: "standing water",
    9: "vehicle large",
    10: "vehicle small",
}
COLOURS = {
    1: "#B3B3B3",
    2: "#7A5C3E",
    3: "#D95F0E",
    4: "#FEC44F",
    5: "#1B7837",
    6: "#C2E699",
    7: "#08519C",
    8: "#41B6C4",
    9: "#C51B8A",
    10: "#F768A1",
}
LEGEND = Legend.of(NAMES, colours=COLOURS)
"""The classes by the ids of the challenge's tables; they overlap."""
