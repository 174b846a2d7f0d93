"""Following: work on a scene's rows while they become complete, in a thread of its own.

Which rows it reads at a time doesn't depend on when they came, so neither does what comes of them.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class Known:
    """Rows of a scene that are complete, from the top; who needs more waits.

    Examples:
        >>> known = Known()
        >>> known.tell(3)
        >>> known.wait(2)
    """

    def __init__(self) -> None:
        self._rows, self._ended, self._changed = 0, False, threading.Condition()

    def tell(self, rows: int) -> None:
        """So many rows are complete."""
        with self._changed:
            self._rows = rows
            self._changed.notify_all()

    def end(self) -> None:
        """No more will come: whoever waits for more gives up."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, rows: int) -> None:
        """Wait until so many rows are complete.

        Raises:
            GivenUpError: If they never will be.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._rows >= rows)
            if self._rows < rows:
                raise GivenUpError


class GivenUpError(Exception):
    """What was to be followed doesn't come any more; whoever ended it says why."""


class Follower(Generic[Result]):
    """Work in a thread of its own that waits for rows; leaving the `with` block ends it.

    Args:
        work: Is given what is known, and waits for what it needs.
        name: What the thread is called after.

    Examples:
        >>> def last(known):
        ...     known.wait(3)
        ...     return "all there"
        >>> with Follower(last, "example") as follower:
        ...     follower.tell(3)
        ...     follower.finish()
        'all there'
    """

    def __init__(self, work: Callable[[Known], Result], name: str) -> None:
        self._known, self._pool = Known(), ThreadPoolExecutor(1, thread_name_prefix=f"satmask-{name}")
        self._done = self._pool.submit(work, self._known)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._known.end()
        self._pool.shutdown()

    def tell(self, rows: int) -> None:
        """So many rows are complete. Raises what the work has failed with."""
        self._known.tell(rows)
        if self._done.done():
            self._done.result()

    def finish(self) -> Result:
        """Wait for the rest of the work, and give what came of it."""
        return self._done.result()
