"""How long a command's help may take on this machine: by the processor, and by what its parts take to load."""

import functools
import os
import subprocess
import sys


def used_s(command):
    """Seconds of processor that a command takes, and what became of it; a busy machine changes them little."""
    before = os.times()
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spent, result


@functools.cache
def most_s():
    """0.4 s, or on slow processors what loading the library of commands alone takes, six times: it was three to four."""
    return max(0.4, 6 * used_s([sys.executable, "-c", "import typer"])[0])
