"""One self-contained HTML page: text, tables and pictures in a single file that needs no network and no script."""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from satmask.errors import SettingError

if TYPE_CHECKING:
    from jinja2 import Template

Value = str | int | float | None
# Wider than any page shows them; PNGs above the size are photographs, which WebP holds in a tenth.
WIDEST, LARGEST_PNG = 1600, 200_000
LARGEST = 4_000_000  # bytes of a page: what mail takes and a phone loads at once
KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


@dataclass(frozen=True)
class Picture:
    """A picture with what it says to those who can't see it.

    Attributes:
        content: A PNG, JPEG, WebP or SVG file; see `satmask.figures.png_bytes` and `svg_bytes`.
        alt: What the picture shows, in a sentence, for screen readers.
        caption: Text below it.

    Raises:
        SettingError: If the content is no such file, or `alt` is empty.
    """

    content: bytes
    alt: str
    caption: str = ""

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        if not self.alt.strip():
            msg = f"Picture must say in `alt` what it shows, got {self.alt!r}."
            raise SettingError(msg)
        if not self.kind:
            msg = f"Picture must be a PNG, JPEG, WebP or SVG file, got {self.content[:12]!r}."
            raise SettingError(msg)

    @property
    def kind(self) -> str:
        """The media type, from the first bytes; empty where it is none that a page can show."""
        if b"<svg" in self.content[:1000]:
            return "image/svg+xml"
        return next((kind for start, kind in KINDS.items() if self.content.startswith(start)), "")

    @classmethod
    def photo(cls, rgb: npt.NDArray[np.uint8], alt: str, caption: str = "", *, quality: int = 88) -> Picture:
        """Make a picture of an image.

        Args:
            rgb: uint8, `(height, width, 3)`; at most 1600 pixels of its longer side are kept.
            alt: What the picture shows.
            caption: Text below it.
            quality: Of WebP, 1 to 100.
        """
        return cls(_webp(_shrunk(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)), quality), alt, caption)


@dataclass(frozen=True)
class Table:
    """Rows under headers; the first cell of a row names it.

    Attributes:
        headers: One a column.
        rows: Text, numbers (right-aligned, with three decimals unless whole), or None and NaN, shown as a dash.
        caption: What the table shows.

    Raises:
        SettingError: If a row hasn't one cell a header.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[Value]]
    caption: str = ""

    def __post_init__(self) -> None:
        """Hold the rule of the docstring."""
        for row in self.rows:
            if len(row) != len(self.headers):
                msg = f"Table row must have {len(self.headers)} cells, got {len(row)} in {list(row)!r:.200}."
                raise SettingError(msg)

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds nothing but numbers and gaps, so that its header is aligned like them."""
        values = [row[column] for row in self.rows]
        return any(is_number(value) for value in values) and all(is_number(value) or value is None for value in values)


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading.
        text: Paragraphs, an empty line between two.
        tables: Tables, below the text.
        pictures: Pictures, below the tables.
        columns: Pictures side by side on a wide page; on a phone there are at most two.
        key: `#RRGGBB` under the name of each colour in the pictures.

    Raises:
        SettingError: If a colour isn't one, or there is no column.
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    columns: int = 1
    key: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        """Hold the rules of the docstring."""
        for name, colour in self.key:
            if not re.fullmatch(r"#[0-9A-Fa-f]{6}", colour):
                msg = f"Colour must look like #1F77B4, got {colour!r} for {name!r}."
                raise SettingError(msg)
        if not 1 <= self.columns <= 6:
            msg = f"Section must have 1 to 6 columns, got {self.columns}."
            raise SettingError(msg)

    @property
    def paragraphs(self) -> list[str]:
        """The text, cut at empty lines."""
        return [part.strip() for part in re.split(r"\n\s*\n", self.text) if part.strip()]


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: Its heading, and the name of its browser tab.
        subtitle: A line below: what, when, with which settings.
        sections: Its parts, in order.
    """

    title: str
    subtitle: str = ""
    sections: Sequence[Section] = ()


def render_page(page: Page) -> str:
    """Write a page as HTML text.

    Everything is escaped, pictures lie inside as data, and a content policy in the page forbids it any request.

    Examples:
        >>> "&lt;b&gt;" in render_page(Page("<b>"))
        True
    """
    return _template().render(page=page)


def write_page(page: Page, path: str | os.PathLike[str]) -> None:
    """Write a page as one HTML file; a half-written file never bears the name.

    Args:
        page: The page.
        path: Where to; an older file is replaced.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(render_page(page), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def render_small(make: Callable[[int], Page]) -> str:
    """Render a page with the best picture quality that keeps it below 4 MB."""
    text = ""
    for quality in (82, 65, 45, 25, 10):
        text = render_page(make(quality))
        if len(text.encode()) < LARGEST:
            break
    return text


def format_value(value: Value) -> str:
    """Write a cell: whole numbers with thousands apart, others with three decimals, nothing as a dash.

    Examples:
        >>> [format_value(value) for value in (1234567, 0.70449, 1234.5, None, float("nan"), "road")]
        ['1,234,567', '0.704', '1,234.5', '–', '–', 'road']
    """
    if value is None or (is_number(value) and not math.isfinite(float(value))):
        return "–"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"
    return str(value)


def is_number(value: Value) -> bool:
    """Whether a cell is aligned as a number."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def embed(picture: Picture) -> dict[str, str | int]:
    """Turn a picture into a data URI of a size fit for a page, with its sides.

    Pictures wider than 1600 pixels are shrunk, and large PNGs are stored as WebP.

    Returns:
        `src`, and `width` and `height` in pixels (of an SVG without a view box, neither).
    """
    content, kind = picture.content, picture.kind
    if kind == "image/svg+xml":
        return {"src": _uri(content, kind), **_svg_sides(content)}
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        msg = f"Picture must be whole, got a broken {kind} of {len(content):,} bytes for {picture.alt!r}."
        raise SettingError(msg)
    shrunk = _shrunk(pixels)
    if shrunk is not pixels or (kind == "image/png" and len(content) > LARGEST_PNG):
        content, kind = _webp(shrunk, 92), "image/webp"
    return {"src": _uri(content, kind), "width": shrunk.shape[1], "height": shrunk.shape[0]}


def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("satmask"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": format_value, "embed": embed}
    environment.tests["numeric"] = lambda value: value is None or is_number(value)
    return environment.get_template("page.html.j2")


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _svg_sides(content: bytes) -> dict[str, int]:
    """Sides of an SVG in CSS pixels, of which there are 4 for 3 points."""
    found = re.search(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"', content[:2000])
    if not found:
        return {}
    width, height = (round(float(side) * 4 / 3) for side in found.groups())
    return {"width": width, "height": height}


def _shrunk(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    factor = WIDEST / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    size = [max(round(side * factor), 1) for side in pixels.shape[1::-1]]
    shrunk: npt.NDArray[np.uint8] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _webp(pixels: npt.NDArray[np.uint8], quality: int) -> bytes:
    written, content = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not written:
        msg = f"Picture must be an 8-bit image, got {pixels.dtype} of shape {pixels.shape}."
        raise SettingError(msg)
    return content.tobytes()
