"""`satmask masks`: mask images to run-length codes and back, to polygons, and drawn on images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from satmask.cli.options import File, Json, LegendFile, Quiet
from satmask.cli.output import complain_about, say, say_json

if TYPE_CHECKING:
    import numpy as np

    from satmask.legend import Legend
    from satmask.masks import CodedTile
    from satmask.scene import Scene

masks = typer.Typer(
    name="masks",
    help="Code masks, decode them, draw them, and trace their outlines.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


class Convention(StrEnum):
    """How run-length codes are written."""

    kaggle = "kaggle"
    coco = "coco"


class Counting(StrEnum):
    """The way in which `start length` pairs count pixels."""

    row = "row"
    column = "column"


Order = Annotated[Counting, typer.Option(help="How kaggle codes count pixels: along rows or down columns.")]
MaskFiles = Annotated[list[Path], typer.Argument(metavar="MASK…", help="Mask images, or folders of them.")]


@masks.command()
def encode(
    files: MaskFiles,
    *,
    convention: Annotated[Convention, typer.Option(help="kaggle: a CSV table; coco: annotations.")] = Convention.kaggle,
    out: Annotated[Path | None, typer.Option(help="File to write; stdout by default.")] = None,
    legend: LegendFile = None,
    order: Order = Counting.row,
    objects: Annotated[bool, typer.Option("--objects", help="A code an object, rather than one a class.")] = False,
) -> None:
    """Write mask images as run-length codes.

    kaggle: a CSV table of image, class, code, height and width. coco: annotations as JSON. An object is a group of
    pixels that share edges.
    """
    from satmask import SettingError
    from satmask.masks import coco_annotations, coco_content, csv_text, kaggle_rows, merge_legends
    from satmask.pictures import layers

    coco = convention is Convention.coco
    if coco and order is Counting.column:
        msg = "--order must come with --convention kaggle, got column for coco. COCO's codes always count down columns."
        raise SettingError(msg)
    rows: list[Any] = []
    legends: list[Legend] = []
    failed: list[str] = []
    for path, ids, classes in _read_all(files, legend, failed):
        spread = layers(ids, classes)
        if coco:
            rows.append((path.name, ids.shape, coco_annotations(spread, classes, objects=objects)))
        else:
            rows += kaggle_rows(path.stem, spread, classes, order=order.value, objects=objects)
        legends.append(classes)
    if legends:
        shared = merge_legends(legends)
        text = _json(coco_content(rows, shared)) if coco else csv_text(rows)
        _give(text, out, f"{len(legends):,} masks")
    _end(failed)


@masks.command()
def decode(
    codes: Annotated[Path, typer.Argument(metavar="CODES", help="CSV table, or annotations as JSON.", **File)],
    *,
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    legend: LegendFile = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images, for size and place.", exists=True, file_okay=False)
    ] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="HxW", help="Size of all images, where the file has none.")
    ] = None,
    order: Order = Counting.row,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write run-length codes or COCO polygons as mask images.

    Each image becomes a PNG with a palette, or a GeoTIFF where --images has one with a place on the ground. Where
    classes overlap, it becomes one for each class.
    """  # fmt: skip
    from satmask import SatmaskError, read_legend
    from satmask.datasets.pairs import key_of, list_images
    from satmask.masks import read_code_file
    from satmask.progress import track

    size = _size(shape)
    tiles, classes = read_code_file(codes, read_legend(legend) if legend else None)
    known = {key_of(path.stem): path for path in list_images(images)} if images else {}
    written: dict[Path, str] = {}
    failed: list[str] = []
    with track("Decoding", len(tiles), unit="images", quiet=quiet) as advance:
        for tile in tiles:
            try:
                _decode(tile, classes, out, written, image=known.get(key_of(tile.stem)), size=size, order=order.value)
            except SatmaskError as error:
                failed.append(str(error))
            advance()
    count = len(set(written.values()))
    if as_json:
        say_json({"folder": out, "images": count, "files": len(written), "failed": len(failed)})
    else:
        say(f"{len(written):,} masks of {count:,} images written to {out}")
    _end(failed)


@masks.command()
def draw(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image to draw on.", **File)],
    shapes: Annotated[
        Path, typer.Argument(metavar="MASK_OR_POLYGONS", help="Mask image, vector file, or codes.", **File)
    ],
    *,
    out: Annotated[Path, typer.Option(help="Picture to write: .png, .jpg or .webp.")],
    legend: LegendFile = None,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Strength of the fills.")] = 0.35,
    width: Annotated[
        int | None,
        typer.Option(min=0, help="Width of the lines in pixels; 0 for none.  [default: by the image's size]"),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--draw-order", metavar="ID[,ID…]", help="Class ids, first to last.")
    ] = None,
) -> None:
    """Draw masks or polygons on an image, in the legend's colours.

    A vector file lies where its CRS says. In a file of codes, the image is looked up by its name.
    """  # fmt: skip
    from satmask import Scene, read_legend
    from satmask.masks import draw_masks, draw_polygons, write_picture

    chosen = read_legend(legend) if legend else None
    settings: dict[str, Any] = {"alpha": alpha, "width": width, "order": _ids(classes)}
    with Scene(image) as scene:
        rgb = _shown(scene)
        if shapes.suffix.lower() in VECTORS:
            from satmask.datasets.scenes import read_labels

            labels, problems = read_labels(shapes, scene.grid, chosen)
            complain_about(problem.what for problem in problems)
            ids = [labels.legend.ids[channel] for channel in labels.channels]
            picture = draw_polygons(rgb, labels.geometries, ids, labels.legend, **settings)
        else:
            spread, found = _spread(shapes, scene, chosen)
            picture = draw_masks(rgb, spread, found, **settings)
    write_picture(out, picture)
    say(f"Picture of {picture.shape[1]} × {picture.shape[0]} written to {out}")


@masks.command()
def outline(
    files: MaskFiles,
    *,
    out: Annotated[Path, typer.Option(help=".json for COCO's annotations; .gpkg, .fgb, .parquet, .geojson or .shp.")],
    legend: LegendFile = None,
) -> None:
    """Trace the outlines of mask images along their pixels' edges.

    Annotations are in pixel coordinates, one for each group of pixels that share edges; those with holes are run-length
    codes. Vector files take one mask, and are in its CRS, or in pixel coordinates where it has none.
    """
    from satmask import Scene, SettingError, find_polygons, write_polygons
    from satmask.masks import coco_content, coco_outlines, merge_legends
    from satmask.pictures import layers

    coco = out.suffix.lower() == ".json"
    if not coco and len(paths := _paths(files)) > 1:
        msg = f"{out.suffix} must be written of one mask, got {len(paths)}. Write .json, or one file each."
        raise SettingError(msg)
    tiles, failed = [], list[str]()
    for path, ids, classes in _read_all(files, legend, failed):
        if coco:
            tiles.append(((path.name, ids.shape, coco_outlines(layers(ids, classes), classes)), classes))
            continue
        with Scene(path) as scene:
            frame = find_polygons(ids, scene.grid, classes)
        write_polygons(frame, out)
        say(f"{len(frame):,} polygons written to {out}")
    if tiles:
        content = coco_content([tile for tile, _ in tiles], merge_legends(classes for _, classes in tiles))
        _give(_json(content), out, f"{len(content['annotations']):,} outlines of {len(tiles):,} masks")
    _end(failed)


VECTORS = (".gpkg", ".fgb", ".geojson", ".shp", ".parquet", ".kml", ".gml")


def _paths(files: list[Path]) -> list[Path]:
    """Mask images, where a folder stands for those in it."""
    from satmask import DataError
    from satmask.datasets.pairs import list_images

    found = [path for file in files for path in (list_images(file) if file.is_dir() else [file])]
    if not found:
        msg = f"Folder must hold mask images, got none in {files[0]}."
        raise DataError(msg)
    return found


def _read_all(files: list[Path], legend: Path | None, failed: list[str]) -> Iterator[tuple[Path, np.ndarray, Legend]]:
    """Read masks one by one; what can't be read is noted, the rest goes on."""
    from satmask import SatmaskError, read_legend
    from satmask.masks import read_mask

    chosen = read_legend(legend) if legend else None
    unknown = []
    for path in _paths(files):
        try:
            ids, classes = read_mask(path, chosen)
        except SatmaskError as error:
            failed.append(str(error))
            continue
        if share := float((ids == classes.nodata).mean()):
            unknown.append(f"{share:.2%} of the pixels of {path.name} have no class in the legend: unlabelled.")
        yield path, ids, classes
    complain_about(unknown)


def _decode(
    tile: CodedTile,
    legend: Legend,
    out: Path,
    written: dict[Path, str],
    *,
    image: Path | None,
    size: tuple[int, int] | None,
    order: Any,
) -> None:
    """Write the masks of one tile, and note their files."""
    from satmask import DataError, Scene
    from satmask.masks import tile_masks, write_masks

    if tile.stem in written.values():
        msg = f"Image must have a name of its own, got {tile.name!r} twice."
        raise DataError(msg)
    if image is None:
        paths = write_masks(out / tile.stem, tile_masks(tile, legend, shape=size, order=order), legend)
    else:
        with Scene(image) as scene:
            spread = tile_masks(tile, legend, shape=size or scene.shape, order=order)
            paths = write_masks(out / tile.stem, spread, legend, scene=scene)
    written.update(dict.fromkeys(paths, tile.stem))


def _spread(path: Path, scene: Scene, legend: Legend | None) -> tuple[np.ndarray, Legend]:
    """Masks of a scene, from a mask image or from a file of codes."""
    from satmask import DataError
    from satmask.masks import read_code_file, read_mask, tile_masks

    if path.suffix.lower() not in (".csv", ".json"):
        return read_mask(path, legend)
    tiles, found = read_code_file(path, legend)
    for tile in tiles:
        if tile.stem == scene.path.stem:
            return tile_masks(tile, found, shape=scene.shape), found
    msg = f"Codes must name the image, got none for {scene.path.name!r} among {len(tiles):,} of {path.name}."
    raise DataError(msg)


def _shown(scene: Scene) -> np.ndarray:
    """The scene as 8-bit RGB."""
    from satmask import Window
    from satmask.stretching import display, stretch, value_range

    pixels = scene.read(Window(0, 0, *scene.shape))
    bands, limits = display(scene.dtype, *value_range([pixels.values], valid=[pixels.valid]))
    return stretch(pixels.values, valid=pixels.valid, bands=bands, limits=limits)


def _size(text: str | None) -> tuple[int, int] | None:
    """Read `HxW`."""
    if text is None:
        return None
    if not (found := re.fullmatch(r"([0-9]{1,6})[x×]([0-9]{1,6})", text)) or "0" in found.groups():
        from satmask import SettingError

        msg = f"--shape must look like 650x900 (height, width), got {text!r}."
        raise SettingError(msg)
    return int(found[1]), int(found[2])


def _ids(text: str | None) -> list[int] | None:
    """Read class ids, separated by commas."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}(,[0-9]{1,5})*", text):
        from satmask import SettingError

        msg = f"--draw-order must be class ids separated by commas, got {text!r}."
        raise SettingError(msg)
    return [int(part) for part in text.split(",")]


def _json(content: Any) -> str:
    import json

    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def _give(text: str, out: Path | None, what: str) -> None:
    """Write results to a file, or to stdout."""
    from satmask.masks import write_text

    if out is None:
        say(text.rstrip("\n"))
        return
    write_text(out, text)
    say(f"{what} written to {out}")


def _end(failed: list[str]) -> None:
    """Say what couldn't be used, and end with exit code 1 if there is any."""
    complain_about(failed, what="error")
    if failed:
        raise typer.Exit(1)
