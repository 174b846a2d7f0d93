"""Strips: what is decided strip by strip is what is decided at once."""

import itertools

import cv2
import numpy as np
import pytest

from satmask.decisions import Decision, Merge, Shape
from satmask.legend import Legend
from satmask.refinements import Refinement
from satmask.strips import Decided, rules_of
from satmask.windows import Window

TWO = Legend.of(["house", "water"])


def probabilities(seed, shape=(67, 50), blur=1.2):
    """Blobs of all sizes, some of which reach over many rows."""
    noise = np.random.default_rng(seed).random((*shape, 2)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(noise[..., at], (0, 0), blur) for at in range(2)], axis=-1)
    low, high = smooth.min(), smooth.max()
    return (smooth - low) / (high - low)


def strip_by_strip(decision, said, *, gsd_m, rows):
    limits = np.asarray(decision.thresholds, np.float32)
    return Decided(
        lambda window: said[window.slices] >= limits, said.shape[:2], decision.legend, rules_of(decision, gsd_m=gsd_m),
        gsd_m=gsd_m, merges=decision.merges, rows=rows,
    )  # fmt: skip


DECISIONS = {
    "thresholds": Decision(TWO, (0.4, 0.6)),
    "areas": Decision(TWO, (0.45, 0.55), min_area_px=(12, 40)),
    "areas on the ground": Decision(TWO, min_area_m2=(3, 7)),
    "opened": Decision(TWO, (0.4, 0.5), refinements=(Refinement("house", open_px=1.5), Refinement("water", open_m=0.5))),
    "closed": Decision(TWO, refinements=(Refinement("house", close_px=2, open_px=1),)),
    "filled": Decision(TWO, (0.4, 0.35), refinements=(Refinement("house", min_hole_px=9), Refinement("water", min_hole_m2=30))),
    "shapes": Decision(TWO, (0.45, 0.5), shapes=(Shape("house", large_px=60, slender=4, edge_px=9),)),
    "all": Decision(
        TWO, (0.42, 0.45), min_area_px=(5, 20), merges=(Merge("water", ("house",)),), shapes=(Shape("water", 30, 5, 4),),
        refinements=(Refinement("house", 1, 0, 1.5, 0, 6, 0), Refinement("water", min_hole_m2=5)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECISIONS)
def test_strips_of_any_height_give_the_masks_of_the_whole(name):
    decision, said = DECISIONS[name], probabilities(1)
    whole = decision.masks(said, gsd_m=0.5)
    assert 0 < whole.mean() < 1
    for rows in (1, 2, 7, 66, 67, 500):
        decided = strip_by_strip(decision, said, gsd_m=0.5, rows=rows)
        np.testing.assert_array_equal(decided.read(Window(0, 0, 67, 50)), whole)


def test_steps_do_something_here():
    plain = DECISIONS["thresholds"]
    for name, decision in itertools.islice(DECISIONS.items(), 1, None):
        bare = Decision(TWO, decision.thresholds)
        assert (decision.masks(probabilities(1), gsd_m=0.5) != bare.masks(probabilities(1))).any(), name
    assert plain.local


def test_windows_are_cut_from_strips_and_rows_are_read_a_few_times_only():
    decision, said, read = DECISIONS["all"], probabilities(2), []
    limits = np.asarray(decision.thresholds, np.float32)

    def note(window):
        read.append(window.height)
        return said[window.slices] >= limits

    decided = Decided(note, (67, 50), TWO, rules_of(decision, gsd_m=0.5), gsd_m=0.5, merges=decision.merges, rows=16)
    whole = decision.masks(said, gsd_m=0.5)
    for window in (Window(0, 0, 16, 25), Window(0, 25, 16, 25), Window(10, 7, 40, 13), Window(66, 49, 1, 1)):
        np.testing.assert_array_equal(decided.read(window), whole[window.slices])
    assert max(read) <= 16 + 2 * 8


def test_a_group_that_winds_through_many_strips_is_one():
    spiral = np.zeros((41, 41), bool)
    for ring in range(0, 20, 4):
        cv2.rectangle(view := spiral.view(np.uint8), (ring, ring), (40 - ring, 40 - ring), 1)
        if ring:
            view[ring, ring - 4 : ring] = 1
    spiral[20:22, 20:23] = True
    one = Legend.of(["path"])
    decision = Decision(one, min_area_px=(int(spiral.sum()) - 6,))
    found = strip_by_strip(decision, spiral[..., None].astype(np.float32), gsd_m=None, rows=3).read(
        Window(0, 0, 41, 41)
    )
    np.testing.assert_array_equal(found[..., 0], decision.masks(spiral[..., None].astype(np.float32))[..., 0])
    assert found.sum() == spiral.sum() - 6


def strips_read(decision, mask):
    """How many strips of ten rows are read for the first."""
    seen, said = set(), mask[..., None].astype(np.float32)

    def read(window):
        seen.add(window.row)
        return said[window.slices] >= 0.5

    decided = Decided(read, mask.shape, decision.legend, rules_of(decision, gsd_m=None), gsd_m=None, rows=10)
    first = Window(0, 0, 10, mask.shape[1])
    np.testing.assert_array_equal(decided.read(first), decision.masks(said)[first.slices])
    return len(seen)


@pytest.mark.parametrize(
    ("drawn", "settings", "strips"),
    [
        ((3, 9), {"min_area_px": (5,)}, 1),  # ends in the strip
        ((3, 12), {"min_area_px": (9,)}, 2),  # is large enough in the next
        ((3, 60), {"min_area_px": (15,)}, 2),  # however long it is
        ((3, 25), {"min_area_px": (90,)}, 3),  # ends too small
        ((3, 60), {"min_area_px": (90,)}, 6),
        ((3, 60), {"shapes": (Shape("path", large_px=9),)}, 6),  # a look is had when it is whole
        ((0, 0), {"min_area_px": (5,)}, 1),
    ],
)
def test_no_more_is_read_than_it_takes_to_be_sure(drawn, settings, strips):
    mask = np.zeros((60, 30), bool)
    mask[slice(*drawn), 4] = True
    decision = Decision(Legend.of(["path"]), **settings)
    assert strips_read(decision, mask) == strips


@pytest.mark.parametrize(("hole", "strips"), [((4, 6), 1), ((4, 16), 2), ((4, 55), 2), (None, 1)])
def test_holes_are_filled_as_soon_as_they_are_known_to_be_small(hole, strips):
    mask = np.zeros((60, 30), bool)
    mask[2:58, 2:28] = True
    if hole:
        mask[hole[0] : hole[1], 10] = False
    decision = Decision(Legend.of(["path"]), refinements=(Refinement("path", min_hole_px=14),))
    assert strips_read(decision, mask) == strips
