"""What the benchmarks share: cases timed in turn, ratios of their medians, and the machine they ran on."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from satmask import timing as timer
from satmask.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Instruction sets that decide how fast a processor multiplies matrices, as Linux names them.
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "amx_bf16", "asimd", "sve")
PACKAGES = ("tensorflow", "keras", "onnxruntime", "openvino", "numpy", "rasterio")


@dataclass(frozen=True)
class Ratio:
    """What one case is measured by.

    Attributes:
        title: What is compared.
        value: The ratio of medians.
        aim: What it ought to be, in words such as "≤ 1.10"; empty where there is no aim.
    """

    title: str
    value: float
    aim: str = ""


def interleave(cases: Mapping[str, Callable[[], object]], rounds: int, *, warm: bool = True) -> dict[str, Timing]:
    """Time cases in turn as `satmask.timing` does, and tell each call on stderr."""
    return timer.interleave(cases, rounds, warm=warm, tell=_tell)


def show(timings: Mapping[str, Timing], *, amount: float, unit: str) -> None:
    """Print a table of rates: smallest, median and largest over the rounds.

    Args:
        timings: What `interleave` gave.
        amount: How much of the unit a case does each time.
        unit: What is done, such as "images".
    """
    width = max(map(len, timings))
    print(f"{'':{width}}  {'min':>10} {'median':>10} {'max':>10}  {unit}/s, {_rounds(timings)}")
    for name, timing in timings.items():
        rates = (amount / max(timing.seconds), amount / timing.median, amount / min(timing.seconds))
        print(f"{name:{width}}  " + " ".join(f"{rate:10.3g}" for rate in rates))


def compare(ratios: Sequence[Ratio]) -> None:
    """Print ratios with their aims."""
    width = max(len(ratio.title) for ratio in ratios)
    for ratio in ratios:
        aim = f"  (aim {ratio.aim})" if ratio.aim else ""
        print(f"{ratio.title:{width}}  {ratio.value:.3f} ×{aim}")


def machine() -> str:
    """Describe in one line what the numbers were measured on."""
    versions = [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    flags = _cpu_flags()
    found = [flag for flag in FLAGS if flag in flags] or [platform.machine()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return f"{cores} cores ({' '.join(found)}), {load} at the start, Python {platform.python_version()}, " + ", ".join(
        versions
    )


def begin(title: str) -> None:
    """Print what is measured, and on what."""
    print(f"{title}\n{machine()}")


def arguments(description: str | None, *, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser of a benchmark's command line, which shows the module's words as they stand.

    Args:
        description: The module's `__doc__`.
        rounds: How often each case is timed unless `--rounds` says otherwise; None where nothing is timed in rounds.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="how often each case is timed, in turn")
    return parser


def widths(text: str) -> tuple[int, ...]:
    """Read `32,64,128` as filters, for argparse."""
    return tuple(int(part) for part in text.split(","))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _rounds(timings: Mapping[str, Timing]) -> str:
    count = len(next(iter(timings.values())).seconds)
    return f"{count} round{'s' * (count != 1)} in turn"


def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _cpu_flags() -> frozenset[str]:
    """Flags of the first processor; none where the system doesn't tell."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    return frozenset(flags.partition(":")[2].split())
