"""The process of a prediction that the viewer starts: one order on stdin, progress as JSON lines on stdout.

It predicts as `satmask predict` does. When its stdin ends, it stops as it does on Ctrl-C: what is done is kept, and the same
order goes on from there. So it also stops when the viewer dies, however that happens.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any

NICE = 5
"""How much tiles that somebody waits for come before it."""
STOPPED = 130
"""Exit code when it was stopped, as a shell has it."""


def main() -> int:
    """Carry out the order; gives the exit code."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no progress
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(os, "nice"):
        os.nice(NICE)
    line = sys.stdin.readline()
    if not line:
        return STOPPED
    try:
        threading.Thread(target=_watch, daemon=True).start()
        _predict(json.loads(line), told)
    except KeyboardInterrupt:
        return STOPPED
    return 0


def _watch() -> None:
    """Interrupt the work once nobody waits for it."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdin.buffer.read()
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # wakes it if it waits
    else:
        _thread.interrupt_main()


def _predict(order: dict[str, Any], told: IO[str]) -> None:
    from satmask.engines import open_engine
    from satmask.errors import SatmaskError
    from satmask.fitting import doubts, open_for
    from satmask.prediction import predict_scene
    from satmask.scene_lists import megapixels, refuse_overwriting

    def tell(**what: Any) -> None:
        told.write(json.dumps(what) + "\n")
        told.flush()

    scene, out = Path(order["scene"]), Path(order["out"])
    try:
        refuse_overwriting([scene], out)
        engine = open_engine(order["model"], threads=order.get("threads"))
        with open_for(engine.info, scene) as opened:
            for doubt in doubts(engine.info, opened):
                tell(note=doubt)
        tell(total=megapixels(scene))
        found = predict_scene(
            engine,
            scene,
            out,
            restart=order.get("restart", False),
            progress=lambda done: tell(done=done),
            tell=lambda note: tell(note=note),
        )
        tell(classes=str(found.classes), objects=found.objects)
    except (SatmaskError, OSError) as error:
        tell(error=str(error))


if __name__ == "__main__":
    sys.exit(main())
