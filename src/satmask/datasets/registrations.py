"""By how much the products of each image are out of register: found once, kept beside the data, used by the reader."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from satmask.bands import Registration, chain, register
from satmask.errors import DataError, SatmaskError
from satmask.stack import Product, Stack, open_imagery
from satmask.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np

FILE = "registration.json"
SCHEMA = 1
FAR = 8.0  # pixels of the reference along one of a product from which on a product between them is a step
REACHED_PX = 1.0  # uncertainty that is accepted of such a product, in pixels of the reference


@dataclass(frozen=True)
class Registered:
    """The products of one image against its reference.

    Attributes:
        reference: Name of the product that the others are brought to.
        shape: `(height, width)` of the reference: shifts are in its pixels.
        products: What was found for each other product.
    """

    reference: str
    shape: tuple[int, int]
    products: Mapping[str, Registration]

    def fits(self, stack: Stack, shape: tuple[int, int]) -> bool:
        """Whether this was found for such a stack, its reference being of that shape."""
        return self.reference == stack.products[0].name and tuple(self.shape) == tuple(shape)

    def apply(self, stack: Stack) -> Stack:
        """The stack with the shifts that were found; a product that nothing is known of stays where it is."""
        known = {name: found.shift for name, found in self.products.items()}
        return replace(
            stack,
            products=tuple(replace(one, shift=known.get(one.name, one.shift)) for one in stack.products),
        )


def register_stack(stack: Stack) -> Registered:
    """Find by how much each product of a stack is off the reference.

    Args:
        stack: Placed by extent; shifts that it has already are left aside.

    Returns:
        What was found; a product that can't be brought into register for sure is declined, and stays where it is.

    Raises:
        SceneError: If a product can't be read.
    """
    first, *others = stack.products
    fixed = read_product(first)
    height, width = fixed.shape[:2]
    pixels = {product.name: read_product(product) for product in others}
    found: dict[str, Registration] = {}
    # The finest first, so that a coarser product can be brought to one that is in register already.
    for name in sorted(pixels, key=lambda name: -pixels[name].shape[1]):
        steps = [other for other in found if _is_step(pixels[name], pixels[other], fixed)]
        if steps:
            step = pixels[steps[-1]]
            scale = width / step.shape[1]
            near = register(pixels[name], step, tolerance_px=REACHED_PX / scale)
            found[name] = chain(near, found[steps[-1]], scale=scale)
        else:
            found[name] = register(pixels[name], fixed)
    return Registered(first.name, (height, width), {product.name: found[product.name] for product in others})


def _is_step(coarse: np.ndarray, step: np.ndarray, fixed: np.ndarray) -> bool:
    """Whether a product is better brought to another one than straight to the reference.

    Over a ratio of 25, sunlit sides pull short-wave infrared off red, green and blue by a pixel of those, all over the
    scene; eight bands that reach into the infrared, a quarter of the way, look more like it.
    """
    far = bool(fixed.shape[1] / coarse.shape[1] > FAR)
    return far and coarse.shape[1] < step.shape[1] < fixed.shape[1] and step.shape[-1] > fixed.shape[-1]


def read_product(product: Product) -> np.ndarray:
    """A whole product in its own pixels, `(height, width, bands)`.

    Raises:
        SceneError: If it can't be read.
    """
    with open_imagery(product.path, bands=product.numbers) as scene:
        pixels = scene.read(Window(0, 0, *scene.shape))
    if pixels.valid.all():
        return pixels.values
    values = pixels.values.astype("float32")
    values[~pixels.valid] = float("nan")
    return values


def write_registrations(path: str | Path, images: Mapping[str, Registered]) -> Path:
    """Write what was found for the images of a data set; the file gets its name once it is complete."""
    path = Path(path)
    content = {
        "schema_version": SCHEMA,
        "meaning": "What the reference shows at (x, y), a product shows at (x + dx, y + dy), in the reference's pixels.",
        "images": {
            name: {
                "reference": found.reference,
                "shape": list(found.shape),
                "products": {product: one.to_dict() for product, one in found.products.items()},
            }
            for name, found in images.items()
        },
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def read_registrations(path: str | Path) -> dict[str, Registered]:
    """Read what `write_registrations` wrote.

    Raises:
        DataError: If the file can't be read, or is of another version.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema_version"] != SCHEMA:
            msg = f"Registration must have schema version {SCHEMA}, got {content['schema_version']!r} in {path.name}."
            raise DataError(msg)
        return {str(name): _registered(entry) for name, entry in content["images"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"Registration must be what `satmask register` writes, got {str(error)!r:.120} for {path.name}."
        raise DataError(msg) from error


def _registered(entry: Mapping[str, Any]) -> Registered:
    height, width = entry["shape"]
    products = {str(name): Registration.from_dict(one) for name, one in entry["products"].items()}
    return Registered(str(entry["reference"]), (int(height), int(width)), products)


def register_all(stacks: Mapping[str, Stack], path: str | Path) -> Iterator[tuple[str, Registered | SatmaskError]]:
    """Register one stack after the other, and keep what was found after each: a run that is stopped goes on.

    Args:
        stacks: By image id.
        path: The file to write; images that it holds already, found on a reference of the same size, are not done again.

    Yields:
        Each image, with what was found or why that failed.

    Raises:
        DataError: If the file is there and can't be read.
    """
    path = Path(path)
    found = read_registrations(path) if path.is_file() else {}
    for name, stack in stacks.items():
        try:
            with open_imagery(stack.products[0].path) as scene:
                shape = scene.shape
            known = found.get(name)
            if known is None or not known.fits(stack, shape) or set(known.products) != _others(stack):
                found[name] = register_stack(stack)
                write_registrations(path, dict(sorted(found.items())))
        except SatmaskError as error:
            yield name, error
            continue
        yield name, found[name]


def _others(stack: Stack) -> set[str]:
    return {product.name for product in stack.products[1:]}
