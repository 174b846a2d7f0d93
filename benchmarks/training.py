"""Training straight from files, against one batch that lies in memory; and against the same U-Net in PyTorch.

Example: `python benchmarks/training.py --data DIR --rounds 5 --steps 6`

What TensorFlow's kernels from oneDNN bring is seen by a second run, with `TF_ENABLE_ONEDNN_OPTS=0` before the command.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from materials import FULL, open_data
from measure import Ratio, arguments, begin, compare, interleave, show, widths

if TYPE_CHECKING:
    from satmask.batches import Batch
    from satmask.training import Job


def make_job(options: argparse.Namespace, folder: Path) -> Job:
    """Set up a training run as `satmask train` does, up to its first step."""
    from satmask.recipe import Recipe
    from satmask.run import Run
    from satmask.survey import survey
    from satmask.training import Job

    recipe = Recipe.model_validate({
        "network": {"name": "unet", "filters": options.filters},
        "window": options.window,
        "batch": options.batch,
        "windows_per_epoch": options.steps * options.batch,
    })  # fmt: skip
    data, split = open_data(options.data, folder).with_validation(recipe.validation)
    seen = survey(data.splits["train"], bands=recipe.bands)
    held = survey(data.splits["val"], bands=seen.indexes)
    return Job(Run(folder / "run"), recipe, data, surveys=(seen, held), split=split, quiet=True)


def keras_cases(job: Job, batch: Batch, steps: int) -> dict[str, Callable[[], object]]:
    """Both ways through the same compiled step; starting and stopping `fit` counts for both."""
    import keras

    class Resident(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types
        """One batch, over and over."""

        def __len__(self) -> int:
            return steps

        def __getitem__(self, step: int) -> Batch:
            return batch

    epochs = iter(range(1_000_000))

    def fit(batches: Any) -> None:
        job.network.fit(batches, epochs=1, shuffle=False, verbose=0)

    return {
        "satmask, from files": lambda: fit(job.batches(next(epochs))),
        "one resident batch": lambda: fit(Resident()),
    }


def torch_case(batch: Batch, filters: tuple[int, ...], steps: int) -> Callable[[], object]:
    """One resident batch through the same U-Net in PyTorch, channels last, with the same loss and optimiser."""
    import torch

    from torch_unet import UNet, bce_dice

    images, truth, weight = (torch.from_numpy(np.asarray(part, np.float32)) for part in batch)
    images = (images / 255).movedim(-1, 1).contiguous(memory_format=torch.channels_last)
    truth, weight = truth.movedim(-1, 1), weight[:, None]
    network = UNet(images.shape[1], truth.shape[1], filters).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)

    def train() -> None:
        network.train()
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            bce_dice(network(images), truth, weight).backward()
            optimiser.step()

    return train


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--data", type=Path, help="data set in any layout; by default synthetic tiles made on the fly")
    parser.add_argument("--filters", type=widths, default=FULL, help="of the U-Net; 32,64,128,256,512")
    parser.add_argument("--window", type=int, default=256, help="side of a window, in pixels")
    parser.add_argument("--batch", type=int, default=8, help="windows a step")
    parser.add_argument("--steps", type=int, default=6, help="steps a round")
    parser.add_argument("--against", choices=["torch"], help="also measure this peer")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    begin(f"Training: U-Net {options.filters}, {options.window}² pixels, batches of {options.batch}")
    print(f"TF_ENABLE_ONEDNN_OPTS={os.environ.get('TF_ENABLE_ONEDNN_OPTS', '')}")
    with tempfile.TemporaryDirectory(prefix="satmask-benchmark-") as name:
        job = make_job(options, Path(name))
        batch = job.batches(0)[0]
        cases = keras_cases(job, batch, options.steps)
        if options.against == "torch" and importlib.util.find_spec("torch") is None:
            print("PyTorch isn't installed: that peer is left out. Run `pip install torch`.")
        elif options.against == "torch":
            cases["PyTorch, channels last, one resident batch"] = torch_case(batch, options.filters, options.steps)
        timings = interleave(cases, options.rounds)
    show(timings, amount=options.steps * options.batch, unit="images")
    files, resident, *peers = (timing.median for timing in timings.values())
    ratios = [Ratio("from files / one resident batch, images/s", resident / files, "≥ 0.95")]
    ratios += [Ratio("satmask from files / PyTorch resident, images/s", peer / files) for peer in peers]
    compare(ratios)


if __name__ == "__main__":
    main()
