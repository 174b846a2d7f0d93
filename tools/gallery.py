"""Draw the pictures of docs/pictures.md with the code that the page shows.

python tools/gallery.py [--buildings FOLDER] [--out docs/pictures]
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import tempfile
from pathlib import Path

import matplotlib as mpl

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "pictures.md"
BLOCK = re.compile(r"^(?P<before>[^\n]*)\n```python\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--buildings", type=Path, help="a data set of building tiles, for the contact sheet")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    given = parser.parse_args()
    mpl.rcParams["svg.hashsalt"] = "satmask"  # else the names inside an SVG differ each time
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if given.buildings:
            (Path(folder) / "buildings").symlink_to(given.buildings.resolve())
        with contextlib.chdir(folder):
            draw(everything=bool(given.buildings))
        for path in sorted(Path(folder).glob("*.*")):
            shutil.copyfile(path, out / path.name)
            print(f"{path.stat().st_size / 1000:7,.0f} kB  {path.name}")


def draw(*, everything: bool) -> None:
    """Run the blocks of the page, one after the other; those marked as not run need the building tiles."""
    names = {"__name__": "__main__"}
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        if everything or "not run" not in block["before"]:
            exec(compile(block["code"], str(PAGE), "exec"), names)  # noqa: S102  # our own page


if __name__ == "__main__":
    main()
