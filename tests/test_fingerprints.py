"""Fingerprints: a picture is found again in all eight symmetries and after what files do to it; no other picture is."""

import cv2
import numpy as np
import pytest

from satmask.datasets import read_dataset
from satmask.fingerprints import LIKENESS, SYMMETRIES, Twin, digest, find_twins, fingerprint, mark_copies
from satmask.scene import Scene
from satmask.windows import Window


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)


@pytest.fixture(scope="module")
def tiles(data):
    """Real tiles of four data sets, every twelfth; three bands of each."""
    samples = [
        sample
        for name in ("buildings", "mumbai", "naip")
        for split in read_dataset(data / name).splits.values()
        for sample in split[::12]
    ]
    images = []
    for sample in samples:
        with Scene(sample.image, bands=(1, 2, 3)) as scene:
            images.append(scene.read(Window(0, 0, *scene.shape)).values)
    return images


def towns(count, shape=(90, 120, 3), dtype=np.uint8, seed=0):
    """Pictures of blurred noise, as unlike one another as can be."""
    random = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(random.random(shape), (0, 0), 4).reshape(shape) for _ in range(count)]
    top = 4000 if np.dtype(dtype).kind != "f" and np.dtype(dtype).itemsize > 1 else 255
    return [((entry - entry.min()) / np.ptp(entry) * top).astype(dtype) for entry in noise]


CHANGES = {
    "nothing": lambda image: image,
    "JPEG 90": lambda image: jpeg(image, 90),
    "JPEG 75": lambda image: jpeg(image, 75),
    "JPEG 60": lambda image: jpeg(image, 60),
    "half size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "darker": lambda image: (image * 0.85).astype(np.uint8),
    "gamma": lambda image: (255 * (image / 255.0) ** 0.8).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_turned_and_changed_tiles_are_found_and_no_other_pair(tiles, change):
    random = np.random.default_rng(7)
    ways = [list(SYMMETRIES)[way] for way in random.integers(0, 8, len(tiles))]
    again = [CHANGES[change](SYMMETRIES[way](tile)) for way, tile in zip(ways, tiles, strict=True)]
    found = find_twins([fingerprint(image) for image in (*tiles, *again)])
    assert [(twin.first, twin.second, twin.symmetry) for twin in found] == [
        (index, index + len(tiles), way) for index, way in enumerate(ways)
    ]


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((90, 120, 3), np.uint8), ((61, 40), np.uint8), ((64, 64, 8), np.uint16), ((99, 50, 1), np.float32)],
)
def test_any_kind_of_picture_is_found_and_its_symmetry_named(symmetry, shape, dtype):
    images = towns(6, shape, dtype)
    turned = np.ascontiguousarray(SYMMETRIES[symmetry](images[2]))
    found = find_twins([fingerprint(image) for image in (*images, turned)])
    assert [(twin.first, twin.second, twin.symmetry) for twin in found] == [(2, 6, symmetry)]
    assert digest(turned) == digest(images[2]) != digest(images[1])


def test_digests_tell_apart_what_differs_in_one_pixel_or_in_what_is_valid():
    (image,) = towns(1)
    other, valid = image.copy(), np.ones(image.shape[:2], bool)
    other[3, 5, 1] ^= 1
    valid[0, 0] = False
    names = {digest(image), digest(other), digest(image, valid), digest(image.astype(np.uint16)), digest(image[:-1])}
    assert len(names) == 5
    assert digest(np.rot90(image), np.rot90(valid)) == digest(image, valid)


@pytest.mark.parametrize("fill", [0, 255])
def test_the_black_border_of_a_mosaic_makes_no_twins(tiles, fill):
    """Half of each tile is the same slanting area of one value, with or without a nodata tag."""
    images = [cv2.resize(tile, (256, 256)) for tile in tiles[:120]]
    rows, columns = np.mgrid[:256, :256]
    outside = rows + 0.6 * columns < 200
    cut = [np.where(outside[..., None], fill, image).astype(np.uint8) for image in images]
    turned = [jpeg(np.rot90(image), 75) for image in cut]
    pairs = [(index, index + len(cut)) for index in range(len(cut))]
    assert [
        (twin.first, twin.second) for twin in find_twins([fingerprint(image) for image in (*cut, *turned)])
    ] == pairs
    assert find_twins([fingerprint(image, ~outside) for image in cut]) == []


def test_a_runway_does_not_make_neighbours_twins(data, monkeypatch):
    """Three tiles along one, with the same lines in the same rows, each compared cell by cell with each."""
    monkeypatch.setattr("satmask.fingerprints.REACH", 2)
    folder = data / "mumbai" / "train" / "images"
    images = [cv2.imread(str(folder / f"tile_3.28_{number}.jpg")) for number in (6, 7, 8)]
    assert find_twins([fingerprint(image) for image in images]) == []
    assert len(find_twins([fingerprint(image) for image in (*images, np.rot90(images[1]))])) == 1


def test_flat_pictures_are_twins_only_where_all_pixels_are_the_same():
    random = np.random.default_rng(5)
    sea = [(60 + random.integers(0, 2, (64, 64, 3))).astype(np.uint8) for _ in range(3)]
    images = [
        np.zeros((64, 64, 3), np.uint8),
        sea[0],
        np.zeros((64, 64, 3), np.uint8),
        sea[1],
        np.fliplr(sea[0]),
        sea[2],
    ]
    prints = [fingerprint(image) for image in images]
    assert [entry.known for entry in prints] == [0] * 6
    assert find_twins(prints) == []
    found = mark_copies([], {index: digest(image) for index, image in enumerate(images)})
    assert [(twin.first, twin.second, twin.exact) for twin in found] == [(0, 2, True), (1, 4, True)]


def test_copies_are_told_from_what_only_looks_the_same():
    near, copy = Twin(0, 1, "as it is", 0.98), Twin(2, 3, "turned 180°", 1.0)
    found = mark_copies([near, copy], {0: b"a", 1: b"b", 2: b"c", 3: b"c"})
    assert [twin.exact for twin in found] == [False, True]
    assert not any(twin.exact for twin in mark_copies([near, copy], {}))


def test_other_forms_are_no_twins():
    (image,) = towns(1, (120, 120))
    wide = cv2.resize(image, (120, 90), interpolation=cv2.INTER_AREA)
    assert find_twins([fingerprint(image), fingerprint(wide)]) == []
    assert find_twins([fingerprint(image), fingerprint(cv2.resize(image, (61, 60)))])


@pytest.mark.parametrize(
    "values", [np.full((40, 40), np.nan), np.zeros((1, 1, 2)), np.full((8, 9), 1e300), np.full((8, 8), -1e-300)]
)
def test_pictures_of_nothing_have_no_fingerprint(values):
    assert fingerprint(values).known == 0


def test_many_pictures_are_searched_in_blocks(monkeypatch):
    images = towns(30, (40, 40))
    prints = [fingerprint(image) for image in (*images, *(np.flipud(image) for image in images))]
    whole = find_twins(prints)
    for name, size in (("BLOCK", 7), ("STRIPE", 11), ("CLOSE", 3)):
        monkeypatch.setattr(f"satmask.fingerprints.{name}", size)
    assert find_twins(prints) == whole
    assert [(twin.first, twin.second) for twin in whole] == [(index, index + 30) for index in range(30)]
    assert all(twin.likeness > LIKENESS for twin in whole)
