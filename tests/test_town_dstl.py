"""Synthetic DSTL sets: the competition's layout to the letter, products shifted by known amounts, spectra that fit."""

import hashlib
import json
import re

import cv2
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.errors import NotGeoreferencedWarning

from satmask.datasets.repair import polygonal
from satmask.datasets.town import dstl, write_dstl
from satmask.datasets.town.materials import MATERIALS, SPECTRA, material
from satmask.datasets.town.painting import Maps
from satmask.datasets.town.places import THEMES, plan_place, ten_classes
from satmask.datasets.town.sensors import Product, observe
from satmask.datasets.town.swir import SWIR_SPECTRA
from satmask.datasets.wkt import EMPTY, read_grid_sizes, read_table, read_wkt
from satmask.errors import DataError, SettingError
from satmask.masks import rasterise

SIZE = (280, 300)
LETTERS = ("RGB", "P", "M", "A")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_dstl(tmp_path_factory.mktemp("dstl"), images=6, size=SIZE, seed=2, invalid=0.1)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return write_dstl(tmp_path_factory.mktemp("many"), images=24, labelled=0, size=(48, 48), seed=1)


def path_of(folder, name, letter):
    if letter == "RGB":
        return folder / "three_band" / f"{name}.tif"
    return folder / "sixteen_band" / f"{name}_{letter}.tif"


def pixels(folder, name, letter):
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(path_of(folder, name, letter)) as file:
        return np.moveaxis(file.read(), 0, -1)


def drawn(folder, name, table="truth_wkt.csv"):
    """Masks of ten classes on the pixels of RGB."""
    shape = pixels(folder, name, "RGB").shape[:2]
    size, texts = read_grid_sizes(folder / "grid_sizes.csv")[name], read_table(folder / table)
    return {
        id_: rasterise(polygonal(size.to_pixels(read_wkt(texts[name, id_]), *shape)), *shape) != 0
        for id_ in range(1, 11)
    }


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_arguments_same_bytes(tmp_path):
    first, second, other = (
        digest(write_dstl(tmp_path / name, images=2, size=(70, 60), seed=seed).folder)
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert first == second
    assert all(first[path] != other[path] for path in first if path in other)


def test_layout_is_the_competitions(made):
    names = sorted(str(path.relative_to(made.folder)) for path in made.folder.rglob("*") if path.is_file())
    want = ["grid_sizes.csv", "sample_submission.csv", "shifts.json", "train_wkt_v4.csv", "truth_wkt.csv"]
    want += [
        str(path_of(made.folder, name, letter).relative_to(made.folder)) for name in made.images for letter in LETTERS
    ]
    assert names == sorted(want)


@pytest.mark.parametrize(("letter", "bands", "step", "top"), [
    ("RGB", 3, 1, 2047), ("P", 1, 1, 2047), ("M", 8, 4, 2047), ("A", 8, 24.97, 16383)])  # fmt: skip
def test_products_have_their_sizes_and_depth(made, letter, bands, step, top):
    for name in made.images:
        found = pixels(made.folder, name, letter)
        assert found.dtype == np.uint16
        assert found.shape[2] == bands
        assert max(abs(found.shape[axis] - SIZE[axis] / step) for axis in (0, 1)) <= 3 / step + 1
        assert 0 < found.min() < found.max() <= top


def test_rasters_have_no_place_and_say_they_are_synthetic(made):
    path = path_of(made.folder, made.images[0], "M")
    with pytest.warns(NotGeoreferencedWarning):
        file = rasterio.open(path)
    with file:
        assert (file.crs, file.transform, file.compression) == (None, rasterio.Affine.identity(), None)
        assert file.tags()["SATMASK_SYNTHETIC"] == "YES"
        assert file.profile["interleave"] == "band"


def test_sizes_of_products_do_not_always_agree(many):
    """The real ones differ by a pixel here and there, and readers have to live with it."""
    sizes = [[pixels(many.folder, name, letter).shape[:2] for letter in ("RGB", "P", "M")] for name in many.images]
    assert any(rgb != pan for rgb, pan, _ in sizes)
    assert any(rgb == pan for rgb, pan, _ in sizes)
    assert any((4 * m[0], 4 * m[1]) != rgb for rgb, _, m in sizes)
    assert len({tuple(rgb) for rgb, _, _ in sizes}) > 3


def test_tables(made):
    lines = (made.folder / "grid_sizes.csv").read_text().splitlines()
    assert lines[0] == ",Xmax,Ymin"
    sizes = read_grid_sizes(made.folder / "grid_sizes.csv")
    assert set(sizes) == set(made.images)
    assert all(abs(size.xmax / 300 / 2.7087e-6 - 1) < 0.01 for size in sizes.values())
    everything = [(name, id_) for name in sorted(made.images) for id_ in range(1, 11)]
    assert list(read_table(made.folder / "sample_submission.csv")) == everything
    assert list(read_table(made.folder / "truth_wkt.csv")) == everything
    train = read_table(made.folder / "train_wkt_v4.csv")
    assert list(train) == [(name, id_) for name in sorted(made.labelled) for id_ in range(1, 11)]
    assert EMPTY in train.values()


def test_facts_are_written_beside(made):
    facts = json.loads((made.folder / "shifts.json").read_text())
    assert {name: {key: tuple(value) for key, value in found.items()} for name, found in facts["shifts"].items()} == (
        made.shifts
    )
    assert facts["pairs"] == [list(pair) for pair in made.pairs] == [["6110_1_2", "6140_1_2"]]
    assert facts["labelled"] == list(made.labelled)
    assert len(made.labelled) == 5


def test_invalid_polygons_are_as_many_as_recorded(made):
    found = {}
    for (name, id_), text in read_table(made.folder / "train_wkt_v4.csv").items():
        if bad := int(np.sum(~shapely.is_valid(shapely.get_parts(read_wkt(text))))):
            found.setdefault(name, {})[id_] = bad
    assert found == made.invalid
    assert sum(sum(of.values()) for of in found.values()) >= 3


def test_truth_is_valid(made):
    for text in read_table(made.folder / "truth_wkt.csv").values():
        assert shapely.from_wkt(text).is_valid


def test_ten_classes_are_there_and_overlap(made):
    masks = [drawn(made.folder, name) for name in made.labelled]
    assert all(any(mask[id_].any() for mask in masks) for id_ in range(1, 11))
    for first, second in ((5, 3), (5, 4), (5, 6), (9, 3)):
        assert any((mask[first] & mask[second]).any() for mask in masks), (first, second)
    for first, second in ((7, 8), (1, 3), (9, 10), (3, 4)):
        assert not any((mask[first] & mask[second]).sum() > 3 for mask in masks), (first, second)


def test_spoiled_polygons_still_draw_nearly_the_same(made):
    for name in made.labelled:
        truth, train = drawn(made.folder, name), drawn(made.folder, name, "train_wkt_v4.csv")
        for id_ in range(1, 11):
            differ = np.count_nonzero(truth[id_] != train[id_])
            assert (differ > 0) <= (id_ in made.invalid.get(name, {})), (name, id_)


def test_text_draws_what_the_plan_says(tmp_path, monkeypatch):
    """Through grid coordinates, rounding and text, the polygons draw what the plan's own shapes draw."""
    plans = []

    def remember(plan, view):
        plans.append(ten_classes(plan, view))
        return plans[-1]

    monkeypatch.setattr(dstl, "ten_classes", remember)
    found = write_dstl(tmp_path, images=5, labelled=5, size=(200, 220), seed=7, invalid=0)
    for name, plan in zip(found.images, plans, strict=True):
        for id_, mask in drawn(tmp_path, name, "train_wkt_v4.csv").items():
            shapes = shapely.transform(plan[id_], lambda points: points / 0.31)
            differ = np.count_nonzero(mask != (rasterise(polygonal(shapes), *mask.shape) != 0))
            assert differ <= 2, (name, id_)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_shapes_of_a_place_are_valid_and_in_view(theme):
    view = shapely.box(20, 20, 113, 107)
    masks = ten_classes(plan_place(view, theme=theme, seed=4), view)
    assert list(masks) == list(range(1, 11))
    assert all(shapes.is_valid for shapes in masks.values())
    room = shapely.box(-1e-9, -1e-9, 93 + 1e-9, 87 + 1e-9)
    assert all(room.covers(shapes) for shapes in masks.values() if not shapes.is_empty)


def test_bridges_are_road_and_not_water():
    view = shapely.box(20, 20, 113, 107)
    plan = plan_place(view, theme=THEMES[2], seed=1)
    assert plan.roads.intersection(plan.water).intersection(view).area > 100
    masks = ten_classes(plan, view)
    assert masks[3].intersection(masks[7]).area < 0.01
    assert masks[7].area > 100


def test_labels_lie_on_what_they_name(made):
    """On RGB, trees are darker than what is around them, and tracks are brighter, wherever there are many of them."""
    for name in made.labelled:
        green = pixels(made.folder, name, "RGB")[..., 1].astype(float)
        masks = drawn(made.folder, name)
        solid = masks[1] | masks[2]
        assert green[masks[5] & ~solid].mean() < green[~masks[5] & ~masks[7] & ~masks[8]].mean(), name
        bare = masks[4] & ~masks[5] & ~masks[9] & ~masks[10]
        if bare.sum() > 200:
            assert np.median(green[bare]) > np.median(green[masks[5]]), name


def test_twins_show_the_same_ground_on_different_days(made):
    first, second = (drawn(made.folder, name) for name in ("6110_1_2", "6140_1_2"))
    height, width = (min(first[1].shape[axis], second[1].shape[axis]) for axis in (0, 1))
    for id_ in (1, 3, 4, 5, 6, 7, 8):
        assert np.count_nonzero(first[id_][:height, :width] != second[id_][:height, :width]) <= 30, id_
    assert any((first[id_][:height, :width] != second[id_][:height, :width]).any() for id_ in (9, 10))
    values = [pixels(made.folder, name, "P")[: height - 2, : width - 2] for name in ("6110_1_2", "6140_1_2")]
    assert not np.array_equal(*values)


def best_shift(reference, image, *, reach, step):
    """Shift of an image against a reference of the same size, by brute force over normalised correlation."""
    inner = slice(reach + 1, -reach - 1)
    wanted = reference[inner, inner] - reference[inner, inner].mean()
    best = (-1.0, 0.0, 0.0)
    for dy in np.arange(-reach, reach + step, step):
        for dx in np.arange(-reach, reach + step, step):
            matrix = np.array([[1, 0, dx], [0, 1, dy]])
            moved = cv2.warpAffine(image, matrix, image.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            seen = moved[inner, inner] - moved[inner, inner].mean()
            best = max(best, (float((wanted * seen).sum() / np.sqrt((wanted**2).sum() * (seen**2).sum())), dx, dy))
    return best


@pytest.mark.parametrize("letter", ["M", "P"])
def test_products_correlate_best_at_their_recorded_shifts(made, letter):
    """An oracle that knows nothing of how the shift was made: search all shifts, on the pixels of RGB."""
    for name in made.images[:3]:
        rgb, product = pixels(made.folder, name, "RGB"), pixels(made.folder, name, letter)
        height, width = rgb.shape[:2]
        grey = rgb.astype(np.float32).mean(axis=2)
        band = product[..., [1, 2, 4] if letter == "M" else [0]].astype(np.float32).mean(axis=2)
        if letter == "M":
            small = cv2.resize(grey, band.shape[::-1], interpolation=cv2.INTER_AREA)
            grey = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        there = cv2.resize(band, (width, height), interpolation=cv2.INTER_LINEAR)
        likeness, dx, dy = best_shift(grey, there, reach=8 if letter == "M" else 2, step=0.5)
        assert likeness > 0.8
        assert (dx, dy) == pytest.approx(made.shifts[name][letter], abs=0.5), name


def test_shifts_are_like_the_real_ones(many, tmp_path):
    """Medians of 2.3 pixels for M and 19.7 for A, from 900 fits; and none where none is asked for."""
    lengths = {letter: [np.hypot(*shift[letter]) for shift in many.shifts.values()] for letter in ("P", "M", "A")}
    assert 1.3 < np.median(lengths["M"]) < 3.6
    assert 13 < np.median(lengths["A"]) < 28
    assert max(lengths["P"]) <= 1.001
    none = write_dstl(tmp_path / "none", images=1, size=(48, 48), shift=0).shifts["6110_1_2"]
    assert all(shift == (0, 0) for shift in none.values())


def test_a_point_of_light_moves_by_the_shift():
    """One bright spot, seen by a product of the same size and by one of a quarter, lies where the shift says."""
    margin, side = 8, 64
    maps = Maps(0.3, np.full((80, 80), material("water"), np.uint8), np.ones((80, 80), np.float32),
                np.zeros((80, 80), np.uint16), np.zeros((80, 80), bool))  # fmt: skip
    maps.material[margin + 30, margin + 20] = material("membrane")
    maps.shade[margin + 30, margin + 20] = 50
    products = {"RGB": Product(side, side), "P": Product(side, side, (2.25, -1.5)), "M": Product(16, 16, (-3.0, 5.0)),
                "A": Product(4, 4)}  # fmt: skip
    taken = observe(maps, products, margin=margin, seed=1)
    for letter, factor in (("RGB", 1), ("P", 1), ("M", 4)):
        light = taken[letter][..., -1].astype(float)
        light = np.where(light > np.median(light) + 40, light, 0)
        rows, columns = np.indices(light.shape)
        x = ((columns + 0.5) * light).sum() / light.sum() * factor
        y = ((rows + 0.5) * light).sum() / light.sum() * factor
        dx, dy = products[letter].shift
        # Where a quarter of the light is clipped or a pixel holds it all, the middle is known to half that pixel.
        assert (x, y) == pytest.approx((20.5 + dx, 30.5 + dy), abs=0.15 if factor == 1 else 2), letter


def test_spectra_tell_materials_apart(made):
    """NDVI of trees over that of tracks; water darkest in SWIR; leaves darker at 2.2 µm than at 1.2 µm."""
    checked = 0
    for name in made.labelled:
        masks = drawn(made.folder, name)
        m = pixels(made.folder, name, "M").astype(float)
        ndvi = (m[..., 6] - m[..., 4]) / (m[..., 6] + m[..., 4])
        share = {id_: cv2.resize(mask.astype(np.float32), m.shape[1::-1], interpolation=cv2.INTER_AREA)
                 for id_, mask in masks.items()}  # fmt: skip
        trees, tracks, water = (share[5] > 0.8) & (share[1] == 0), share[4] > 0.8, (share[7] > 0.9) & (share[5] == 0)
        if trees.sum() > 20 and tracks.sum() > 20:
            assert np.median(ndvi[trees]) > np.median(ndvi[tracks]) + 0.15
            checked += 1
        if water.sum() > 50:
            assert np.median(ndvi[water]) < 0 < np.median(ndvi[trees])
            a = cv2.resize(pixels(made.folder, name, "A")[..., 1].astype(np.float32), masks[7].shape[::-1])
            back = np.array([[1, 0, made.shifts[name]["A"][0]], [0, 1, made.shifts[name]["A"][1]]])
            a = cv2.warpAffine(a, back, a.shape[::-1], flags=cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT)
            inner = cv2.erode(masks[7].astype(np.uint8), np.ones((25, 25))) > 0
            assert np.median(a[inner]) < 0.4 * np.median(a[~masks[7] & ~masks[8]])
            checked += 1
    assert checked >= 3


def test_materials_in_the_infrared():
    """What spectral libraries say of every such surface, band by band."""
    named = dict(zip(MATERIALS, SWIR_SPECTRA, strict=True))
    assert ((SWIR_SPECTRA > 0) & (SWIR_SPECTRA < 0.6)).all()
    for water in ("water", "shallow water", "pool"):
        others = [spectrum for name, spectrum in named.items() if name not in {"water", "shallow water", "pool"}]
        assert (named[water] < np.min(others, axis=0)).all()
    for leaf in ("broadleaf", "conifer", "olive", "grass", "crop"):
        assert (named[leaf][4:] < 0.5 * named[leaf][0]).all()
        assert (named[leaf] < named["soil"] + 0.05).all()
    for clay in ("soil", "red tile", "brick"):
        assert named[clay][5] < min(named[clay][4], named[clay][6]), "clay absorbs at 2.2 µm"
    # From the last band of the visible product to the first of the short waves nothing jumps by more than half.
    ratio = SWIR_SPECTRA[:, 0] / SPECTRA[:, 7]
    dry = [i for i, name in enumerate(MATERIALS) if "water" not in name and name not in {"pool", "black paint"}]
    assert (ratio[dry] > 0.6).all()
    assert (ratio[dry] < 2.3).all()


def test_real_swir_products_lie_where_ours_do(data, made):
    """Medians of each band of the real products of green places enclose ours."""
    real = [pixels(data / "dstl", name, "A") for name in ("6010_4_4", "6090_2_0", "6100_1_3", "6160_2_1", "6170_0_4")]
    low, high = (of([np.median(image, axis=(0, 1)) for image in real], axis=0) for of in (np.min, np.max))
    ours = np.mean([np.median(pixels(made.folder, name, "A"), axis=(0, 1)) for name in made.images], axis=0)
    assert (low * 0.8 < ours).all()
    assert (ours < high * 1.2).all()


def test_fields_of_text_outgrow_the_csv_module(tmp_path):
    write_dstl(tmp_path, images=1, size=(1400, 1400), seed=3)
    assert max(map(len, read_table(tmp_path / "train_wkt_v4.csv").values())) > 131_072


@pytest.mark.parametrize(
    "wrong",
    [{"images": 0}, {"images": 451}, {"images": 2, "labelled": 3}, {"size": (40, 300)}, {"shift": -1}, {"invalid": 2}],
)
def test_wrong_settings_are_refused(tmp_path, wrong):
    with pytest.raises(SettingError, match="must"):
        write_dstl(tmp_path / "new", **{"images": 1, "size": (64, 64), **wrong})
    assert not (tmp_path / "new").exists()


def test_a_set_is_not_written_over_another(made):
    with pytest.raises(DataError, match="empty"):
        write_dstl(made.folder, images=1, size=(64, 64))


def test_ids_are_unique_and_of_the_right_form(many):
    assert len(set(many.images)) == 24
    assert all(re.fullmatch("6[01][0-9]0_[0-4]_[0-4]", name) for name in many.images)
    assert [pair[0] for pair in many.pairs] == ["6110_1_2", "6110_3_1"]
    assert read_table(many.folder / "train_wkt_v4.csv") == {}
