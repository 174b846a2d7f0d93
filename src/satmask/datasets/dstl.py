"""The DSTL Satellite Imagery Feature Detection layout: four products an image, polygons as text in a table.

References:
    https://www.kaggle.com/competitions/dstl-satellite-imagery-feature-detection/data
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import shapely

from satmask.datasets.dataset import Problem, Sample
from satmask.datasets.registrations import FILE, read_registrations
from satmask.datasets.repair import repair
from satmask.datasets.wkt import EMPTY, GridSize, read_grid_sizes, read_table, read_wkt
from satmask.errors import DataError, SatmaskError
from satmask.labels import PolygonLabels
from satmask.legend import Legend
from satmask.scene import Scene
from satmask.stack import Product, Stack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shapely.geometry.base import BaseGeometry

    from satmask.datasets.registrations import Registered

T = TypeVar("T")

SIZES, POLYGONS = "grid_sizes.csv", "train_wkt_v4.csv"
LEGEND = Legend.of(
    {
        1: "Buildings",
        2: "Misc. manmade structures",
        3: "Road",
        4: "Track",
        5: "Trees",
        6: "Crops",
        7: "Waterway",
        8: "Standing water",
        9: "Vehicle large",
        10: "Vehicle small",
    },
    colours={
        1: "#D55E00",
        2: "#CC79A7",
        3: "#F0E442",
        4: "#8C510A",
        5: "#1B7837",
        6: "#A6D96A",
        7: "#0072B2",
        8: "#56B4E9",
        9: "#6A00F4",
        10: "#FF00FF",
    },
)
"""The competition's classes; they overlap."""
SAME_GROUND = {"6140": "6110"}
"""Scenes that show the ground of another on another date: 6140_1_2 is 6110_1_2, 6140_3_1 is 6110_3_1."""

# Where a product lies, its bands, what stands before their names, middles in nm of the nominal ranges, and the largest
# number that the sensor can give: 11 bits, and 14 for A.
_M = ("coastal", "blue", "green", "yellow", "red", "red_edge", "nir1", "nir2")
_M_NM = (425.0, 480.0, 545.0, 605.0, 660.0, 725.0, 832.5, 950.0)
_A = tuple(f"swir{number}" for number in range(1, 9))
_A_NM = (1210.0, 1570.0, 1660.0, 1730.0, 2165.0, 2205.0, 2260.0, 2330.0)
_PRODUCTS = {
    "RGB": ("three_band/{}.tif", ("red", "green", "blue"), "", (660.0, 545.0, 480.0), 2047.0),
    "P": ("sixteen_band/{}_P.tif", ("pan",), "", (625.0,), 2047.0),
    "M": ("sixteen_band/{}_M.tif", _M, "m_", _M_NM, 2047.0),
    "A": ("sixteen_band/{}_A.tif", _A, "", _A_NM, 16383.0),
}


def is_dstl(folder: Path) -> bool:
    """Whether a folder is laid out as the competition's data are."""
    return (folder / SIZES).is_file() and any((folder / name).is_dir() for name in ("three_band", "sixteen_band"))


def read_dstl(
    folder: Path, legend: Legend | None = None, *, registration: Path | None = None
) -> tuple[tuple[Sample, ...], Legend, list[Problem]]:
    """Read the images that have polygons.

    Polygons are turned into pixels of the image's finest product by the competition's formula, and repaired where they
    are invalid. Images of one scene are one place, and so are scenes that show the same ground.

    Args:
        folder: Holds `three_band/` or `sixteen_band/` or both, `grid_sizes.csv` and `train_wkt_v4.csv`.
        legend: Some or all of the ten classes by id, with names and colours of one's own.
        registration: What `satmask register` wrote; by default `registration.json` in the folder, if it is there.

    Returns:
        Samples, legend and problems.

    Raises:
        DataError: If a table can't be read.
    """
    legend = legend or LEGEND
    rows: dict[str, dict[int, str]] = {}
    for (image, class_id), text in read_table(folder / POLYGONS).items():
        rows.setdefault(image, {})[class_id] = text
    sizes = read_grid_sizes(folder / SIZES)
    problems: list[Problem] = []
    stacks = list_stacks(folder, registration=registration, problems=problems, only=tuple(rows))
    samples = []
    for image, texts in rows.items():
        try:
            stack, size = (
                _known(stacks, image, "a file in three_band/ or sixteen_band/"),
                _known(sizes, image, f"a row in {SIZES}"),
            )
            samples.append(_sample(stack, size, texts, legend, problems))
        except SatmaskError as error:
            problems.append(Problem(image, str(error)))
    return tuple(samples), legend, problems


def labelled_images(folder: Path) -> set[str]:
    """Ids of the images that have polygons.

    Raises:
        DataError: If their table can't be read.
    """
    return {image for image, _ in read_table(folder / POLYGONS)}


def list_stacks(
    folder: str | Path,
    *,
    registration: Path | Literal[False] | None = None,
    problems: list[Problem] | None = None,
    only: Sequence[str] | None = None,
) -> dict[str, Stack]:
    """Every image of a folder, with the products that are there, in order of name.

    Args:
        folder: Holds `three_band/` or `sixteen_band/` or both.
        registration: See `read_dstl`; False leaves products where they are.
        problems: Takes what is wrong.
        only: Ids of the images wanted; by default all.

    Returns:
        Stacks by image id. The reference is the finest product: RGB where there is one, else P, M or A.

    Raises:
        DataError: If the registration can't be read.
    """
    folder, problems = Path(folder), [] if problems is None else problems
    wanted = _image_ids(folder) if only is None else only
    found = {image: stack for image in wanted if (stack := _stack(folder, image))}
    if registration is None and (folder / FILE).is_file():
        registration = folder / FILE
    if registration is False:
        return found
    if registration is not None:
        known = read_registrations(registration)
        return {image: _in_register(stack, known.get(image), problems) for image, stack in found.items()}
    if any(len(stack.products) > 1 for stack in found.values()):
        what = (
            f"Products are taken to be in register, since there is no {FILE}: `satmask register {folder}` finds shifts."
        )
        problems.append(Problem(FILE, what, "warning", "registration"))
    return found


def _image_ids(folder: Path) -> list[str]:
    names = {path.stem for path in folder.glob("three_band/*.tif")}
    for path in folder.glob("sixteen_band/*.tif"):
        image, _, product = path.stem.rpartition("_")
        if product in _PRODUCTS:
            names.add(image)
    return sorted(name for name in names if not name.startswith("."))


def _stack(folder: Path, image: str) -> Stack | None:
    products = [
        Product(name, path, bands, prefix, wavelengths_nm=wavelengths, largest=largest)
        for name, (where, bands, prefix, wavelengths, largest) in _PRODUCTS.items()
        if (path := folder / where.format(image)).is_file()
    ]
    return Stack(image, tuple(products)) if products else None


def _in_register(stack: Stack, known: Registered | None, problems: list[Problem]) -> Stack:
    """A stack with the shifts that were found for it."""
    if len(stack.products) == 1:
        return stack
    try:
        shape = reference_shape(stack)
    except SatmaskError:  # whoever reads the image says so
        return stack
    if known is not None and known.fits(stack, shape):
        return known.apply(stack)
    reason = "doesn't mention it" if known is None else "was found on another reference"
    what = f"Products of {stack.name!r} are taken to be in register: {FILE} {reason}."
    problems.append(Problem(stack.name, what, "warning", "registration"))
    return stack


def reference_shape(stack: Stack) -> tuple[int, int]:
    """`(height, width)` of a stack's reference.

    Raises:
        SceneError: If it can't be opened.
    """
    with Scene(stack.products[0].path) as scene:
        return scene.shape


def place_of_image(image: str) -> str:
    """The place that an image shows: its scene, or the scene that shows the same ground.

    Examples:
        >>> place_of_image("6140_3_1"), place_of_image("6010_0_4")
        ('6110', '6010')
    """
    scene = image.partition("_")[0]
    return SAME_GROUND.get(scene, scene)


def _known(entries: Mapping[str, T], image: str, what: str) -> T:
    if image not in entries:
        msg = f"Image {image!r} of {POLYGONS} must have {what}, got none."
        raise DataError(msg)
    return entries[image]


def _sample(stack: Stack, size: GridSize, texts: Mapping[int, str], legend: Legend, problems: list[Problem]) -> Sample:
    """An image with its polygons in pixels of the reference."""
    shape = reference_shape(stack)
    geometries: list[BaseGeometry] = []
    channels: list[int] = []
    for channel, entry in enumerate(legend):
        shapes = _polygons(stack.name, entry.name, texts.get(entry.id, EMPTY), problems)
        parts = shapely.get_parts(size.to_pixels(shapes, *shape)).tolist()
        geometries += parts
        channels += [channel] * len(parts)
    labels = PolygonLabels(legend, shape, geometries, channels)
    return Sample(stack.name, stack, shape, labels, place_of_image(stack.name))


def _polygons(image: str, name: str, text: str, problems: list[Problem]) -> BaseGeometry:
    """The polygons of a class, repaired."""
    done = repair(read_wkt(text, place=f"{POLYGONS} for {image}, {name}"))
    if done.changed:
        said = [
            f"{count:,} {'without area' if way == 'dropped' else f'repaired by {way}'}"
            for way, count in done.methods.items()
        ]
        said += ["overlaps united"] if done.united else []
        why = f" ({'; '.join(done.reasons)})" if done.reasons else ""
        what = f"Polygons of {name} in {image} were invalid: {', '.join(said)}{why}."
        problems.append(Problem(image, what, "warning", "geometry"))
    return done.geometry
