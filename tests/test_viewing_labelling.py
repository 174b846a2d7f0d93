"""The queue of windows where labels would help: uncertain ones that look like none yet, on the map where they are."""

import numpy as np
import pytest

from satmask.errors import SettingError
from satmask.novelty import choose_windows, describe_windows
from satmask.scene import Scene
from satmask.viewing.corrections import Corrections
from satmask.viewing.counting import CELL
from satmask.viewing.judging import Judge
from satmask.viewing.shelf import open_shelf
from satmask.windows import Window
from viewed import UTM, write_raster
from viewer import BUILDING, write


def make_place(folder, columns=5, rows=3, image=True):
    """A place whose windows look each as they like, and are each as uncertain."""
    random = np.random.default_rng(3)
    height, width = rows * CELL - 56, columns * CELL - 200  # the last row is lower, the last column a sliver
    level, noise = random.integers(20, 200, (rows, columns)), random.integers(1, 40, (rows, columns))
    doubt = random.uniform(0.02, 0.5, (rows, columns))
    spread = np.kron(np.stack([level, noise, doubt]), np.ones((1, CELL, CELL)))[:, :height, :width]
    pixels = np.clip(spread[0] + random.normal(0, 1, (height, width)) * spread[1], 0, 255).astype(np.uint8)
    path = write_raster(folder / "town.tif", np.stack([pixels, pixels // 2], axis=-1), transform=UTM)
    with Scene(path) as scene:
        write(
            folder / "town.probabilities.tif",
            spread[2].astype(np.float32),
            scene.grid,
            BUILDING,
            "building probability",
        )
    if not image:
        path.unlink()
    (place,) = open_shelf(folder).places
    return place


def cell_of(place, finding):
    column, row = place.view.to_pixels(np.array([finding.point]))[0]
    return int(row // CELL), int(column // CELL)


def test_the_queue_is_that_of_the_library_over_whole_images(tmp_path):
    place = make_place(tmp_path)
    judge = Judge(place)
    found = judge.to_label([], count=6)
    with Scene(tmp_path / "town.tif") as scene:
        pixels = scene.read(Window(0, 0, *scene.shape))
    looks, count = describe_windows(pixels.values, pixels.valid, CELL)
    whole = count >= CELL**2 / 4  # slivers are left out
    at = np.argwhere(whole)
    wanted = choose_windows(looks[whole], judge.counts().uncertainty[whole], np.zeros(len(at), bool), count=6)
    assert [cell_of(place, one) for one in found] == [tuple(at[number]) for number, _ in wanted]
    np.testing.assert_allclose([one.novelty for one in found], [novelty for _, novelty in wanted])
    assert {one.kind for one in found} == {"label"}


def test_labelled_windows_and_their_like_are_asked_for_no_more(tmp_path):
    place = make_place(tmp_path)
    judge, corrections = Judge(place), Corrections(place)
    first = judge.to_label(corrections.labels.values())[0]
    (south, west), (north, east) = first.box
    x, y, w, h = (west + east) / 2, (south + north) / 2, (east - west) / 9, (north - south) / 9
    corrections.ignore({"type": "Polygon", "coordinates": [[(x, y), (x + w, y), (x + w, y + h), (x, y)]]})
    after = judge.to_label(corrections.labels.values())
    assert after
    assert cell_of(place, first) not in {cell_of(place, one) for one in after}


@pytest.mark.parametrize("status", ["proposed", "drawn"])
def test_only_what_somebody_looked_at_is_a_label(tmp_path, status):
    import shapely

    from satmask.viewing.corrections import Label
    from satmask.viewing.labelling import labelled_windows

    place = make_place(tmp_path)
    shape = shapely.box(*(place.grid.transform @ (300, 10)), *(place.grid.transform @ (600, 200)))
    found = labelled_windows(place.grid, [Label(shape, 1, status)])
    wanted = np.zeros((3, 5), bool)
    wanted[0, 1:3] = status == "drawn"
    np.testing.assert_array_equal(found, wanted)


def test_without_an_image_it_says_so(tmp_path):
    with pytest.raises(SettingError, match="must have its image"):
        Judge(make_place(tmp_path, image=False)).to_label([])
