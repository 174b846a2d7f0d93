"""DSTL's layout: what the generator drew is what the reader sees, and the real tables read as their masks say."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import shapely

from satmask.datasets import read_dataset
from satmask.datasets.dstl import LEGEND, list_stacks, place_of_image, read_dstl
from satmask.datasets.registrations import read_registrations, register_all, register_stack, write_registrations
from satmask.datasets.town.dstl import write_dstl
from satmask.datasets.wkt import read_grid_sizes, read_table, read_wkt
from satmask.errors import DataError, SettingError
from satmask.labels import MaskLabels, choose_classes
from satmask.masks import rasterise
from satmask.scene import Scene
from satmask.stack import open_imagery
from satmask.windows import Window

# rasterio 1.4 multiplies transforms the way that affine 3.1 is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


@pytest.fixture(scope="module")
def town_set(tmp_path_factory):
    return write_dstl(tmp_path_factory.mktemp("dstl") / "set", images=8, size=(150, 170), seed=4, invalid=0.1)


@pytest.fixture(scope="module")
def town(town_set):
    return read_dataset(town_set.folder)


def test_the_layout_is_recognised(town_set, town):
    assert town.layout == "dstl"
    assert [sample.name for sample in town.splits["train"]] == sorted(town_set.labelled)
    assert town.legend == LEGEND
    assert not town.legend.exclusive


def test_every_image_is_a_stack_of_twenty_bands(town_set):
    stacks = list_stacks(town_set.folder)
    assert sorted(stacks) == sorted(town_set.images)
    for name, stack in stacks.items():
        assert len(stack.bands) == 20
        with open_imagery(stack) as scene, Scene(town_set.folder / "three_band" / f"{name}.tif") as rgb:
            assert scene.shape == rgb.shape


def test_labels_are_the_true_polygons_in_pixels_of_rgb(town_set, town):
    """The oracle is the generator's valid truth, transformed by the formula of the competition written out."""
    truth, sizes = read_table(town_set.folder / "truth_wkt.csv"), read_grid_sizes(town_set.folder / "grid_sizes.csv")
    for sample in town.splits["train"]:
        height, width = sample.shape
        classes = sample.labels.read(Window(0, 0, height, width)).classes
        size = sizes[sample.name]
        for channel, id_ in enumerate(LEGEND.ids):
            shapes = shapely.transform(
                read_wkt(truth[sample.name, id_]),
                lambda p, h=height, w=width, s=size: p * (w * w / (w + 1) / s.xmax, h * h / (h + 1) / s.ymin),
            )
            wanted = rasterise([shapes], height, width) > 0 if not shapes.is_empty else np.zeros((height, width), bool)
            # Repair may keep a sliver that spoiling added.
            assert np.count_nonzero(classes[..., channel] != wanted) <= 0.002 * wanted.size


def test_repairs_are_reported_and_refuse_nothing(town_set, town):
    repaired = [problem for problem in town.problems if problem.kind == "geometry"]
    assert {problem.where.partition(": ")[2] for problem in repaired} <= set(town_set.invalid)
    assert sum(len(classes) for classes in town_set.invalid.values()) == len(repaired) > 0
    assert all(problem.severity == "warning" for problem in town.problems)
    town.require_sound()


def test_one_place_on_two_dates_stays_on_one_side(town):
    assert place_of_image("6140_1_2") == place_of_image("6110_1_2") == place_of_image("6110_4_0")
    names = {sample.name for sample in town.splits["train"]}
    assert {"6110_1_2", "6140_1_2"} <= names
    for share in (0.1, 0.3, 0.5, 0.6):
        split, _ = town.with_validation(share)
        sides = [{sample.name for sample in split.splits[side]} for side in ("train", "val")]
        assert any({"6110_1_2", "6140_1_2"} <= side for side in sides)


def test_real_tables_say_what_the_masks_say_that_they_were_made_from(data):
    real = read_dataset(data / "dstl")
    assert len(real.splits["train"]) == 20
    assert {product.name for sample in real.splits["train"] for product in sample.image.products} == {"A"}
    for sample in real.splits["train"][::6]:
        truth = sample.labels.read(Window(0, 0, *sample.shape)).classes
        for page, id_ in enumerate((1, 3, 5, 6, 7), start=1):
            with rasterio.open(f"GTIFF_DIR:{page}:{data}/dstl/masks_5class/{sample.name}_gt5.tif") as file:
                fine = file.read(1) > 0
            # On the coarse grid a pixel has the class of its centre: sample the mask there.
            rows, columns = (
                np.minimum(((np.arange(side) + 0.5) / side * whole).astype(int), whole - 1)
                for side, whole in zip(sample.shape, fine.shape, strict=True)
            )
            wanted = fine[np.ix_(rows, columns)]
            # The formula stretches by a pixel in 134, so that thin classes move by up to one.
            assert truth[..., LEGEND.channel(id_)].sum() == pytest.approx(wanted.sum(), rel=0.1, abs=12)
            assert np.mean((truth[..., LEGEND.channel(id_)] > 0) != wanted) < 0.1


def test_no_registration_is_told_in_one_line_and_shifts_are_zero(town):
    told = [problem for problem in town.problems if problem.kind == "registration"]
    assert len(told) == 1
    assert "satmask register" in told[0].what
    assert {product.shift for sample in town.splits["train"] for product in sample.image.products} == {(0.0, 0.0)}


def test_shifts_are_found_kept_and_used(tmp_path):
    made = write_dstl(tmp_path / "set", images=1, size=(400, 420), seed=2)
    stacks = list_stacks(made.folder)
    (name, stack), *_ = stacks.items()
    found = register_stack(stack)
    true = made.shifts[name]["M"]
    assert found.products["M"].accepted
    assert found.products["M"].shift == pytest.approx(true, abs=0.3)
    (_, kept), *_ = register_all(stacks, made.folder / "registration.json")
    again = list_stacks(made.folder)[name]
    assert again == kept.apply(stack) == found.apply(stack)
    assert again.products[2].shift == found.products["M"].shift
    assert again.products[3].shift == (0, 0), "too small for A: declined"


def test_what_was_registered_is_not_done_again(town_set, tmp_path, monkeypatch):
    path = tmp_path / "registration.json"
    stacks = dict(list(list_stacks(town_set.folder, registration=False).items())[:2])
    first = dict(register_all(stacks, path))
    monkeypatch.setattr("satmask.datasets.registrations.register_stack", None)
    assert dict(register_all(stacks, path)) == first == read_registrations(path)


def test_a_registration_on_another_reference_is_left_aside(town_set, tmp_path):
    stacks = list_stacks(town_set.folder, registration=False)
    name = min(stacks)
    found = register_stack(stacks[name])
    path = write_registrations(tmp_path / "r.json", {name: replace(found, shape=(7, 7))})
    problems = []
    assert list_stacks(town_set.folder, registration=path, problems=problems) == stacks
    assert any("another reference" in problem.what for problem in problems if problem.where == name)


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 9, "images": {}}', '{"schema_version": 1, "images": {"a": {}}}', "[" * 99_999])  # fmt: skip
def test_damaged_registrations_are_refused(tmp_path, text):
    path = tmp_path / "registration.json"
    path.write_text(text)
    with pytest.raises(DataError, match="Registration must"):
        read_registrations(path)


def test_what_is_missing_is_told_and_the_rest_goes_on(town_set, tmp_path):
    folder = shutil.copytree(town_set.folder, tmp_path / "set")
    first, second, *_ = sorted(town_set.labelled)
    for path in folder.glob(f"*/{first}*.tif"):
        path.unlink()
    lines = (folder / "grid_sizes.csv").read_text().splitlines()
    (folder / "grid_sizes.csv").write_text("\n".join(line for line in lines if not line.startswith(second)))
    samples, _, problems = read_dstl(folder)
    assert {sample.name for sample in samples} == set(town_set.labelled) - {first, second}
    errors = {problem.where: problem.what for problem in problems if problem.severity == "error"}
    assert "must have a file" in errors[first]
    assert "must have a row in grid_sizes.csv" in errors[second]


def test_without_rgb_the_finest_product_is_the_reference(town_set, tmp_path):
    folder = shutil.copytree(town_set.folder, tmp_path / "set", ignore=shutil.ignore_patterns("three_band", "*_P.tif"))
    sample = read_dataset(folder).splits["train"][0]
    with Scene(folder / "sixteen_band" / f"{sample.name}_M.tif") as m:
        assert sample.shape == m.shape
    full = {one.name: one for one in read_dataset(town_set.folder).splits["train"]}[sample.name]
    coarse, fine = (one.labels.read(Window(0, 0, *one.shape)).classes.mean(axis=(0, 1)) for one in (sample, full))
    np.testing.assert_allclose(coarse, fine, atol=0.03)


def test_some_classes_are_the_same_classes(town):
    water = town.with_classes([7, "Trees"])
    assert water.legend.names == ("Trees", "Waterway")
    for some, every in zip(water.splits["train"], town.splits["train"], strict=True):
        window = Window(-5, 9, 90, 80)
        one, all_ = some.labels.read(window), every.labels.read(window)
        np.testing.assert_array_equal(one.classes, all_.classes[..., [4, 6]])
        np.testing.assert_array_equal(one.labelled, all_.labelled)


def test_some_classes_of_masks_are_the_same_classes(tmp_path):
    values = np.random.default_rng(1).choice([0, 1, 5, 10, 77], (20, 30)).astype(np.uint8)
    with rasterio.open(tmp_path / "m.tif", "w", driver="GTiff", height=20, width=30, count=1, dtype="uint8") as file:
        file.write(values, 1)
    labels = MaskLabels(LEGEND, tmp_path / "m.tif")
    some = choose_classes(labels, LEGEND.subset([10, 5]))
    truth = some.read(Window(0, 0, 20, 30))
    np.testing.assert_array_equal(truth.classes, np.stack([values == 5, values == 10], axis=-1))
    np.testing.assert_array_equal(truth.labelled, values != 77)


def test_classes_that_aren_t_there_are_refused(town):
    with pytest.raises(SettingError, match=r"10 \(Vehicle small\), got 11"):
        town.with_classes([11])


def test_every_colour_can_be_told_apart():
    colours = np.array([entry.rgb for entry in LEGEND], float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert distances[~np.eye(10, dtype=bool)].min() > 60
