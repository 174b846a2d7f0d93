"""What somebody sent may not do unless the user says so: the environment variable `SATMASK_ALLOW` lists what may be."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias

Permission: TypeAlias = Literal["huge", "outside", "remote"]
VARIABLE = "SATMASK_ALLOW"


def allowed(what: Permission) -> bool:
    """Whether the user allows something that is refused by default.

    An environment variable, since it reaches threads, child processes and workers of a cluster alike, however deep the
    file is opened.

    Args:
        what: "huge", rasters that take much memory to decode; "outside", VRT files that name files outside of their
            folder; "remote", lists and VRT files that name addresses on the network.

    Examples:
        >>> allowed("huge")
        False
    """
    return what in os.environ.get(VARIABLE, "").replace(" ", "").split(",")


def allow(*what: Permission) -> None:
    """Allow something in this process, its threads and its children, as `SATMASK_ALLOW` does."""
    known = [part for part in os.environ.get(VARIABLE, "").split(",") if part]
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*known, *what]))
