"""Progress to the terminal's error stream, so that results can be piped."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Advance(Protocol):
    """Tell a progress bar that something was done."""

    def __call__(self, amount: float = 1, text: str | None = None) -> None:
        """Move on by an amount, and say something in place of the last text."""


@contextmanager
def track(what: str, total: float, *, unit: str = "", quiet: bool = False) -> Iterator[Advance]:
    """Show a progress bar with speed and time left while a `with` block runs.

    Args:
        what: What is being done.
        total: How much there is to do.
        unit: Unit of the total, such as "MP"; the speed is told in it.
        quiet: Show nothing.

    Yields:
        A function to call with what was done.
    """
    if quiet:
        yield lambda *_, **__: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # Results printed meanwhile go over the bar on a terminal; into a file they go as they are.
    redirect = sys.stdout.isatty()
    shown = console.is_terminal
    with Progress(*columns, console=console, refresh_per_second=4, disable=not shown, redirect_stdout=redirect) as bar:
        task = bar.add_task(what, total=total, text="", speed="")

        def advance(amount: float = 1, text: str | None = None) -> None:
            speed = bar.tasks[0].speed
            told = f"{speed:.2f} {unit}/s" if speed and unit else ""
            if text is None:
                bar.update(task, advance=amount, speed=told)
            else:
                bar.update(task, advance=amount, speed=told, text=text)

        yield advance
    if not console.is_terminal:
        console.print(f"{what}: {bar.tasks[0].fields['text'] or 'done'}", highlight=False)


@contextmanager
def track_steps(
    steps: Mapping[str, float], *, unit: str = "", quiet: bool = False
) -> Iterator[Callable[[str, float], None]]:
    """Show one progress bar after another while a `with` block goes through steps.

    Args:
        steps: How much there is to do in each step, in order.
        unit: Unit of it.
        quiet: Show nothing.

    Yields:
        A function to call with the step and what was done in it; a new step ends the one before.
    """
    with ExitStack() as shown:
        advance: dict[str, Advance] = {}

        def move(step: str, amount: float) -> None:
            if step not in advance:
                shown.pop_all().close()
                advance.clear()
                advance[step] = shown.enter_context(track(step, steps[step], unit=unit, quiet=quiet))
            advance[step](amount)

        yield move
