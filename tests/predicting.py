"""A process that predicts a scene again and again, and kills itself in between: `python predicting.py`, JSON lines on stdin.

Each line is `{"model", "scene", "out", "settings", "kill_after_s", "phase"}`. The work is done in a fork, which is killed so
many seconds after its phase, "start" or "finish", has begun; without a time it runs to its end. One line comes back for
each: `{"killed", "seconds", "error"}`. Only the imports are shared, so that a kill costs no second of them.
"""

import json
import os
import select
import signal
import sys
import time

import satmask.prediction.store  # noqa: F401  # imported here, once
from satmask.engines import open_engine
from satmask.prediction import finishing, predict_scene


def child(order, began):
    """Predict, and tell when a phase begins."""
    finish = finishing.Drafts.finish

    def told(drafts):
        os.write(began, b"finish\n")
        return finish(drafts)

    finishing.Drafts.finish = told
    os.write(began, b"start\n")
    engine = open_engine(order["model"], threads=2)
    predict_scene(engine, order["scene"], order["out"], **order["settings"])


def run(order):
    """Fork, wait for the phase, kill or wait for the end."""
    reading, writing = os.pipe()
    problems, problem = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        code = 0
        try:
            child(order, writing)
        except BaseException as error:  # noqa: BLE001  # told to who asked
            os.write(problem, f"{type(error).__name__}: {error}".encode())
            code = 1
        os._exit(code)
    os.close(writing)
    os.close(problem)
    told, begun, killed = b"", {}, False
    while True:
        now = time.perf_counter()
        end = begun.get(order.get("phase", "start"), now) + order["kill_after_s"] if order.get("kill_after_s") else None
        left = None if end is None else max(end - now, 0)
        ready, _, _ = select.select([reading], [], [], 0.002 if left is None else min(left, 0.002))
        if ready:
            part = os.read(reading, 4096)
            for line in part.decode().split():
                begun[line] = time.perf_counter()
            told += part
            if not part:
                break
        elif end is not None and order.get("phase", "start") in begun and time.perf_counter() >= end:
            os.kill(pid, signal.SIGKILL)
            killed = True
            break
    finished = time.perf_counter()
    os.waitpid(pid, 0)
    error = os.read(problems, 1 << 16).decode()
    os.close(reading)
    os.close(problems)
    spent = {name: finished - at for name, at in begun.items()}
    return {"killed": killed, "seconds": spent, "error": error}


def main():
    """Answer line by line."""
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)  # noqa: T201  # its purpose


if __name__ == "__main__":
    main()
