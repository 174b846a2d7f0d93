"""Fine-tuning against training from scratch: a network of one synthetic town, on few windows of another.

Example: `python benchmarks/finetuning.py --epochs 2`
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from measure import arguments, begin

if TYPE_CHECKING:
    from satmask.run import Run

NETWORK = "network.filters=[8, 16, 24]"
SETTINGS = ("window=96", "batch=16", "windows_per_epoch=128", "augment.brightness=0.1", "augment.contrast=0.1")


def train(tiles: Path, out: Path, *settings: str) -> Run:
    """Train on tiles of a town."""
    from satmask.datasets import read_dataset
    from satmask.recipe import Recipe
    from satmask.training import train as run_training

    return run_training(read_dataset(tiles), out, Recipe.load(settings=[*SETTINGS, *settings]), quiet=True)


def main() -> None:
    """Train and print the best validation IoU and the lowest validation loss of each way."""
    parser = arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=2, help="on the new town")
    parser.add_argument("--before", type=int, default=10, help="epochs on the first one")
    options = parser.parse_args()
    begin(f"Fine-tuning: {options.epochs} epochs of 128 windows on another town")
    from satmask.datasets.town import write_tiles

    with tempfile.TemporaryDirectory(prefix="satmask-benchmark-") as name:
        folder = Path(name)
        first = write_tiles(folder / "first", count=40, size=160, seed=1)
        other = write_tiles(folder / "other", count=24, size=160, seed=2)
        start = train(first, folder / "start", NETWORK, f"epochs={options.before}", "learning_rate=4e-3").folder
        ways = {
            "from scratch, learning rate 0.001": (NETWORK,),
            "from scratch, learning rate 0.004": (NETWORK, "learning_rate=4e-3"),
            "--start, learning rate 0.0003": (f"start={start}",),
            "--start, learning rate 0.004": (f"start={start}", "learning_rate=4e-3"),
        }
        for number, (way, settings) in enumerate(ways.items()):
            history = train(other, folder / str(number), *settings, f"epochs={options.epochs}").history
            iou, loss = max(row["val_iou"] for row in history), min(row["val_loss"] for row in history)
            print(f"{way:36} IoU {iou:.3f}  loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
