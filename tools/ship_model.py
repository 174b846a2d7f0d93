"""Make a trained model one of those that `satmask models` lists, in files small enough to be part of the package.

    python tools/ship_model.py RUN --name buildings --version 1 --summary "…" --licence "…" [--gsd 0.07 0.6]

Takes `model.float16.onnx` of the run, which `satmask quantize RUN --weights float16` writes, and `model.keras`, whose kernels it
stores in 16 bits, too; writes both into `src/satmask/shipped` and the entry into `src/satmask/catalogue.json`.
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

from satmask.catalogue import SHIPPED
from satmask.model_file import read_info

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


def main() -> None:
    """Copy the files and write the entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    for name in ("name", "version", "summary", "licence"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--gsd", type=float, nargs=2, required=True, help="metres that it is meant for")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    model, network = (FOLDER / f"{options.name}{suffix}" for suffix in (".onnx", ".keras"))
    shutil.copyfile(options.run / "model.float16.onnx", model)
    store_halves(options.run / "model.keras", network)
    entry = {
        **{name: getattr(options, name) for name in ("name", "version", "summary")},
        "classes": list(read_info(model).legend.names),
        "gsd_m": options.gsd,
        "licence": options.licence,
        "model": part(model),
        "network": part(network),
    }
    content = json.loads(SHIPPED.read_text(encoding="utf-8"))
    others = [other for other in content["models"] if other["name"] != options.name]
    SHIPPED.write_text(json.dumps({"models": [*others, entry]}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(entry, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
