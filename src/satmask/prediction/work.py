"""Work: a scene, a network and a store that are open; windows are done by number, and recalled from the store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from satmask.prediction.blending import blend, overlapping
from satmask.prediction.store import DamagedError
from satmask.prediction.tiling import Step, Tiling
from satmask.prediction.walking import Seeing, ahead, run_step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from satmask.buckets import Bucket
    from satmask.engines import Engine
    from satmask.fitting import Reading
    from satmask.prediction.pieces import Piece
    from satmask.prediction.store import WindowStore
    from satmask.scene import Imagery
    from satmask.scene_lists import SceneSource


@dataclass(frozen=True)
class Job:
    """The windows of one scene: paths and settings, nothing open, so that it can be sent to another process.

    Attributes:
        model: The file that `satmask.engines.open_engine` opens.
        engine: Which engine runs it.
        image: What the scene is opened from.
        reading: How the scene is read for the model.
        size: `(height, width)` of a window at most, in pixels.
        seeing: How the network sees the scene.
        folder: Where the store is.
    """

    model: Path
    engine: str
    image: SceneSource
    reading: Reading
    size: tuple[int, int]
    seeing: Seeing
    folder: Path | Bucket


# Has windows done elsewhere: takes a job and numbers of windows, and gives each number when it is done, in any order.
Spread: TypeAlias = "Callable[[Job, Sequence[int]], Iterator[int]]"


class Work:
    """A job that is open: the network, the scene and the store.

    Args:
        engine: The network.
        scene: The scene, opened by `open_for`.
        tiling: The windows.
        seeing: How the network sees the scene.
        store: Where what is known is kept; None where nothing is.
        tell: Called with notes.
    """

    def __init__(
        self,
        engine: Engine,
        scene: Imagery,
        tiling: Tiling,
        *,
        seeing: Seeing,
        store: WindowStore | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.engine, self.scene, self.tiling, self.seeing = engine, scene, tiling, seeing
        self.store, self._tell = store, tell

    def do(self, number: int) -> Piece:
        """Run the network on a window and store what it says, whatever was there."""
        step = self.tiling.steps[number]
        piece = run_step(self.engine, self.scene, step, self.tiling, self.seeing)
        if self.store is not None:
            self.store.save(step, piece)
        return piece

    def recall(self, step: Step) -> Piece:
        """What the network says about a window: as stored; where that isn't there or is damaged, it is done."""
        try:
            known = self.store.load(step) if self.store is not None else None
        except DamagedError as error:
            core = step.tile.core
            self._tell(
                f"window {step.number + 1} of {len(self.tiling)} of {self.scene.name} (row {core.row}, column "
                f"{core.column}) was damaged on disk ({error}) and is done again."
            )
            known = None
        return known or self.do(step.number)

    def pieces(self, done_elsewhere: Iterator[int] | None = None, *, at_once: int | None = None) -> Iterator[Piece]:
        """Everything that the network says about the scene, in row order; what isn't known yet is found out on the way.

        Args:
            done_elsewhere: Gives numbers of windows as others have done them, in any order; each is waited for until this
                has given it or has ended.
            at_once: Windows run at a time; as many as the engine gains by, by default.

        Yields:
            Pieces whose cores cover the scene exactly once.
        """
        steps = self.tiling.steps if done_elsewhere is None else _awaited(self.tiling.steps, done_elsewhere)
        found = ahead(self.recall, steps, workers=at_once or self.engine.workers)
        if not self.tiling.blended:
            yield from found
            return
        recent = _Recent(self)
        for step, piece in zip(self.tiling.steps, found, strict=True):
            recent.add(step.number, piece)
            yield blend(self.tiling, step.number, recent.all_of(overlapping(self.tiling, step.number)))


def _awaited(steps: Sequence[Step], done: Iterator[int]) -> Iterator[Step]:
    """Give each window when it is done, or when nobody does any more."""
    known: set[int] = set()
    for step in steps:
        while step.number not in known and (number := next(done, None)) is not None:
            known.add(number)
        yield step


class _Recent(Mapping[int, "Piece"]):
    """Pieces looked at last; others are read from the store again, so that memory doesn't grow with a row of windows."""

    def __init__(self, work: Work) -> None:
        self._work = work
        # Without a store there is nothing to read again: two rows of windows are held.
        self._most = 6 if work.store is not None else 2 * work.tiling.columns + 2
        self._held: OrderedDict[int, Piece] = OrderedDict()

    def add(self, number: int, piece: Piece) -> None:
        self._held[number] = piece
        self._held.move_to_end(number)
        while len(self._held) > self._most:
            self._held.popitem(last=False)

    def all_of(self, numbers: Iterable[int]) -> dict[int, Piece]:
        return {number: self[number] for number in numbers}

    def __getitem__(self, number: int) -> Piece:
        if number not in self._held:
            self.add(number, self._work.recall(self._work.tiling.steps[number]))
        return self._held[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)
