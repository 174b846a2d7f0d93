"""Scratch folders: those of runs that were killed go, those in use stay."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest

from satmask.prediction import scratch
from satmask.prediction.scratch import Scratch, sweep

HOLD = "import time; from satmask.prediction.scratch import Scratch; made = Scratch(); print(made.path, flush=True); time.sleep(60)"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "YOUNG_S", -1.0)
    return tmp_path


def test_a_killed_run_is_tidied_up_after_by_the_next(folder):
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(folder)}) as run:
        left = scratch.Path(run.stdout.readline().strip())
        (left / "drafts").mkdir()
        sweep()
        assert (left / "drafts").exists(), "it is in use"
        run.send_signal(signal.SIGKILL)
        run.wait()
    mine = Scratch()
    assert list(folder.iterdir()) == [mine.path]
    mine.close()
    assert list(folder.iterdir()) == []


def test_what_no_run_has_locked_is_left(folder):
    (folder / f"{scratch.PREFIX}other").mkdir()
    (folder / f"{scratch.PREFIX}link").symlink_to(folder)
    sweep()
    assert len(list(folder.iterdir())) == 2


def test_young_folders_may_be_about_to_be_locked(folder, monkeypatch):
    monkeypatch.setattr(scratch, "YOUNG_S", 60.0)
    (young := folder / f"{scratch.PREFIX}young").mkdir()
    (young / "lock").touch()
    sweep()
    assert young.exists()
    monkeypatch.setattr(scratch, "YOUNG_S", -1.0)
    sweep()
    assert not young.exists()
