"""Laws of novelty: what looks alike is asked for once, in whatever order windows come; numbers are those of brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satmask.novelty import choose_windows, describe_windows

RANDOM = np.random.default_rng(0)


def brute_description(values, valid):
    """The formulas in the docstring, word by word, of one window."""
    found = []
    for band in np.moveaxis(values.astype(float), -1, 0):
        inside = band[valid]
        pairs = [(at, (at[0] + down, at[1] + 1 - down)) for at in np.ndindex(band.shape) for down in (0, 1)]
        inner = [(at, other) for at, other in pairs if other[0] < band.shape[0] and other[1] < band.shape[1]]
        steps = [band[other] - band[at] for at, other in inner if valid[at] and valid[other]]
        mean = inside.sum() / len(inside)
        spread = np.sqrt(((inside - mean) ** 2).sum() / len(inside))
        found.append((mean, spread, np.sqrt(np.square(steps).sum() / max(len(steps), 1))))
    return np.array(found).T.ravel()


@pytest.mark.parametrize(("height", "width", "share"), [(8, 8, 1), (11, 14, 0.7), (3, 9, 0.5), (1, 1, 1)])
def test_windows_are_described_as_the_formulas_say(height, width, share):
    values = RANDOM.integers(0, 4000, (height, width, 3)).astype(np.uint16)
    valid = RANDOM.random((height, width)) < share
    valid[::4, ::4] = True
    found, count = describe_windows(values, valid, 4)
    for row, column in itertools.product(range(0, height, 4), range(0, width, 4)):
        here = slice(row, row + 4), slice(column, column + 4)
        np.testing.assert_allclose(
            found[row // 4, column // 4], brute_description(values[here], valid[here]), rtol=1e-9
        )
        assert count[row // 4, column // 4] == valid[here].sum()


def test_strips_say_the_same_as_the_whole():
    values, valid = RANDOM.random((22, 17, 2)), RANDOM.random((22, 17)) < 0.8
    whole, count = describe_windows(values, valid, 5)
    parts = [describe_windows(values[row : row + 5], valid[row : row + 5], 5) for row in range(0, 22, 5)]
    np.testing.assert_array_equal(whole, np.concatenate([part[0] for part in parts]))
    np.testing.assert_array_equal(count, np.concatenate([part[1] for part in parts]))


def test_what_nobody_knows_is_not_described():
    found, count = describe_windows(np.ones((4, 8, 1)), np.repeat([[True, False]], 4, axis=1).repeat(4, axis=0), 4)
    assert count.tolist() == [[16, 0]]
    assert np.isnan(found[0, 1]).all()


def brute_choice(look, doubt, labelled, count):
    """Greedy farthest-first by comparing everything with everything, each time."""
    deviation = look.std(axis=0)
    z = (look - look.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    known, chosen = list(np.flatnonzero(labelled)), []
    while len(chosen) < count:
        worth = {}
        for number in set(range(len(look))) - set(known):
            far = min((np.sqrt(((z[number] - z[other]) ** 2).mean()) for other in known), default=1.0)
            worth[number] = doubt[number] * far
        if not worth or max(worth.values()) <= 0:
            break
        known.append(max(worth, key=worth.get))
        chosen.append((known[-1], worth[known[-1]]))
    return chosen


@pytest.mark.parametrize("labelled", [0, 3])
@pytest.mark.parametrize("seed", range(5))
def test_windows_are_chosen_as_by_comparing_all_with_all(seed, labelled):
    random = np.random.default_rng(seed)
    look, doubt, known = random.random((40, 6)), random.random(40), np.arange(40) < labelled
    found = choose_windows(look, doubt, known, count=12)
    wanted = brute_choice(look, doubt, known, 12)
    assert [number for number, _ in found] == [number for number, _ in wanted]
    np.testing.assert_allclose([doubt[number] * novelty for number, novelty in found], [worth for _, worth in wanted])


numbers = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])


@settings(max_examples=200)
@given(st.lists(st.tuples(numbers, numbers, numbers, st.booleans()), min_size=1, max_size=12), st.randoms(use_true_random=False))  # fmt: skip
def test_the_order_of_windows_changes_nothing(rows, shuffler):
    def chosen(rows):
        look = np.array([row[:2] for row in rows])
        doubt, known = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
        return [(rows[number], novelty) for number, novelty in choose_windows(look, doubt, known, count=12)]

    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert chosen(rows) == chosen(shuffled)


@settings(max_examples=200)
@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12), st.data())
def test_what_looks_exactly_like_one_that_is_labelled_or_chosen_is_never_chosen(looks, data):
    labelled = np.array(data.draw(st.lists(st.booleans(), min_size=len(looks), max_size=len(looks))))
    found = choose_windows(np.array(looks), np.ones(len(looks)), labelled, count=len(looks))
    seen = [looks[number] for number in np.flatnonzero(labelled)]
    for number, novelty in found:
        assert looks[number] not in seen
        assert novelty > 0
        seen.append(looks[number])
    assert {*seen} == {*looks}, "everything else is"


def test_what_is_certain_is_never_chosen():
    assert choose_windows(RANDOM.random((5, 2)), np.zeros(5), np.zeros(5, bool), count=5) == []
