"""Planning: what a prediction will take, before it begins: windows, time, memory and disk; and windows that fit a memory.

Nothing is guessed from the network's layers. As many windows as will be run at a time are run, small ones and then larger
ones, on the scene itself, and the highest memory of the process is read from the system. What grows with the window's
area follows from the two; what doesn't is what the process takes anyway. To this come pieces that wait to be written, by
their size, and what reading, writing and tracing take, whose bound doesn't depend on the scene.
"""

from __future__ import annotations

import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from satmask.errors import SettingError
from satmask.fitting import PLAIN, Reading
from satmask.prediction.tiling import (
    MOST_HALOS,
    Tiling,
    choose_window,
    frame,
    largest_window,
    lay_out,
    least_window,
    work_px,
)
from satmask.prediction.walking import Seeing, run_step
from satmask.windows import round_up

if TYPE_CHECKING:
    from satmask.engines import Engine
    from satmask.scene import Imagery
    from satmask.scene_lists import SceneSource
    from satmask.windows import Size

# Sides of the windows that memory is measured with, in pixels; more where the halo asks for it.
TRIED = (256, 512)
# What reading, drafts, deciding, compression, tracing and their libraries take beyond the windows: `benchmarks/scene_memory.py
# --sizes 4000 10000` measures 290 and 415 to 485 MB.
FINISHING_BYTES = 480 << 20
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True)
class Footprint:
    """What running a network takes, as measured.

    Attributes:
        base_bytes: Memory of the process, whatever the windows.
        bytes_per_px: What a pixel of a window adds, of one window.
        seconds_per_px: Time for a pixel of a window, of one window, where as many are run at a time.
        at_once: Windows that were run at a time.
    """

    base_bytes: float
    bytes_per_px: float
    seconds_per_px: float
    at_once: int

    def memory(self, side_px: float, waiting_bytes: float, at_once: int) -> int:
        """Bytes that a prediction takes at most.

        Args:
            side_px: Pixels of a window.
            waiting_bytes: Size of what is kept of a window.
            at_once: Windows run at a time.
        """
        waiting = (at_once + 2) * 2 * waiting_bytes
        return round(self.base_bytes + at_once * self.bytes_per_px * side_px + waiting + FINISHING_BYTES)


@dataclass(frozen=True)
class Room:
    """What fits a memory.

    Attributes:
        largest: Side of the largest square that the network sees, in its pixels; other windows have no more.
        at_once: Windows that are run at a time.
        memory_bytes: What that takes.
    """

    largest: int
    at_once: int
    memory_bytes: int


@dataclass(frozen=True)
class Plan:
    """What predicting a scene takes.

    Attributes:
        scene: Its name.
        shape: `(height, width)` of the scene, in pixels.
        windows: How many; those without a valid pixel are counted, too, and won't be run.
        window: `(height, width)` of what the network sees at a time.
        computed_per_kept: Pixels that the network computes for each pixel of the scene.
        at_once: Windows run at a time.
        megapixels: Size of the scene.
        network_seconds: Time of the network alone.
        memory_bytes: Memory at most.
        work_bytes: Disk that is taken beside the outputs while they are made, at most; freed at the end.
        output_bytes: Size of the outputs at most, without polygons.
        blended: Whether windows overlap and are blended, because the network isn't local.
        upsampling: How many pixels the network sees for each of the scene's along a side.
    """

    scene: str
    shape: tuple[int, int]
    windows: int
    window: tuple[int, int]
    computed_per_kept: float
    at_once: int
    megapixels: float
    network_seconds: float
    memory_bytes: int
    work_bytes: int
    output_bytes: int
    blended: bool
    upsampling: int


def plan_scene(
    engine: Engine,
    image: str | SceneSource,
    *,
    reading: Reading = PLAIN,
    size: Size | None = None,
    seeing: Seeing | None = None,
    probabilities: bool = True,
    uncertainty: bool = False,
    memory_bytes: int | None = None,
) -> Plan:
    """Say what predicting a scene takes; nothing is written.

    Args:
        engine: The network.
        image: What the scene is opened from.
        reading: How the scene is read for the model.
        size: Sides of a window at most, in pixels.
        seeing: How the network sees the scene.
        probabilities: Whether they are kept.
        uncertainty: Whether that is written, too.
        memory_bytes: Memory to stay below; it chooses the windows where `size` doesn't.

    Returns:
        The plan, from windows of the scene that were run.

    Raises:
        SettingError: If no window fits the memory.
    """
    seeing = seeing or Seeing()
    with reading.opened(engine, image) as (fitted, scene):
        info = fitted.info
        print_ = measure(fitted, scene, seeing)
        room = _room(fitted, scene, print_, memory_bytes) if memory_bytes else None
        at_once, largest = (room.at_once, room.largest) if room else (fitted.workers, None)
        size = size or choose_window(info, scene.shape, workers=at_once, largest=largest)
        tiling = lay_out(info, scene.shape, size=size)
        seconds = time_window(fitted, scene, tiling, seeing, at_once=min(at_once, len(tiling)))
    pixels, classes = scene.shape[0] * scene.shape[1], len(info.legend)
    masks = 0 if info.legend.exclusive or classes == 1 else classes
    draft = pixels * (4 * classes + 4 * uncertainty + info.legend.dtype.itemsize + masks)
    kept = pixels * (4 * classes * probabilities + 4 * uncertainty + info.legend.dtype.itemsize)
    stored = _stored(tiling, classes) if len(tiling) > 1 else 0
    return Plan(
        scene=scene.name,
        shape=scene.shape,
        windows=len(tiling),
        window=tiling.side,
        computed_per_kept=round(tiling.cost, 3),
        at_once=at_once,
        megapixels=pixels / 1e6,
        network_seconds=-(-len(tiling) // at_once) * seconds,
        memory_bytes=print_.memory(tiling.side[0] * tiling.side[1], _waiting(tiling, classes), at_once),
        work_bytes=round(draft * 4 / 3 + stored + kept * 4 / 3),  # a third for overviews
        output_bytes=round(kept * 4 / 3),
        blended=tiling.blended,
        upsampling=info.upsampling,
    )


def find_room(
    engine: Engine,
    image: str | SceneSource,
    memory_bytes: int,
    *,
    reading: Reading = PLAIN,
    seeing: Seeing,
) -> Room:
    """Choose the largest windows, and how many at a time, that fit a memory.

    Args:
        engine: The network.
        image: A scene like those that will be predicted.
        memory_bytes: Memory of the process to stay below.
        reading: How the scene is read for the model.
        seeing: How the network sees the scene.

    Returns:
        Windows for `satmask.prediction.predict_scene`.

    Raises:
        SettingError: If not even one smallest window fits.
    """
    with reading.opened(engine, image) as (fitted, scene):
        return _room(fitted, scene, measure(fitted, scene, seeing), memory_bytes)


def measure(engine: Engine, scene: Imagery, seeing: Seeing) -> Footprint:
    """Run windows of two sizes, as many at a time as the engine gains by, and read what they take."""
    info, at_once = engine.info, engine.workers
    least = least_window(info)
    taken: list[tuple[int, int]] = []
    seconds = 0.0
    for wanted in TRIED:
        size = max(round_up(wanted, info.stride), least + (wanted - TRIED[0]) // info.stride * info.stride)
        tiling = lay_out(info, scene.shape, size=min(size, round_up(max(frame(scene.shape, info)), info.stride)))
        pixels = tiling.side[0] * tiling.side[1]
        _forget_peak()
        seconds = time_window(engine, scene, tiling, seeing, at_once=at_once) / pixels
        taken.append((pixels, _peak_bytes()))
    (few, low), (many, high) = taken
    # A scene that is smaller than both tells no slope; then all that was added counts as such.
    slope = (high - low) / (many - few) / at_once if many > few else high / many / at_once
    slope = max(slope, _least_bytes(engine))
    return Footprint(max(low - slope * few * at_once, 0), slope, seconds, at_once)


def time_window(engine: Engine, scene: Imagery, tiling: Tiling, seeing: Seeing, *, at_once: int) -> float:
    """Time one round of windows from the middle of the scene, in seconds; what has to be set up once is set up before."""
    step = tiling.steps[len(tiling) // 2]
    with ThreadPoolExecutor(at_once) as pool:
        took = 0.0
        for _ in range(2):
            begun = time.perf_counter()
            for future in [pool.submit(run_step, engine, scene, step, tiling, seeing) for _ in range(at_once)]:
                future.result()
            took = time.perf_counter() - begun
    return took


def parse_bytes(text: str) -> int:
    """Read a size such as `2GB`, `1.5GiB` or `800MB`.

    Raises:
        SettingError: If it is none.

    Examples:
        >>> parse_bytes("2GB"), parse_bytes("1.5 GiB")
        (2000000000, 1610612736)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    if not found or found[2] == "i" or not float(found[1]):
        msg = f"Memory must be a size such as 2GB or 800MiB, got {text!r}."
        raise SettingError(msg)
    return round(float(found[1]) * _UNITS[found[2]])


def _room(engine: Engine, scene: Imagery, footprint: Footprint, memory_bytes: int) -> Room:
    """What fits and is done soonest: many windows at a time, or fewer that are larger and repeat less."""
    info = engine.info
    classes, least = len(info.legend), least_window(info)
    most = max(largest_window(info, halos=MOST_HALOS if info.local else 0), least)
    found = []
    for at_once in range(footprint.at_once, 0, -1):
        for side in range(most - most % info.stride, least - 1, -info.stride):
            taken = footprint.memory(side**2, 4 * classes * side**2, at_once)
            if taken <= memory_bytes:
                largest = side * info.upsampling
                size = choose_window(info, scene.shape, workers=at_once, largest=largest)
                found.append((work_px(info, scene.shape, size, workers=at_once), Room(largest, at_once, taken)))
                break
    if found:
        return min(found, key=lambda pair: pair[0])[1]
    needed = footprint.memory(least**2, 4 * classes * least**2, 1)
    msg = (
        f"Memory must hold a window of {least} pixels, got {memory_bytes / 1e6:,.0f} MB for {scene.name}. "
        f"Give {-(-needed // 10**6):,} MB or more."
    )
    raise SettingError(msg)


def _least_bytes(engine: Engine) -> float:
    """What a pixel takes however small the network: values as read and as floats, and what is said, each twice."""
    return 10.0 * len(engine.info.bands) + 8.0 * len(engine.info.legend)


def _waiting(tiling: Tiling, classes: int) -> int:
    height, width = tiling.largest_core
    return 4 * classes * height * width


def _stored(tiling: Tiling, classes: int) -> int:
    return len(tiling) * _waiting(tiling, classes)


def _forget_peak() -> None:
    """Let the system count the process's highest memory from now on, where it can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_bytes() -> int:
    """Highest memory of the process: since `_forget_peak` on Linux, since its beginning elsewhere."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) << 10
    if sys.platform == "win32":
        msg = "Memory must be measured where the system tells it, got Windows. Use --window."
        raise SettingError(msg)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1 << 10)
