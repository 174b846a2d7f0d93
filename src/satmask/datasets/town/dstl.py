"""Write synthetic places in the complete layout of the DSTL competition: four products, sizes, polygons, sample.

Beside the competition's files stand two of the generator's own: `shifts.json` says by how much the products are out of
register, which places are shown twice, and how many polygons are invalid; `truth_wkt.csv` holds the valid polygons of
all images, the unlabelled ones included.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import shapely
from rasterio.errors import NotGeoreferencedWarning

from satmask.datasets.repair import round_valid
from satmask.datasets.town.painting import paint
from satmask.datasets.town.places import THEMES, Theme, plan_place, ten_classes
from satmask.datasets.town.sensors import Product, observe
from satmask.datasets.town.spoiling import spoil
from satmask.datasets.wkt import GridSize, write_table, write_wkt
from satmask.errors import DataError, SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry import MultiPolygon, Polygon

GSD_M = 0.31
SIZE = (3348, 3392)
"""Rows and columns of a real RGB product, give or take a few."""
SCENES = tuple(range(6010, 6190, 10))
TWINS = ((6110, 6140), ((1, 2), (3, 1)))
"""Two scenes that show the same ground on different dates, and their places with labels."""
_MARGIN_PX = 8
_SPREAD = {"P": (0.25, 0.6, 1.0), "M": (2.3, 0.773, 12.2), "A": (19.7, 0.623, 60.0)}
"""Shifts in pixels of RGB: median and sigma of a log-normal, from the median and the 95 % point of 900 fits to the real
images; and the largest drawn, the largest fit that was believed. Of P no fits are known."""
_GRID_UNIT = 2.7087e-6, 2.7001e-6


@dataclass(frozen=True)
class DstlSet:
    """What was written.

    Attributes:
        folder: Where.
        images: Ids of all images, labelled ones first.
        labelled: Ids of those with polygons in `train_wkt_v4.csv`.
        pairs: Ids that show the same place on two dates.
        shifts: By image and product (`P`, `M`, `A`), how far it is shifted right and down against RGB, in pixels of
            RGB: what RGB has at `(x, y)` is at `(x + dx, y + dy)`, in pixels of RGB, of the product.
        invalid: By image and class, how many polygons of `train_wkt_v4.csv` are invalid; none where there are none.
    """

    folder: Path
    images: tuple[str, ...]
    labelled: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    shifts: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    invalid: dict[str, dict[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Order:
    """An image to be drawn."""

    image_id: str
    theme: Theme
    seed: int
    date: int


@dataclass(frozen=True)
class _Frame:
    """Where an image lies on the planned ground; the same for all dates.

    Attributes:
        size: Rows and columns, as asked for.
        margin: Pixels of RGB that are painted around the image, more than any shift.
    """

    size: tuple[int, int]
    margin: int

    def view(self, size: tuple[int, int]) -> Polygon:
        """The ground that an image of some size shows, in metres."""
        corner = self.margin * GSD_M
        return shapely.box(corner, corner, corner + size[1] * GSD_M, corner + size[0] * GSD_M)


def write_dstl(
    folder: Path | str,
    *,
    images: int = 6,
    labelled: int | None = None,
    size: tuple[int, int] = SIZE,
    seed: int = 0,
    shift: float = 1.0,
    invalid: float = 0.01,
) -> DstlSet:
    """Write synthetic places in the layout of the DSTL Satellite Imagery Feature Detection challenge.

    Places are villages, fields, riversides and towns in turn: five images of 600 pixels hold all ten classes, much
    smaller ones most of them. The first two images are the same place on two dates, as are the seventh and eighth. The same
    arguments give the same bytes.

    Args:
        folder: Where to write; made if it isn't there.
        images: How many, 1 to 450.
        labelled: How many of them, from the first, have polygons in `train_wkt_v4.csv`; by default all but a quarter.
        size: Rows and columns of RGB in pixels of 0.31 m, 48 or more; each image differs by a pixel or two, and
            the other products keep their ratios: P 1, M 1/4, A 1/25.
        seed: Fixes everything.
        shift: How large shifts between products are, relative to those measured on the real images (median 2.3 pixels
            of RGB for M, 19.7 for A); 0 for products in register.
        invalid: Share of polygons that are spoiled.

    Returns:
        What was written and what is known about it.

    Raises:
        SettingError: If an argument is out of range.
        DataError: If the folder already holds a set.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_dstl(folder, images=2, size=(64, 80)).pairs
        (('6110_1_2', '6140_1_2'),)
    """
    folder = Path(folder)
    labelled = images - images // 4 if labelled is None else labelled
    _check(folder, images=images, labelled=labelled, size=size, spread=(shift, invalid))
    orders = _orders(images, seed)
    ids = tuple(order.image_id for order in orders)
    made = DstlSet(folder, ids, ids[:labelled], _pairs(ids))
    for name in ("three_band", "sixteen_band"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sizes: dict[str, GridSize] = {}
    polygons: dict[str, dict[int, MultiPolygon]] = {}
    for order in orders:
        random = np.random.default_rng([order.seed, 7, order.date])
        products = _products(random, size, shift)
        sizes[order.image_id] = grid = _grid_size(random, products["RGB"])
        frame = _Frame(size, int(np.ceil(_SPREAD["A"][2] * shift)) + _MARGIN_PX)
        polygons[order.image_id] = _draw(folder, order, products, frame, grid)
        made.shifts[order.image_id] = {name: products[name].shift for name in ("P", "M", "A")}
    _write_tables(made, sizes, polygons, invalid=invalid, seed=seed)
    return made


def _check(folder: Path, *, images: int, labelled: int, size: tuple[int, int], spread: tuple[float, float]) -> None:
    if not 1 <= images <= 25 * len(SCENES) or not 0 <= labelled <= images:
        msg = f"Images must be 1 to {25 * len(SCENES)} and labelled ones no more, got {images} and {labelled}."
        raise SettingError(msg)
    if min(size) < 48 or max(size) > 8192:
        msg = f"Size must be 48 to 8192 pixels a side, got {size[0]} × {size[1]}."
        raise SettingError(msg)
    if not 0 <= spread[0] <= 1 or not 0 <= spread[1] <= 1:
        msg = f"Shift and invalid must lie in 0 to 1, got {spread[0]} and {spread[1]}."
        raise SettingError(msg)
    if (folder / "grid_sizes.csv").exists():
        msg = f"Folder for a set must be empty, got {folder} with one in it. Choose another or delete it."
        raise DataError(msg)


def _orders(images: int, seed: int) -> list[_Order]:
    """Choose scenes and places: twins first, then one image a scene in turn; themes take turns by place."""
    random = np.random.default_rng([seed, 8])
    first, second = TWINS[0]
    spots = [divmod(int(spot), 5) for spot in random.permutation(25)]
    alone = [scene for scene in SCENES if scene not in TWINS[0]]
    singles = [(scene, spots[(turn + at) % 25]) for turn in range(25) for at, scene in enumerate(alone)]
    twins = [[(scene, spot) for scene in TWINS[0]] for spot in [*TWINS[1], *(s for s in spots if s not in TWINS[1])]]
    chosen = [*twins[0], *singles[:4], *twins[1], *singles[4:], *(item for pair in twins[2:] for item in pair)]
    themes: dict[tuple[int, tuple[int, int]], int] = {}
    orders = []
    for scene, (row, column) in chosen[:images]:
        # The second of a pair lies where the first does.
        place = (first if scene == second else scene, (row, column))
        theme = THEMES[themes.setdefault(place, len(themes)) % len(THEMES)]
        number = SCENES.index(place[0]) * 25 + row * 5 + column
        orders.append(_Order(f"{scene}_{row}_{column}", theme, 450 * seed + number, int(scene == second)))
    return orders


def _pairs(ids: Sequence[str]) -> tuple[tuple[str, str], ...]:
    first, second = map(str, TWINS[0])
    return tuple((name, other) for name in ids if (other := name.replace(first, second, 1)) in ids and other != name)


def _products(random: np.random.Generator, size: tuple[int, int], scale: float) -> dict[str, Product]:
    """Draw sizes, unequal by a pixel here and there, and shifts like those of the real products."""
    height, width = (side + int(random.integers(-1, 3)) for side in size)
    sides = {
        "RGB": (height, width),
        "P": (height - int(random.random() < 0.3), width - int(random.random() < 0.3)),
        "M": (round(height / 4) + int(random.random() < 0.2), round(width / 4) + int(random.random() < 0.3)),
        "A": (max(round(height / 24.97), 2), max(round(width / 24.97), 2)),
    }
    products = {"RGB": Product(*sides["RGB"])}
    for name, (median, sigma, most) in _SPREAD.items():
        length = scale * min(median * float(np.exp(sigma * random.standard_normal())), most)
        angle = float(random.uniform(0, 2 * np.pi))
        away = round(length * float(np.cos(angle)), 3), round(length * float(np.sin(angle)), 3)
        products[name] = Product(*sides[name], away)
    return products


def _grid_size(random: np.random.Generator, rgb: Product) -> GridSize:
    """Draw the size in grid units, which hardly depends on the exact number of pixels."""
    x, y = (side * unit * float(random.uniform(0.9995, 1.0005)) for side, unit in zip(
        (rgb.width, rgb.height), _GRID_UNIT, strict=True))  # fmt: skip
    return GridSize(round(x, 9), -round(y, 9))


def _draw(
    folder: Path, order: _Order, products: dict[str, Product], frame: _Frame, grid: GridSize
) -> dict[int, MultiPolygon]:
    """Draw one image, write its products, and return its polygons in grid coordinates, valid after rounding."""
    rgb, margin = products["RGB"], frame.margin
    plan = plan_place(frame.view(frame.size), theme=order.theme, seed=order.seed, date=order.date)
    # Another date has another sun, haze and noise.
    day = 2 * order.seed + order.date
    maps = paint(plan, (rgb.height + 2 * margin, rgb.width + 2 * margin), step_m=GSD_M, seed=day)
    for name, pixels in observe(maps, products, margin=margin, seed=day).items():
        part = "three_band" if name == "RGB" else "sixteen_band"
        suffix = "" if name == "RGB" else f"_{name}"
        _write_raster(folder / part / f"{order.image_id}{suffix}.tif", pixels)
    found = ten_classes(plan, frame.view((rgb.height, rgb.width)))
    scaled = {id_: shapely.transform(shapes, lambda points: points / GSD_M) for id_, shapes in found.items()}
    return {id_: round_valid(grid.to_grid(shapes, rgb.height, rgb.width)) for id_, shapes in scaled.items()}


def _write_raster(path: Path, pixels: np.ndarray) -> None:
    """Write a GeoTIFF as the competition's are: uncompressed, band by band, without a place."""
    height, width, count = pixels.shape
    profile: dict[str, Any] = {
        "driver": "GTiff", "height": height, "width": width, "count": count, "dtype": "uint16", "interleave": "band",
    }  # fmt: skip
    hidden = path.with_name(f".{path.name}.part.tif")
    with warnings.catch_warnings():
        # The real files have no georeference either.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(hidden, "w", **profile) as target:
            target.write(np.moveaxis(pixels, -1, 0))
            target.update_tags(SATMASK_SYNTHETIC="YES")
    hidden.replace(path)


def _write_tables(
    made: DstlSet,
    sizes: dict[str, GridSize],
    polygons: dict[str, dict[int, MultiPolygon]],
    *,
    invalid: float,
    seed: int,
) -> None:
    """Write polygons, sample, shifts, and last the sizes, which make the folder a set."""
    random = np.random.default_rng([seed, 9])
    truth = {(name, id_): write_wkt(shapes) for name in sorted(polygons) for id_, shapes in polygons[name].items()}
    train: dict[tuple[str, int], str] = {}
    for name in sorted(made.labelled):
        for id_, shapes in polygons[name].items():
            text, bad = spoil(shapes, random, share=invalid)
            train[name, id_] = text
            if bad:
                made.invalid.setdefault(name, {})[id_] = bad
    write_table(made.folder / "truth_wkt.csv", truth)
    write_table(made.folder / "train_wkt_v4.csv", train)
    whole = {name: write_wkt(shapely.box(0, size.ymin, size.xmax, 0)) for name, size in sizes.items()}
    write_table(made.folder / "sample_submission.csv", {(name, id_): whole[name] for name, id_ in truth})
    _write_facts(made)
    lines = [",Xmax,Ymin", *(f"{name},{size.xmax!r},{size.ymin!r}" for name, size in sizes.items())]
    (made.folder / "grid_sizes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_facts(made: DstlSet) -> None:
    """Write `shifts.json`: what the generator knows and the competition doesn't tell."""
    facts = {
        "description": "Synthetic places drawn by satmask; this file is the generator's, not the competition's.",
        "shift": "what RGB has at (x, y) is at (x + dx, y + dy) of the product, in pixels of RGB",
        "shifts": made.shifts,
        "labelled": made.labelled,
        "pairs": made.pairs,
        "invalid": made.invalid,
    }
    (made.folder / "shifts.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
