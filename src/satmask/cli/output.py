"""What verbs print: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def say(text: str) -> None:
    """Print a line of results."""
    sys.stdout.write(f"{text}\n")


def say_json(content: Any) -> None:
    """Print results for machines; paths become text."""
    say(json.dumps(content, indent=2, ensure_ascii=False, default=str))


def complain(text: str) -> None:
    """Print a line for people, beside the results."""
    sys.stdout.flush()
    sys.stderr.write(f"satmask: {text}\n")
    sys.stderr.flush()


def complain_about(texts: Iterable[str], *, most: int = 5, what: str = "warning") -> None:
    """Print some lines of a kind, and how many more there are."""
    texts = list(texts)
    for text in texts[:most]:
        complain(f"{what}: {text}")
    if len(texts) > most:
        complain(f"{what}: {len(texts) - most:,} more like these.")


def say_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a head: a drawn table on a terminal, aligned text into a file."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*rows[0])
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows[1:]:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for head, *rest in rows:
        cells = [head.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        say("  ".join(cells).rstrip())


@contextmanager
def calm_tensorflow() -> Iterator[None]:
    """Keep TensorFlow from filling stderr while it is imported in a `with` block.

    Its C++ part writes to file descriptor 2 before any setting of its own takes hold. What came there is shown after
    all if the import fails.
    """
    import os
    import tempfile

    for name in ("TF_CPP_MIN_LOG_LEVEL", "ABSL_MIN_LOG_LEVEL", "GLOG_minloglevel"):
        os.environ.setdefault(name, "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
