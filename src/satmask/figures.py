"""How figures are laid out and saved: their sizes, inks and letters, the title above and the key below.

No global state of matplotlib is touched, so figures can be made in any thread.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Ink and grid of charts. An SVG swaps them where the page is dark, so no other part of a chart may have these colours.
INK, GRID = "#1f2329", "#d4d8de"
DARK_INK, DARK_GRID = "#e4e7eb", "#3a4048"
TRAINING, VALIDATION, BEST = "#3D8BC9", "#DD6B20", "#8A9099"
# Widths in inches: of a chart, whose letters keep 10 px on a phone, and of a sheet, which is an A4 page between its
# margins. Nothing is wider than a sheet.
CHART, SHEET = 4.4, 7.5
TEXT, SMALL, TINY = 10.0, 8.5, 7.0  # letters in points
# Stand in a key where a colour would, for what pictures mark with a pattern: see `hatch` and `stretch`.
HATCHED, CHECKERED = "hatched", "checkered"
_PATTERNS: dict[str, dict[str, Any]] = {
    HATCHED: {"facecolor": "#808080", "edgecolor": "#D6D6D6", "hatch": "//////"},
    CHECKERED: {"facecolor": "#E8E8E8", "edgecolor": "#BCBCBC", "hatch": "+++++"},
}


def png_bytes(figure: Figure, *, dpi: int = 200) -> bytes:
    """Render a figure as PNG, on white."""
    return _rendered(figure, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})


def svg_bytes(figure: Figure) -> bytes:
    """Render a chart as SVG without a background, whose ink turns light where the page is dark.

    Meant for charts: images inside would be stored as PNG.
    """
    text = _rendered(figure, format="svg", transparent=True, metadata={"Date": None, "Creator": None}).decode()
    style = (
        f"<style>:root{{--ink:{INK};--grid:{GRID}}}"
        f"@media (prefers-color-scheme:dark){{:root{{--ink:{DARK_INK};--grid:{DARK_GRID}}}}}</style>"
    )
    text = text.replace(INK, "var(--ink)").replace(GRID, "var(--grid)")
    head, opening, rest = text.partition("<defs>")
    return f"{head}{style.replace('var(--ink)', INK)}{opening}{rest}".encode()


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 200) -> None:
    """Write a figure as SVG or PNG, by the name's ending; a half-written file never bears the name."""
    path = Path(path)
    content = svg_bytes(figure) if path.suffix.lower() == ".svg" else png_bytes(figure, dpi=dpi)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _rendered(figure: Figure, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that matplotlib's font lacks is drawn as boxes: no reason to end a training run.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, **settings)
    return buffer.getvalue()


def blank(width: float, height: float, *, title: str = "", key: Sequence[tuple[str, str]] = ()) -> Figure:
    """Begin a figure with a body of the given inches, and room for a title above and the colours' names below."""
    from matplotlib.figure import Figure

    rows = -(-len(key) // _key_columns(width, key)) if key else 0
    size = (width, height + 0.3 * bool(title) + (0.1 + 0.19 * rows if rows else 0))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01)  # type: ignore[union-attr, call-arg]
    _finish(figure, title, key)
    return figure


def _key_columns(width: float, key: Sequence[tuple[str, str]]) -> int:
    """How many names of colours fit side by side."""
    longest = max(len(name) for name, _ in key)
    return min(max(int(width * 72 / (SMALL * (0.56 * longest + 3.2))), 1), len(key))


def plain(text: str) -> str:
    """Keep matplotlib from reading a name as mathematics, or from hiding it because it starts with `_`."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def wrapped(text: str, width: int) -> str:
    """Break long lines, keeping the breaks that are there."""
    return plain("\n".join(textwrap.fill(line, width) for line in text.splitlines()))


def _finish(figure: Figure, title: str, key: Sequence[tuple[str, str]]) -> None:
    """Put the title above, and the colours with their names below, in as many columns as fit."""
    from matplotlib.patches import Patch

    if title:
        figure.suptitle(wrapped(title, int(figure.get_figwidth() * 11)), fontsize=TEXT + 1.5, color=INK)
    looks = [_PATTERNS.get(colour, {"facecolor": colour, "edgecolor": BEST}) for _, colour in key]
    patches = [Patch(linewidth=0.5, label=plain(name), **look) for (name, _), look in zip(key, looks, strict=True)]
    if not key:
        return
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=_key_columns(figure.get_figwidth(), key),
        fontsize=SMALL,
        frameon=False,
        labelcolor=INK,
        handlelength=1.2,
        columnspacing=1.2,
        borderaxespad=0.1,
    )


def dress(axis: Axes, title: str) -> None:
    """Give a chart a light grid, two spines and quiet ticks."""
    axis.set_title(title, fontsize=TEXT, color=INK, loc="left", fontweight="bold", pad=4)
    axis.grid(color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(BEST)
    axis.tick_params(labelsize=SMALL, labelcolor=INK, color=BEST, length=3)


def show(axis: Axes, rgb: npt.NDArray[np.uint8], *, frame: bool = True, **settings: Any) -> None:
    """Show an image without ticks, in a thin frame."""
    axis.imshow(rgb, **settings)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(visible=frame, color=BEST, linewidth=0.5)


def at_most(rgb: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Shrink what is larger than can be seen."""
    factor = side / max(rgb.shape[:2])
    if factor >= 1:
        return rgb
    height, width = (max(round(length * factor), 1) for length in rgb.shape[:2])
    shrunk: npt.NDArray[np.uint8] = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    return shrunk


def percent(share: float) -> str:
    """Write a share in percent: never 0 where there is some, nor 100 where there isn't all.

    Examples:
        >>> [percent(share) for share in (0.275, 0.0331, 0.00004, 0, 1, 0.99999)]
        ['27.5 %', '3.3 %', '0.004 %', '0 %', '100 %', '>99.9 %']
    """
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    decimals = min(max(-math.floor(math.log10(100 * share)), 1), 6)
    return f"{100 * share:.{decimals}f} %"
