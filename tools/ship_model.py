"""Make a trained model one of those that `satmask models` lists, in files small enough to be part of the package.

    python tools/ship_model.py FOLDER --card docs/models/buildings.md --version 1 --summary "…" --licence "…" --gsd 0.07 0.6
    python tools/ship_model.py --card docs/models/buildings.md

Takes `buildings.float16.onnx` of the folder, which `satmask quantize --weights float16` wrote, and `buildings.keras`, whose kernels
it stores in 16 bits, too; writes both into `src/satmask/shipped` and the entry into `src/satmask/catalogue.json`. The model is called
as its card is, and the card is put into the model file; the second form puts a changed card into what is shipped already.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py

from satmask.catalogue import SHIPPED, card_text
from satmask.model_file import read_info, rewrite

LARGEST = 8_000_000  # bytes of each file: what a package index and a slow line take without a thought
FOLDER = SHIPPED.with_name("shipped")


def store_halves(source: Path, target: Path) -> None:
    """Write a `.keras` file with the kernels in 16 bits; statistics of normalisation and biases stay in 32.

    Keras widens them again while it loads.
    """
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for name in sorted(old.namelist()):
            content = old.read(name)
            # A fixed time makes the same bytes of the same weights.
            entry = zipfile.ZipInfo(name)
            new.writestr(entry, _halve(content) if name.endswith(".weights.h5") else content, zipfile.ZIP_DEFLATED)


def _halve(content: bytes) -> bytes:
    """Copy an HDF5 file with its arrays of two axes and more in float16."""
    copied = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as old, h5py.File(copied, "w") as new:

        def put(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values = item[()]
                made = new.create_dataset(name, data=values.astype("float16") if values.ndim > 1 else values)
            else:
                made = new.require_group(name)
            made.attrs.update(item.attrs)

        old.visititems(put)
        new.attrs.update(old.attrs)
    return copied.getvalue()


def part(path: Path) -> dict[str, Any]:
    """What the catalogue says of a file."""
    if path.stat().st_size > LARGEST:
        sys.exit(
            f"Shipped file must be at most {LARGEST / 1e6:g} MB, got {path.stat().st_size / 1e6:.2f} MB for {path}."
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": f"{FOLDER.name}/{path.name}", "sha256": digest, "size_bytes": path.stat().st_size}


def put_card(model: Path, card: Path) -> None:
    """Write the card into a model file."""
    info = read_info(model)
    training = info.training | {"card": card_text(card.read_text(encoding="utf-8"))}
    rewrite(model, info.model_copy(update={"training": training}))
    model.with_suffix(".stac.json").unlink(missing_ok=True)  # its links are those of whoever publishes it


def entry_of(options: argparse.Namespace, old: dict[str, Any]) -> dict[str, Any]:
    """The entry of the catalogue; what isn't said again stays as it was."""
    model, network = (FOLDER / f"{options.card.stem}{suffix}" for suffix in (".onnx", ".keras"))
    if options.folder:
        FOLDER.mkdir(exist_ok=True)
        shutil.copyfile(options.folder / f"{model.stem}.float16.onnx", model)
        store_halves(options.folder / network.name, network)
    put_card(model, options.card)
    said = {"version": options.version, "summary": options.summary, "gsd_m": options.gsd, "licence": options.licence}
    fresh = {"classes": list(read_info(model).legend.names), "model": part(model), "network": part(network)}
    return old | {"name": options.card.stem} | {key: value for key, value in said.items() if value} | fresh


def main() -> None:
    """Copy the files and write the entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--card", type=Path, required=True)
    for name in ("version", "summary", "licence"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--gsd", type=float, nargs=2, help="metres that it is meant for")
    options = parser.parse_args()
    models = json.loads(SHIPPED.read_text(encoding="utf-8"))["models"]
    old = next((other for other in models if other["name"] == options.card.stem), {})
    entry = entry_of(options, old)
    models = [*(other for other in models if other["name"] != entry["name"]), entry]
    SHIPPED.write_text(json.dumps({"models": models}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(entry, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
