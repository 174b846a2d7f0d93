"""Laws of object scores: every object is matched or one kind of error, counts add, and made-up cases are what they were made to be."""

import json

import numpy as np
import pytest
import shapely
from shapely.affinity import translate

from satmask.errors import SettingError
from satmask.legend import Legend
from satmask.scoring.matching import find_overlaps, match
from satmask.scoring.objects import BINS, ERRORS, OBJECTS, THRESHOLDS, ObjectScore, kinds_of_errors, score_objects

HOUSE = Legend.of(["house"])
box = shapely.box


def score(truth, predicted, **settings):
    return score_objects({1: truth}, {1: predicted}, HOUSE, **({"shape": (100, 100)} | settings))


def kinds(truth, predicted):
    overlaps = find_overlaps(truth, predicted)
    found = kinds_of_errors(overlaps, overlaps.pairs[match(overlaps)])
    return tuple([ERRORS[kind] if kind >= 0 else "" for kind in side] for side in found)


def town(seed):
    """Boxes of a truth, and boxes moved, cut, lost, made up and doubled."""
    random = np.random.default_rng(seed)
    truth = [box(x, y, x + w, y + h) for x, y, w, h in random.uniform([0, 0, 3, 3], [90, 90, 9, 9], (25, 4))]
    predicted = []
    for shape in truth:
        moved = translate(shape, *random.normal(0, 1.5, 2))
        x0, y0, x1, y1 = moved.bounds
        halves = [box(x0, y0, (x0 + x1) / 2, y1), box((x0 + x1) / 2, y0, x1, y1)]
        predicted += [[], [moved], [moved], halves, [moved, shape]][random.integers(5)]
    return truth, predicted + [box(x, y, x + 4, y + 4) for x, y in random.uniform(0, 90, (5, 2))]


@pytest.mark.parametrize(
    ("truth", "predicted", "wanted"),
    [
        ([box(0, 0, 9, 9)], [box(0, 0, 9, 8)], ([""], [""])),
        ([box(0, 0, 9, 9)], [], (["missed"], [])),
        ([], [box(0, 0, 9, 9)], ([], ["missed"])),
        ([box(0, 0, 9, 9)], [box(8, 8, 17, 17)], (["missed"], ["missed"])),  # IoU 1 / 161
        ([box(0, 0, 10, 10)], [box(4, 0, 14, 10)], (["boundary"], ["boundary"])),  # IoU 0.43
        ([box(0, 0, 10, 10)], [box(8, 0, 18, 10)], (["boundary"], ["boundary"])),  # IoU 0.11
        ([box(0, 0, 10, 10)], [box(9, 0, 19, 10)], (["missed"], ["missed"])),  # IoU 0.05
        ([box(0, 0, 9, 9)], [box(0, 0, 9, 4), box(0, 5, 9, 9)], (["split"], ["split", "split"])),
        ([box(0, 0, 9, 4), box(0, 5, 9, 9)], [box(0, 0, 9, 9)], (["merged", "merged"], ["merged"])),
        # The larger piece matches; the smaller is what is left of a split. And the same of two houses taken for one.
        ([box(0, 0, 9, 9)], [box(0, 0, 9, 6), box(0, 6, 9, 9)], ([""], ["", "split"])),
        ([box(0, 0, 9, 6), box(0, 6, 9, 9)], [box(0, 0, 9, 9)], (["", "merged"], [""])),
        ([box(0, 0, 9, 8)], [box(0, 0, 9, 4), box(0, 4, 9, 8)], ([""], ["", "split"])),  # halves of IoU 0.5
        ([box(0, 0, 9, 4), box(0, 4, 9, 8)], [box(0, 0, 9, 8)], (["", "merged"], [""])),
        ([box(0, 0, 9, 9)], [box(0, 0, 9, 9), box(0, 0, 9, 8)], ([""], ["", "doubled"])),
        ([box(0, 0, 9, 9), box(0, 0, 9, 8)], [box(0, 0, 9, 9)], (["", "doubled"], [""])),
        # A speck inside is a boundary error neither of a split (it is alone) nor invented, if it is a tenth of the house.
        ([box(0, 0, 10, 10)], [box(0, 0, 5, 4)], (["boundary"], ["boundary"])),
        ([box(0, 0, 10, 10)], [box(0, 0, 3, 3)], (["missed"], ["missed"])),
    ],
)
def test_made_up_errors_are_what_they_were_made_to_be(truth, predicted, wanted):
    assert kinds(truth, predicted) == wanted


@pytest.mark.parametrize("matching", ["greedy", "optimal"])
@pytest.mark.parametrize("seed", range(4))
def test_every_object_is_matched_or_one_kind_of_error_in_each_kind_of_bin(seed, matching):
    truth, predicted = town(seed)
    counts = score(truth, predicted, matching=matching, gsd_m=2.0).counts[0]
    assert counts[0, :, OBJECTS].tolist() == [len(truth), len(predicted)]
    assert (counts[:, :, 0] == counts[:, :, 1] + counts[:, :, 11:].sum(axis=-1)).all()
    for bins in (slice(1, 4), slice(4, 8), slice(8, 12)):
        assert (counts[bins].sum(axis=0) == counts[0]).all()
    assert (counts[0, 0, 1:11] == counts[0, 1, 1:11]).all()  # pairs are pairs
    assert (np.diff(counts[0, 0, 1:11]) <= 0).all()
    assert (counts[0, :, 11:].sum(axis=0) > 0).sum() >= 3


def test_scores_are_those_of_the_plain_formulas():
    truth, predicted = town(7)
    found = score(truth, predicted)
    overlaps = find_overlaps(truth, predicted)
    sizes = [len(match(overlaps, step)) for step in THRESHOLDS]
    assert found.recall()[0] == sizes[0] / len(truth)
    assert found.precision(3)[0] == sizes[3] / len(predicted)
    assert found.f1(3)[0] == 2 * sizes[3] / (len(truth) + len(predicted))
    assert found.mean_f1()[0] == pytest.approx(2 * np.mean(sizes) / (len(truth) + len(predicted)))
    assert 0 < sizes[-1] < sizes[0]


def test_counts_add_as_objects_that_lie_far_apart_do():
    parts = [town(seed) for seed in (1, 2)]
    truth = [*parts[0][0], *(translate(shape, 500) for shape in parts[1][0])]
    predicted = [*parts[0][1], *(translate(shape, 500) for shape in parts[1][1])]
    total = score(*parts[0]) + score(*parts[1])
    together = score(truth, predicted)
    sizes = slice(0, 8)  # distances to the edge differ
    assert (total.counts[:, sizes] == together.counts[:, sizes]).all()
    assert total.quality == pytest.approx(together.quality)
    assert (ObjectScore.empty(HOUSE) + total).counts.tolist() == total.counts.tolist()
    again = ObjectScore.from_dict(json.loads(json.dumps(total.to_dict())))
    assert (again.counts.tolist(), again.quality.tolist()) == (total.counts.tolist(), total.quality.tolist())


def test_nothing_at_all_has_no_score_and_one_side_alone_scores_zero():
    one = [box(0, 0, 9, 9)]
    nothing = score([], [])
    assert np.isnan([nothing.precision()[0], nothing.recall()[0], nothing.f1()[0], nothing.mean_f1()[0]]).all()
    assert np.isnan(list(nothing.mean_quality(0).values())).all()
    for lonely in (score(one, []), score([], one)):
        assert [lonely.precision()[0], lonely.recall()[0], lonely.f1()[0], lonely.mean_f1()[0]] == [0, 0, 0, 0]
        assert np.isnan(lonely.f1(bin_=3)[0])  # no large object on either side
    assert nothing.to_dict()["classes"][0]["all"]["f1"] is None


def test_objects_lie_in_the_bins_of_their_size_and_place():
    truth = [box(0, 10, 4, 14), box(10, 10, 20, 20), box(100, 100, 140, 140), box(150, 150, 250, 250)]
    truth.append(box(20, 380, 24, 384))
    counts = score(truth, truth, shape=(400, 266), gsd_m=0.5).counts[0, :, 0, OBJECTS]
    wanted = {"all": 5, "small, below 32² px": 3, "medium, to 96² px": 1, "large, 96² px and more": 1}
    wanted |= {"below 50 m²": 3, "50 to 200 m²": 0, "200 to 800 m²": 1, "800 m² and more": 1}
    wanted |= {"at the edge": 1, "1 to 16 px from it": 1, "16 to 64 px from it": 2, "64 px and more from it": 1}
    assert dict(zip(BINS, counts.tolist(), strict=True)) == wanted
    assert score(truth, truth).counts[0, 4:8].sum() == 0  # without a place on the ground


def test_quality_is_that_of_the_matched_pairs():
    truth = [box(0, 0, 20, 20), box(50, 50, 70, 70)]
    quality = score(truth, [translate(truth[0], 1), box(90, 90, 95, 95)]).mean_quality(0)
    assert quality["c_iou"] == pytest.approx(19 / 21)
    assert quality["polis"] == pytest.approx(0.5)
    assert score(truth, [box(90, 90, 95, 95)]).quality.sum() == 0


def test_classes_are_matched_apart():
    legend = Legend.of(["house", "shed"])
    shape = box(0, 0, 9, 9)
    found = score_objects({1: [shape]}, {2: [shape], 7: [shape]}, legend, shape=(50, 50))
    assert found.recall().tolist() == [0, 0]
    assert [found.errors(channel)["missed"] for channel in (0, 1)] == [(1, 0), (0, 1)]
    with pytest.raises(SettingError, match="must share a legend"):
        found + score([], [])
    with pytest.raises(SettingError, match="Object counts must have the shapes"):
        ObjectScore(legend, found.counts[:1], found.quality)
